/**
 * Owns how messages are signed and checked: Standard Webhooks (standardwebhooks.com, symmetric `v1`), and what GitHub sends.
 *
 * Signatures are compared in constant time. Pure: time comes in.
 */
import { createHmac, timingSafeEqual } from "node:crypto"

/** Bytes of a secret that is made here. */
export const secretBytes = 32

/** How far the clock of a sender may be off, and how old a message may be, in seconds. */
export const toleranceSeconds = 300

const secretPrefix = "whsec_"

export const secretText = (secret: Uint8Array): string => secretPrefix + Buffer.from(secret).toString("base64")

/** The key within `whsec_<base64>`: 24 to 64 bytes; undefined when the text is no such thing. */
export const parseSecret = (text: string): Buffer | undefined => {
  const encoded = /^whsec_(?<encoded>[A-Za-z0-9+/]+={0,2})$/u.exec(text)?.groups?.["encoded"]
  const bytes = encoded === undefined ? undefined : Buffer.from(encoded, "base64")
  return bytes !== undefined && bytes.length >= 24 && bytes.length <= 64 ? bytes : undefined
}

interface Message {
  /** `webhook-id`. */
  readonly id: string
  /** `webhook-timestamp`: seconds since 1970. */
  readonly timestamp: string
  readonly body: string | Uint8Array
}

/** Value of `webhook-signature`: one signature per secret, newest first. */
export const signatures = (secrets: ReadonlyArray<Uint8Array>, message: Message): string =>
  secrets.map((secret) => `v1,${digestOf(secret, message).toString("base64")}`).join(" ")

/** Whether one of the signatures in the header is right and the message is recent. */
export const isSigned = (secret: Uint8Array, message: Message, signature: string, nowSeconds: number): boolean => {
  const expected = digestOf(secret, message)
  const isRight = signature
    .split(" ")
    .slice(0, signaturesMax)
    .map((entry) => (entry.startsWith("v1,") ? isSame(expected, Buffer.from(entry.slice(3), "base64")) : false))
    .includes(true)
  const isRecent =
    /^\d{1,12}$/u.test(message.timestamp) && Math.abs(nowSeconds - Number(message.timestamp)) <= toleranceSeconds
  return isRight && isRecent
}

/** Signatures of one header that are looked at. */
const signaturesMax = 8

/** Whether `X-Hub-Signature-256` is that of the body. */
export const isSignedLikeGitHub = (secret: Uint8Array, body: Uint8Array, signature: string): boolean => {
  const hex = /^sha256=(?<hex>[0-9a-f]{64})$/u.exec(signature)?.groups?.["hex"]
  return isSame(createHmac("sha256", secret).update(body).digest(), Buffer.from(hex ?? "", "hex"))
}

/** Compares digests in a time that does not tell where they differ. */
export const isSame = (expected: Uint8Array, given: Uint8Array): boolean =>
  expected.length === given.length && timingSafeEqual(expected, given)

const digestOf = (secret: Uint8Array, { body, id, timestamp }: Message): Buffer =>
  createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest()
