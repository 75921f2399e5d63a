/**
 * Owns the text of an API key, 70 characters:
 *
 *   dma_ <id: 16 of a-z and 2-7> _ <secret: 43 of base64url> <check: 6 of 0-9, A-Z, a-z>
 *
 * The id is 80 random bits in base32 and names the key. The secret is 256 random bits; Postgres keeps the SHA-256 of its
 * 43 characters and nothing else. The check is the CRC-32 (IEEE) of all characters before it, as six base-62 digits, most
 * significant first: a mistyped or cut-off key is told from a wrong one without asking anybody, and secret scanners
 * recognise a leaked one. It is no protection: anybody can compute it.
 */
import { hash } from "node:crypto"
import { crc32 } from "node:zlib"
import { ApiKeyId } from "../../protocol/Ids.ts"

export const idBytes = 10
export const secretBytes = 32

const pattern = /^dma_(?<id>[a-z2-7]{16})_(?<secret>[A-Za-z0-9_-]{43})(?<check>[0-9A-Za-z]{6})$/u

/** What the server needs of a key: it cannot be turned back into one. */
export interface KeyProof {
  readonly id: ApiKeyId
  /** SHA-256 of the secret, lower-case hex. */
  readonly secretHash: string
}

/** The key made of random bytes, and what is to be stored of it. */
export const keyOf = (id: Uint8Array, secret: Uint8Array): { readonly key: string; readonly proof: KeyProof } => {
  const keyId = base32(id)
  const secretText = Buffer.from(secret).toString("base64url")
  const head = `dma_${keyId}_${secretText}`
  return { key: head + checkOf(head), proof: proofOf(keyId, secretText) }
}

/** Undefined when the text is no key, or not a whole one. */
export const parseKey = (text: string): KeyProof | undefined => {
  const parts = pattern.exec(text)?.groups
  if (parts === undefined) return undefined
  const { check, id = "", secret = "" } = parts
  return checkOf(text.slice(0, -checkDigits)) === check ? proofOf(id, secret) : undefined
}

const proofOf = (id: string, secret: string): KeyProof => ({
  id: ApiKeyId.make(id),
  secretHash: hash("sha256", secret)
})

const checkDigits = 6
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const checkOf = (head: string): string => {
  let rest = crc32(head)
  let check = ""
  for (let digit = 0; digit < checkDigits; digit++) {
    check = (digits[rest % digits.length] ?? "") + check
    rest = Math.floor(rest / digits.length)
  }
  return check
}

const base32Digits = "abcdefghijklmnopqrstuvwxyz234567"

/** RFC 4648, section 6, in lower case; for multiples of 5 bytes. */
const base32 = (bytes: Uint8Array): string => {
  let text = ""
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += base32Digits[(held >>> bits) & 31] ?? ""
    }
    held &= (1 << bits) - 1
  }
  return text
}
