/** Bytes from outside become a JSON value that Postgres can store, or a refusal that names the rule. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { parseJsonBytes, parseJsonText } from "../../protocol/JsonBody.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth)

const refusal = (text: string) => {
  const parsed = parseJsonText(text)
  return Result.isFailure(parsed) ? parsed.failure.detail : `accepted: ${text}`
}

describe("a body", () => {
  it.prop("keeps every JSON value as it is", { value: Schema.Json }, ({ value }) => {
    const text = JSON.stringify(value)
    const parsed = parseJsonText(text)
    const storable = !/\\u0000|\\ud[89a-f]|__proto__/u.test(text)
    if (storable) expect(Result.isSuccess(parsed) && JSON.stringify(parsed.success)).toBe(text)
  })

  it("may be as large as the limit and no larger", () => {
    expect(parseJsonBytes(bytes(`"${"x".repeat(8)}"`), 10)).toMatchObject({ _tag: "Success" })
    expect(parseJsonBytes(bytes(`"${"x".repeat(9)}"`), 10)).toMatchObject({
      _tag: "Failure",
      failure: { _tag: "TooLarge", limit: 10, unit: "bytes", detail: "The body has 11 bytes; the limit is 10." }
    })
  })

  it("may be 32 levels deep and no deeper", () => {
    expect(Result.isSuccess(parseJsonText(nested(32)))).toBe(true)
    expect(refusal(nested(33))).toContain("deeper than 32 levels")
    expect(refusal(nested(500_000))).toContain("deeper than 32 levels")
  })

  it("counts no brackets within strings", () => {
    expect(Result.isSuccess(parseJsonText(JSON.stringify({ a: `\\"${nested(40)}` })))).toBe(true)
  })

  it.each(["{", "nul", `{"a":1}}`, "{'a':1}", `{"a":1,}`, "NaN", "\u0000"])(
    "is refused when it is no JSON: %j",
    (text) => {
      expect(refusal(text)).toContain("not valid JSON")
    }
  )

  it("is refused when it is empty", () => {
    expect(parseJsonBytes(bytes(""), 100)).toMatchObject({ failure: { _tag: "MalformedRequest", status: 400 } })
  })

  it("is refused when it is not UTF-8", () => {
    const parsed = parseJsonBytes(new Uint8Array([0x22, 0xff, 0xfe, 0x22]), 100)
    expect(parsed).toMatchObject({
      _tag: "Failure",
      failure: { _tag: "MalformedRequest", detail: "The body is not valid UTF-8." }
    })
  })
})

describe("what cannot be stored is refused where it stands", () => {
  it.each([
    [String.raw`{"a":{"b":["x","\u0000"]}}`, "a.b.1: holds a NUL character (U+0000), which cannot be stored"],
    [String.raw`{"a\u0000":1}`, String.raw`the key "a\u0000" holds a NUL character (U+0000), which cannot be stored`],
    [String.raw`{"a":"\ud800"}`, "a: holds half of a surrogate pair, which is no character"],
    [`{"a":1e400}`, "a: is a number too large for a double"],
    [`{"a":${"9".repeat(400)}}`, "a: is a number too large for a double"],
    [`{"a":{"__proto__":{"admin":true}}}`, `a: the key "__proto__" is not allowed`],
    [String.raw`{"\u005f_proto__":{"admin":true}}`, `the key "__proto__" is not allowed`],
    [`{"constructor":{"prototype":{}}}`, `the key "constructor" is not allowed with a prototype in it`]
  ])("%s", (text, detail) => {
    expect(refusal(text)).toBe(detail)
  })

  it.each([`{"constructor":"Ferrari"}`, String.raw`{"a":"\ud83d\ude00"}`, `{"a":1e30}`, `{"a":"__proto__"}`])(
    "and what only looks like it is not: %s",
    (text) => {
      expect(Result.isSuccess(parseJsonText(text))).toBe(true)
    }
  )
})
