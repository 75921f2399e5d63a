/**
 * Owns the headers that every answer carries, whoever gives it.
 */

/** For JSON and plain text: nothing may be sniffed, framed, loaded or run. */
export const securityHeaders = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin"
} as const
