/**
 * Makes text from elsewhere fit to be kept: Postgres stores no NUL, and half a surrogate pair is no character. What does
 * not fit becomes U+FFFD, the replacement character. It imports nothing: the engine process of `sql` uses it too.
 */
export const storable = (text: string): string =>
  (text.includes("\0") ? text.replaceAll("\0", "\uFFFD") : text).toWellFormed()
