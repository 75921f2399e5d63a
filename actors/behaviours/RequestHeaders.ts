/**
 * Headers that a task may put on a request: well-formed, bounded, and none of those that frame the message or name its
 * destination, which are the connection's own.
 */
import { Schema } from "effect"

const headersMax = 64
const valueCharactersMax = 8_192

const connectionHeaders =
  /^(host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-length|expect|http2-settings)$/iu

const HeaderName = Schema.String.check(
  Schema.isPattern(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/u, { expected: "a header name" }),
  Schema.makeFilter((name: string) => !connectionHeaders.test(name), { expected: "a header that a task may set" })
)

const HeaderValue = Schema.String.check(
  Schema.isMaxLength(valueCharactersMax),
  Schema.isPattern(/^[\t\x20-\x7e\x80-\xff]*$/u, {
    expected: "a header value without line breaks or control characters"
  })
)

export const RequestHeaders = Schema.Record(HeaderName, HeaderValue).check(Schema.isMaxProperties(headersMax))
