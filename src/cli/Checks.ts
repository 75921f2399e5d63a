/**
 * What `datamcp doctor` looks at. Each check answers with a state, what was found, and what to do about it; none of
 * them fails, changes anything, or takes longer than its bound.
 */
import { statfs } from "node:fs/promises"
import { createServer } from "node:net"
import { Clock, Effect, FileSystem, Option, Path, Stream } from "effect"
import { HttpClient } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { Api } from "../../protocol/api/Api.ts"
import { CliEnvironment } from "./CliEnvironment.ts"
import { Client } from "./Client.ts"
import { fromError } from "./CliFailure.ts"
import { keyFile, keyFileRemedy, keyFileState } from "./Connection.ts"
import * as Ink from "./Ink.ts"

export interface Check {
  readonly name: string
  readonly state: "ok" | "warn" | "fail"
  readonly message: string
  /** What to do; absent when nothing is to be done. */
  readonly remedy?: string
}

type Finding = Omit<Check, "name">

const ok = (message: string): Finding => ({ state: "ok", message })
const warn = (message: string, remedy: string): Finding => ({ state: "warn", message, remedy })
const fail = (message: string, remedy: string): Finding => ({ state: "fail", message, remedy })

const answerWithin = "5 seconds"
const nodeMajorLeast = 24
const natsLeast = { major: 2, minor: 12 }
const freeBytes = { least: 512 * 1024 ** 2, comfortable: 2 * 1024 ** 3 }
const skewMillisMax = 2_000

const named = <R>(name: string, finding: Effect.Effect<Finding, never, R>): Effect.Effect<Check, never, R> =>
  Effect.map(finding, (found) => ({ name, ...found }))

export const node = named(
  "node",
  Effect.sync(() =>
    Number(process.versions.node.split(".")[0]) >= nodeMajorLeast
      ? ok(`Node ${process.version}`)
      : fail(
          `Node ${process.version} cannot run TypeScript as it is`,
          `Use Node ${nodeMajorLeast} or newer; \`npm start\` supplies it.`
        )
  )
)

export const folder = named(
  "data folder",
  Effect.gen(function* () {
    const { dataFolder } = yield* CliEnvironment
    const fs = yield* FileSystem.FileSystem
    if (!(yield* exists(dataFolder))) return ok(`${dataFolder} is not there yet; \`npm start\` makes it`)
    return yield* fs.access(dataFolder, { readable: true, writable: true }).pipe(
      Effect.match({
        onSuccess: () => ok(dataFolder),
        onFailure: () =>
          fail(
            `${dataFolder} cannot be written by this user`,
            "Run as its owner, or set DATAMCP_DATA to another folder."
          )
      })
    )
  })
)

export const key = named(
  "key file",
  Effect.gen(function* () {
    const { apiKey } = yield* CliEnvironment
    if (apiKey !== undefined) return ok("the key comes from DATAMCP_API_KEY")
    const file = yield* keyFile
    const state = yield* keyFileState(file)
    if (state === "ok") return ok(`${file}, readable by its owner only`)
    return state === "missing"
      ? warn(`${file} is not there`, "`npm start` writes it; for a server elsewhere set DATAMCP_API_KEY.")
      : fail(`${file}: ${state}`, keyFileRemedy(file))
  })
)

export const disk = named(
  "disk space",
  Effect.gen(function* () {
    const { dataFolder } = yield* CliEnvironment
    const place = yield* nearestExisting(dataFolder)
    const space = yield* Effect.option(Effect.tryPromise(() => statfs(place)))
    if (Option.isNone(space)) return warn(`the free space below ${place} is unknown`, "Look with `df`.")
    const free = space.value.bavail * space.value.bsize
    const words = `${Ink.bytes(free)} free below ${place}`
    if (free < freeBytes.least) return fail(words, "Free some space: Postgres stops when its disk is full.")
    return free < freeBytes.comfortable ? warn(words, "Enough for a trial, little for work.") : ok(words)
  })
)

export const nats = named(
  "nats-server",
  Effect.gen(function* () {
    const { dataFolder, ownFolder } = yield* CliEnvironment
    const path = yield* Path.Path
    const fetched = [dataFolder, ownFolder].map((folder) => path.join(folder, "tools", "nats-server"))
    const programs = ["nats-server", ...fetched, "/usr/sbin/nats-server"]
    const versions = yield* Effect.forEach(programs, natsVersion)
    const found = versions.flatMap(Option.toArray)
    const newest = found.find(isNewEnough)
    if (newest !== undefined) return ok(`nats-server ${newest.join(".")}`)
    const least = `${natsLeast.major}.${natsLeast.minor}`
    return found[0] === undefined
      ? warn("not on this machine yet", "`npm start` fetches it where it can; not needed with NATS_URL.")
      : warn(
          `nats-server ${found[0].join(".")} is older than ${least}`,
          "`npm start` fetches a newer one where it can."
        )
  })
)

