/**
 * What a person is told when a platform has started, and what its first start leaves behind: an admin key, agents to try
 * things with, and files from which the command line on this machine knows how to get in (mode 0600).
 *
 * The key itself is shown once and kept in that file only; the database has its hash. It decides nothing about running.
 */
import { Console, Effect, FileSystem, Option, Path, Redacted, Schema } from "effect"
import type { CreatedApiKey } from "../protocol/ApiKey.ts"
import { AgentName } from "../protocol/Ids.ts"
import { Principal, permissions } from "../protocol/Permission.ts"
import { Agents } from "./app/Agents.ts"
import { ApiKeys } from "./app/ApiKeys.ts"
import { unwritable } from "./embedded/EmbeddedProblem.ts"

/** A platform with servers of its own: files below `folder`, and one screen of text. */
export const onThisMachine = Effect.fnUntraced(function* (started: {
  readonly folder: string
  readonly url: string
  /** How programs get into the embedded nats-server. */
  readonly nats: Option.Option<{ readonly url: string; readonly user: string; readonly password: Redacted.Redacted }>
  readonly warnings: ReadonlyArray<string>
}) {
  const path = yield* Path.Path
  const folder = path.resolve(started.folder)
  const made = yield* firstKey
  const keyFile = path.join(folder, "admin.key")
  if (made !== undefined) yield* keep(keyFile, `${made.key}\n`)
  yield* keep(
    path.join(folder, "connection.json"),
    `${JSON.stringify(
      {
        url: started.url,
        nats: Option.getOrNull(
          Option.map(started.nats, ({ password, url, user }) => ({ url, user, password: Redacted.value(password) }))
        )
      },
      null,
      2
    )}\n`
  )
  yield* Console.log(
    screen({ url: started.url, keyFile: path.relative(path.resolve("."), keyFile), made, warnings: started.warnings })
  )
})

/** A node on named servers: the first one of a new database shows its key on standard output, once. */
export const onServers = Effect.fnUntraced(function* (url: string) {
  const made = yield* firstKey
  if (made !== undefined) {
    yield* Console.log(
      `First start on this database. Admin API key of namespace "default", shown once:\n\n  ${made.key}\n`
    )
  }
  yield* Effect.logInfo(`datamcp serves on ${url}`)
})

/** The first admin key of a database, with the agents that make it useful at once. */
const firstKey = Effect.gen(function* () {
  const made = yield* (yield* ApiKeys).bootstrap
  if (made === undefined) return undefined
  const agents = yield* Agents
  const principal = Principal.of({
    actor: `key:${made.id}`,
    namespace: made.namespace,
    role: made.role,
    permissions: new Set(permissions)
  })
  yield* Effect.forEach(firstAgents, (agent) => Effect.ignore(agents.create(agent)), { discard: true }).pipe(
    Effect.provideService(Principal, principal)
  )
  return made
})

const firstAgents = [
  { name: "approval", type: "approval", description: "Waits until somebody approves, or rejects." },
  { name: "echo", type: "echo", description: "Gives back what it gets; sleeps or fails when asked to." },
  { name: "http", type: "http", description: "Fetches a URL of the public internet." },
  { name: "sql", type: "sql", description: "Runs DuckDB SQL over rows, artifacts and URLs." }
].map((agent) => ({ ...agent, name: Schema.decodeSync(AgentName)(agent.name) }))

const keep = Effect.fnUntraced(
  function* (file: string, text: string) {
    const fs = yield* FileSystem.FileSystem
    const whole = `${file}.${process.pid}`
    yield* fs.writeFileString(whole, text, { mode: 0o600 })
    yield* fs.rename(whole, file)
  },
  (effect, file) => Effect.mapError(effect, unwritable(file))
)

const screen = (started: {
  readonly url: string
  readonly keyFile: string
  readonly made: CreatedApiKey | undefined
  readonly warnings: ReadonlyArray<string>
}) => {
  const key =
    started.made === undefined
      ? `  Admin key   in ${started.keyFile} (the command line here finds it)`
      : `  Admin key   ${started.made.key}\n              shown this once; kept for the command line here in ${started.keyFile}`
  return [
    "",
    "datamcp is running.",
    "",
    `  URL         ${started.url}   (API below /api/v1, documentation at /docs)`,
    key,
    "",
    "Try, in another terminal:",
    "",
    `  npx datamcp tasks submit --agent echo --payload '{"hello":"world"}' --wait`,
    "  npx datamcp graphs run examples/graphs/tour.json",
    "  npm run demo",
    "",
    "Ctrl-C stops it; the data stay.",
    ...started.warnings.map((warning) => `\nwarning: ${warning}`),
    ""
  ].join("\n")
}
