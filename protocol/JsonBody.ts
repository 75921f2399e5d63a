/**
 * Owns how bytes from outside become a JSON value, the same at every door.
 *
 * What comes out can be stored by Postgres and walked by recursive code: valid UTF-8, at most `jsonDepthMax` deep, no
 * NUL, no lone surrogates, finite numbers, and no keys that pollute prototypes when objects are merged. It must not know
 * what the value means: that is the schemas' business.
 */
import { Result, type Schema } from "effect"
import { MalformedRequest } from "./api/TransportProblem.ts"
import * as Limits from "./Limits.ts"
import { type InvalidInput, invalidField, TooLarge } from "./Problem.ts"

const utf8 = new TextDecoder("utf-8", { fatal: true })

/**
 * Decodes UTF-8 JSON. `TooLarge` above `bytesMax` bytes; `MalformedRequest` when it is no JSON at all; `InvalidInput` when
 * it is and must not be kept.
 */
export const parseJsonBytes = (
  bytes: Uint8Array,
  bytesMax: number
): Result.Result<Schema.Json, MalformedRequest | InvalidInput | TooLarge> => {
  if (bytes.length > bytesMax) {
    return Result.fail(
      new TooLarge({
        detail: `The body has ${bytes.length} bytes; the limit is ${bytesMax}.`,
        field: "",
        limit: bytesMax,
        unit: "bytes"
      })
    )
  }
  const text = Result.try({
    try: () => utf8.decode(bytes),
    catch: () => new MalformedRequest({ detail: "The body is not valid UTF-8." })
  })
  return Result.flatMap(text, parseJsonText)
}

/** Decodes JSON text, with the same refusals. */
export const parseJsonText = (text: string): Result.Result<Schema.Json, MalformedRequest | InvalidInput> => {
  if (text === "") return Result.fail(new MalformedRequest({ detail: "The body is empty; send JSON." }))
  if (isDeeperThan(text, Limits.jsonDepthMax)) {
    return Result.fail(
      invalidField("", `The JSON is nested deeper than ${Limits.jsonDepthMax} levels.`, Limits.jsonDepthMax)
    )
  }
  const parsed = Result.try({
    try: (): Schema.Json => JSON.parse(text),
    catch: (cause) =>
      new MalformedRequest({ detail: `The body is not valid JSON: ${cause instanceof Error ? cause.message : "?"}` })
  })
  return suspicious.test(text) ? Result.flatMap(parsed, withoutPoison) : parsed
}

/** Counts brackets outside of strings before anything is built, so that depth costs nothing. */
const isDeeperThan = (text: string, depthMax: number): boolean => {
  let depth = 0
  let inString = false
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (inString) {
      if (code === backslash) index++
      else if (code === quote) inString = false
    } else if (code === quote) inString = true
    else if (code === openBrace || code === openBracket) {
      if (++depth > depthMax) return true
    } else if (code === closeBrace || code === closeBracket) depth--
  }
  return false
}

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

/** Only a text with one of these can hold what `withoutPoison` looks for; nearly none has, and is spared the walk. */
const suspicious = /\\u|__proto__|constructor|\d[eE]\+?\d{2,}|\d{300}/u

/** Walks a value that may hold what cannot be stored or merged safely, and names the first place that does. */
const withoutPoison = (root: Schema.Json): Result.Result<Schema.Json, InvalidInput> => {
  const open: Array<readonly [path: string, value: Schema.Json]> = [["", root]]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [path, value] = next
    const fault = faultOf(value)
    if (fault !== undefined) return Result.fail(invalidField(path, fault))
    if (typeof value !== "object" || value === null) continue
    for (const [key, child] of Object.entries<Schema.Json>(value)) {
      const keyFault = faultOf(key) ?? keyFaultOf(key, child)
      if (keyFault !== undefined) return Result.fail(invalidField(path, `the key ${JSON.stringify(key)} ${keyFault}`))
      open.push([path === "" ? key : `${path}.${key}`, child])
    }
  }
  return Result.succeed(root)
}

const faultOf = (value: Schema.Json): string | undefined => {
  if (typeof value === "string") {
    if (value.includes("\0")) return "holds a NUL character (U+0000), which cannot be stored"
    return value.isWellFormed() ? undefined : "holds half of a surrogate pair, which is no character"
  }
  return typeof value === "number" && !Number.isFinite(value) ? "is a number too large for a double" : undefined
}

const keyFaultOf = (key: string, child: Schema.Json): string | undefined => {
  if (key === "__proto__") return "is not allowed"
  return key === "constructor" && typeof child === "object" && child !== null && Object.hasOwn(child, "prototype")
    ? "is not allowed with a prototype in it"
    : undefined
}
