/**
 * Where the server is and which key to show it.
 *
 * Invariants: a key stays `Redacted` until it is put on a request; the key file is used for this machine's server only,
 * so that naming another URL never sends it there; a key file that others can read is refused.
 */
import { Context, Effect, FileSystem, Layer, Option, Path, Redacted, Schema } from "effect"
import { CliEnvironment } from "./CliEnvironment.ts"
import { noAnswer, usage } from "./CliFailure.ts"
import { defaultUrl, Key, Url } from "./flags.ts"
import { Output } from "./Output.ts"

export class Connection extends Context.Service<
  Connection,
  {
    /** Without a slash at its end. */
    readonly url: string
    readonly key: Redacted.Redacted
  }
>()("datamcp/cli/Connection") {
  /** Fails with `CliFailure`: exit code 2 for a URL that is none, 3 when there is no key to be had. */
  static readonly layer = Layer.effect(
    Connection,
    Effect.gen(function* () {
      const url = yield* serverUrl
      const key = yield* keyFor(url)
      if (url.startsWith("http:") && !isThisMachine(url)) {
        const { note } = yield* Output
        yield* note(`warning: the API key goes to ${url} unencrypted; use https.`)
      }
      return Connection.of({ url, key })
    })
  )
}

/** The server's URL: from `--url`, else `DATAMCP_URL`, else that of the platform started here, else the default. */
export const serverUrl = Effect.gen(function* () {
  const named = Option.getOrUndefined(yield* Url) ?? (yield* CliEnvironment).url
  const given = named ?? (yield* urlStartedHere) ?? defaultUrl
  const parsed = URL.canParse(given) ? new URL(given) : undefined
  if (parsed === undefined || (parsed.protocol !== "http:" && parsed.protocol !== "https:")) {
    return yield* usage(`${given} is not an http or https URL.`, "For example --url http://127.0.0.1:8002")
  }
  if (parsed.username !== "" || parsed.password !== "") {
    return yield* usage("The URL must not carry a user name or password.", "Give the key by DATAMCP_API_KEY.")
  }
  return parsed.origin + parsed.pathname.replace(/\/+$/u, "")
})

/** What `up` has noted about the platform it started, as far as it is read here. */
const Noted = Schema.fromJsonString(Schema.Struct({ url: Schema.String }))

const urlStartedHere = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const text = yield* fs.readFileString(path.join((yield* CliEnvironment).dataFolder, "connection.json"))
  return (yield* Schema.decodeEffect(Noted)(text)).url
}).pipe(Effect.orElseSucceed(() => undefined))

const keyFor = Effect.fnUntraced(function* (url: string) {
  const flag = yield* Key
  if (Option.isSome(flag)) {
    const { note } = yield* Output
    yield* note("warning: others on this machine can see --key in the list of processes; prefer DATAMCP_API_KEY.")
    return flag.value
  }
  const { apiKey } = yield* CliEnvironment
  if (apiKey !== undefined) return apiKey
  if (!isThisMachine(url)) {
    return yield* noAnswer(
      "no-key",
      `No API key for ${url}.`,
      "Set DATAMCP_API_KEY. (The key file is used for this machine's server only.)"
    )
  }
  return yield* fromFile
})

const isThisMachine = (url: string) => /^(127(\.\d{1,3}){3}|localhost|\[::1\])$/u.test(new URL(url).hostname)

/** The file that holds the first admin key of a platform on this machine; written by `up`. */
export const keyFile = Effect.gen(function* () {
  const path = yield* Path.Path
  return path.join((yield* CliEnvironment).dataFolder, "admin.key")
})

const fromFile = Effect.gen(function* () {
  const file = yield* keyFile
  const state = yield* keyFileState(file)
  if (state === "missing") {
    return yield* noAnswer(
      "no-key",
      `No API key: DATAMCP_API_KEY is not set and there is no file ${file}.`,
      "Start the platform here with `npm start`, which writes that file, or set DATAMCP_API_KEY."
    )
  }
  if (state !== "ok") {
    return yield* noAnswer("no-key", `The key file ${file} is not used: ${state}.`, keyFileRemedy(file))
  }
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs
    .readFileString(file)
    .pipe(Effect.mapError((error) => noAnswer("no-key", `Cannot read ${file}: ${error.message}`, keyFileRemedy(file))))
  return Redacted.make(text.trim(), { label: "API key" })
})

export const keyFileRemedy = (file: string) => `If you trust its content: chmod 600 ${file}`

/** `ok`, `missing`, or why the file must not be used. */
export const keyFileState = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const found = yield* Effect.option(fs.stat(file))
  if (Option.isNone(found)) return "missing"
  if (found.value.type !== "File") return "it is no ordinary file"
  const mode = found.value.mode & 0o777
  return (mode & 0o077) === 0 ? "ok" : `others can read it (mode ${mode.toString(8).padStart(4, "0")})`
})
