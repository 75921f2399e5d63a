/**
 * Owns what text must be like to be kept: Postgres stores no NUL, and half a surrogate pair is no character. What does
 * not fit becomes U+FFFD, the replacement character, so that nothing is lost over one character of it.
 */

/** A text without NUL and without halves of surrogate pairs. */
export const storable = (text: string): string =>
  (text.includes("\0") ? text.replaceAll("\0", "\uFFFD") : text).toWellFormed()

/**
 * The same for JSON as `JSON.stringify` writes it, keys included: there a NUL is the escape `\u0000`, and the only
 * surrogates written as escapes are those without their other half (ECMAScript, well-formed JSON.stringify).
 */
export const storableJson = (json: string): string =>
  mayBeStrange.test(json) ? json.replace(strange, "$1\\ufffd") : json

const mayBeStrange = /\\u(?:0000|d[89a-f])/u
/** An escape that begins after an even number of backslashes. */
const strange = /(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/gu
