/**
 * How somebody who is told by a webhook knows that it is genuine: Standard Webhooks (https://www.standardwebhooks.com),
 * written from its text. It uses Node's own modules and nothing of datamcp.
 */
import { createHmac, timingSafeEqual } from "node:crypto"

/** Older than this, or as far ahead, and a message may be a recorded one. */
const secondsOff = 300

/** Whether `body`, as it came in, was sent just now by whoever knows the secret `whsec_...`. */
export const isGenuine = (
  secret: string,
  headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>,
  body: string
): boolean => {
  const timestamp = String(headers["webhook-timestamp"])
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) < secondsOff)) return false
  const key = Buffer.from(secret.slice("whsec_".length), "base64")
  const expected = createHmac("sha256", key)
    .update(`${String(headers["webhook-id"])}.${timestamp}.${body}`)
    .digest()
  // There are two while a secret is being replaced.
  return String(headers["webhook-signature"])
    .split(" ")
    .some((entry) => {
      const given = Buffer.from(entry.replace(/^v1,/u, ""), "base64")
      return entry.startsWith("v1,") && given.length === expected.length && timingSafeEqual(given, expected)
    })
}