const isNewEnough = ([major = 0, minor = 0]: ReadonlyArray<number>) =>
  major > natsLeast.major || (major === natsLeast.major && minor >= natsLeast.minor)

const natsVersion = Effect.fnUntraced(function* (program: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const said = yield* spawner.spawn(ChildProcess.make(program, ["--version"], { stdin: "ignore" })).pipe(
    Effect.flatMap((child) => Stream.mkString(Stream.decodeText(child.stdout))),
    Effect.scoped,
    Effect.timeout(answerWithin),
    Effect.option
  )
  const found = Option.flatMap(said, (text) => Option.fromNullOr(/v(\d+)\.(\d+)\.(\d+)/u.exec(text)))
  return Option.map(found, ([, ...parts]) => parts.map(Number))
})

/** The server: does it answer, is it ready, does it take the key, and do the clocks agree. */
export const server = Effect.fnUntraced(function* (url: string) {
  const http = yield* HttpClient.HttpClient
  const api = yield* HttpApiClient.group(Api, { httpClient: http, group: "health", baseUrl: url })
  const readiness = yield* api.ready().pipe(Effect.timeout(answerWithin), Effect.result)
  if (readiness._tag === "Failure") {
    const unreachable = fromError(readiness.failure)
    const message = unreachable?.message.split("\n")[0] ?? `no answer from ${url} within ${answerWithin}`
    return [{ name: "server", ...fail(message, unreachable?.hint ?? "Start it with `npm start`.") }, yield* port(url)]
  }
  const { parts, ready } = readiness.success
  const away = Object.entries(parts).flatMap(([part, up]) => (up ? [] : [part]))
  return [
    {
      name: "server",
      ...(ready
        ? away.length === 0
          ? ok(`ready at ${url}: ${Object.keys(parts).join(", ")}`)
          : warn(`ready at ${url}, without ${away.join(", ")}`, "Work goes on, slower; it heals when they are back.")
        : fail(
            `at ${url}, not ready: ${away.join(", ")} away`,
            "Look at the server's log; it heals when they are back."
          ))
    },
    yield* accepted,
    yield* clock(url)
  ]
})

const accepted = named(
  "key",
  Effect.gen(function* () {
    const client = yield* Client
    const me = yield* client.apiKeys.me()
    return ok(`${me.actor}: ${me.role} in namespace ${me.namespace}`)
  }).pipe(
    Effect.provide(Client.layer),
    Effect.timeout(answerWithin),
    Effect.catch((error) => {
      const failure = fromError(error)
      return Effect.succeed(fail(failure?.message ?? "no answer in time", failure?.hint ?? "Try again."))
    })
  )
)

const clock = (url: string) =>
  named(
    "clock",
    Effect.gen(function* () {
      const http = yield* HttpClient.HttpClient
      const answer = yield* http.get(`${url}/health/live`)
      const here = yield* Clock.currentTimeMillis
      const there = Date.parse(answer.headers["date"] ?? "")
      if (Number.isNaN(there)) return warn("the server does not tell its time", "Compare it with `date`.")
      // The header has whole seconds: half of one is the best guess for what was cut off.
      const skew = Math.abs(here - there - 500)
      return skew <= skewMillisMax
        ? ok("agrees with the server's")
        : warn(
            `differs from the server's by ${Ink.duration(skew)}`,
            "Set the clock by NTP: `run_at` and `deadline` are read by the server's."
          )
    }).pipe(
      Effect.timeout(answerWithin),
      Effect.orElseSucceed(() => warn("the server does not tell its time", "Compare it with `date`."))
    )
  )

/** Whether a server that is to be started here would get its port. */
const port = (url: string) =>
  named(
    "port",
    Effect.suspend(() => {
      const { hostname, port: named } = new URL(url)
      const number = Number(named || 80)
      if (hostname !== "127.0.0.1" && hostname !== "localhost") return Effect.succeed(ok(`${url} is another machine's`))
      return Effect.map(canListen(number), (free) =>
        free
          ? ok(`${number} is free`)
          : fail(
              `${number} is taken by another program`,
              `End it, or choose another port: PORT=${number + 1} npm start`
            )
      )
    })
  )

const canListen = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const probe = createServer()
    probe.once("error", () => resume(Effect.succeed(false)))
    probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      probe.close(() => resume(Effect.succeed(true)))
    })
    return Effect.sync(() => probe.close())
  })

const exists = (file: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) => Effect.orElseSucceed(fs.exists(file), () => false))

const nearestExisting: (place: string) => Effect.Effect<string, never, FileSystem.FileSystem | Path.Path> =
  Effect.fnUntraced(function* (place) {
    const path = yield* Path.Path
    const parent = path.dirname(place)
    return (yield* exists(place)) || parent === place ? place : yield* nearestExisting(parent)
  })
