/**
 * JSON that people hand to a command: on the command line, in a file, or on standard input.
 *
 * What is wrong with it is told before anything is sent, every mistake at once, as wrong usage (exit code 2).
 */
import { Effect, FileSystem, Option, type PlatformError, Predicate, Result, type Schema, Stdio, Stream } from "effect"
import { Flag } from "effect/cli"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { fieldLine, usage } from "./CliFailure.ts"

/** A file by its path, or standard input for `-`. Bounded by `bytesMax`. */
export const readBytes = Effect.fnUntraced(function* (file: string, bytesMax: number) {
  const fs = yield* FileSystem.FileSystem
  const stdio = yield* Stdio.Stdio
  const source = file === "-" ? stdio.stdin : fs.stream(file)
  const parts: Array<Uint8Array> = []
  let size = 0
  yield* Stream.runForEach(source, (part) => {
    parts.push(part)
    size += part.length
    return size > bytesMax ? Effect.fail(usage(`${nameOf(file)} is larger than ${bytesMax} bytes.`)) : Effect.void
  }).pipe(
    Effect.catchTag("PlatformError", (error) => Effect.fail(usage(`Cannot read ${nameOf(file)}: ${reasonOf(error)}.`)))
  )
  return Buffer.concat(parts)
})

const reasons: { readonly [tag: string]: string } = {
  NotFound: "there is no such file or folder",
  PermissionDenied: "not permitted",
  BadResource: "it is a folder"
}

/** Why the operating system refused a file, in words. */
export const reasonOf = (error: PlatformError.PlatformError) => reasons[error.reason._tag] ?? error.message

const nameOf = (file: string) => (file === "-" ? "standard input" : file)

/** The JSON value in a file, or on standard input for `-`. */
export const readJsonFile = Effect.fnUntraced(function* (file: string) {
  const bytes = yield* readBytes(file, Limits.batchBodyBytesMax)
  return yield* parsed(bytes, nameOf(file))
})

/** As `readJsonFile`, when it must be an object. */
export const readObject = Effect.fnUntraced(function* (file: string) {
  const value: unknown = yield* readJsonFile(file)
  if (!Predicate.isObject(value)) return yield* usage(`${nameOf(file)} holds no JSON object.`)
  const fields: { readonly [key: string]: unknown } = value
  return fields
})

/** The JSON value of a flag: `@file`, `-` for standard input, or the JSON itself. */
export const readJson = (flag: string, given: string) => {
  if (given === "-") return readJsonFile("-")
  if (given.startsWith("@")) return readJsonFile(given.slice(1))
  return parsed(new TextEncoder().encode(given), `--${flag}`)
}

const parsed = (bytes: Uint8Array, name: string) => {
  const json = parseJsonBytes(bytes, Limits.batchBodyBytesMax)
  return Result.isSuccess(json)
    ? Effect.succeed(json.success)
    : Effect.fail(usage(`${name}: ${(json.failure.detail ?? json.failure.title).replace("The body", "it")}`))
}

/** A command of the protocol from what was handed in, decoded as the server would; `name` says what it is. */
export const decodeCommand = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, value: unknown, name: string) => {
  const decoded = inputDecoder(schema)(value)
  if (Result.isSuccess(decoded)) return Effect.succeed(decoded.success)
  const { detail = "", errors } = decoded.failure
  const lines =
    errors.length === 1 ? [`${name}: ${detail}`] : [`${name} breaks the contract:`, ...errors.map(fieldLine)]
  return Effect.fail(usage(lines.join("\n"), undefined, errors))
}

const unitMillis: { readonly [unit: string]: number } = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** A flag with a time such as `30s`, in milliseconds, at most `millisMax`. */
export const millisFlag = (name: string, millisMax: number = Limits.timeoutMillisMax) =>
  Flag.String(name).pipe(
    Flag.filterMap(
      (text) => {
        const [, amount = "", unit = ""] = /^(\d{1,9})(ms|s|m|h)$/u.exec(text) ?? []
        const factor = unitMillis[unit]
        const millis = Number(amount) * (factor ?? Number.NaN)
        return millis <= millisMax ? Option.some(millis) : Option.none()
      },
      (text) => `Expected a time such as 500ms, 30s or 5m, at most ${millisMax / 1000}s, got ${text}`
    ),
    Flag.withMetavar("<time>")
  )
