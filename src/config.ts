/**
 * Owns the environment: the only file that reads it, once, at start.
 *
 * Every variable stands in one table with its meaning, default and example, from which `docs/configuration.md` is made.
 * A wrong value stops the start with a message that names the variable, what it must be, and an example; all mistakes are
 * told at once. Secrets are `Redacted` from here on, and no message repeats their value. An empty value counts as not set.
 */
import { hostname } from "node:os"
import { Context, Effect, Layer, Random, Redacted, Result, Schema } from "effect"
import { NodeName } from "../protocol/Ids.ts"
import { exampleOf, markdownTable, missing, readAll, type ValueOf } from "./config/Variable.ts"
import { clientVariables, serverVariables } from "./config/Variables.ts"

type Environment = Readonly<Record<string, string | undefined>>

type Values = { readonly [K in keyof typeof serverVariables]: ValueOf<(typeof serverVariables)[K]> }

/** How this process reaches NATS. Credentials never stand in `servers`. */
export interface NatsAccess {
  readonly servers: ReadonlyArray<string>
  readonly tls: boolean
  readonly credentials:
    | { readonly _tag: "None" }
    | { readonly _tag: "Password"; readonly user: string; readonly password: Redacted.Redacted }
    | { readonly _tag: "Token"; readonly token: Redacted.Redacted }
    | { readonly _tag: "File"; readonly path: string }
}

/** A wrong environment. `message` is written for the person who starts the program. */
export class ConfigProblem extends Schema.TaggedError<ConfigProblem>()("ConfigProblem", {
  mistakes: Schema.Array(Schema.String)
}) {
  override get message() {
    return `The configuration is wrong:\n${this.mistakes.map((mistake) => `  ${mistake}`).join("\n")}`
  }
}

/** What a process is told by its environment. */
export class AppConfig extends Context.Service<
  AppConfig,
  Omit<
    Values,
    "behaviourEnvironment" | "natsUrl" | "natsUser" | "natsPassword" | "natsToken" | "natsCreds" | "nodeName"
  > & {
    readonly nodeName: NodeName
    /** All that processes of isolated behaviours get to know of this environment. */
    readonly behaviourEnvironment: Readonly<Record<string, string>>
    /** Undefined when no server is named. */
    readonly nats: NatsAccess | undefined
    /** What is worth a warning at start and stops nothing. */
    readonly warnings: ReadonlyArray<string>
  }
>()("datamcp/config/AppConfig") {
  /** Reads the environment of this process. Fails with `ConfigProblem`. */
  static readonly layer = Layer.effect(
    AppConfig,
    Effect.suspend(() => read(process.env))
  )
}

/** The same from any record, such as a test's. */
export const read = Effect.fnUntraced(function* (environment: Environment) {
  const parsed = readAll(serverVariables, environment)
  if (Result.isFailure(parsed)) return yield* new ConfigProblem({ mistakes: parsed.failure })
  const { behaviourEnvironment, natsCreds, natsPassword, natsToken, natsUrl, natsUser, nodeName, ...rest } =
    parsed.success
  const refused = behaviourEnvironment.filter((name) => ownNames.has(name))
  if (refused.length > 0) {
    const mistake = `DATAMCP_BEHAVIOUR_ENV: ${refused.join(", ")} is for datamcp itself and never given to a behaviour. ${exampleOf(serverVariables.behaviourEnvironment)}`
    return yield* new ConfigProblem({ mistakes: [mistake] })
  }
  const nats = natsAccess({ natsCreds, natsPassword, natsToken, natsUrl, natsUser })
  if (Result.isFailure(nats)) return yield* new ConfigProblem({ mistakes: [nats.failure] })
  return AppConfig.of({
    ...rest,
    nats: nats.success,
    nodeName: nodeName ?? (yield* ownNodeName),
    behaviourEnvironment: Object.fromEntries(
      [...givenToBehaviours, ...behaviourEnvironment].flatMap((name) => {
        const value = environment[name]
        return value === undefined ? [] : [[name, value]]
      })
    ),
    warnings: warningsOf(environment, rest)
  })
})

/** What processes of isolated behaviours get of any environment: where programs and files are, time zone, language. */
const givenToBehaviours = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "NODE_EXTRA_CA_CERTS"]

const ownNames = new Set([...Object.values(serverVariables), ...Object.values(clientVariables)].map(({ name }) => name))

/** What a node that starts no servers of its own must be told. */
export const requireServers = (config: AppConfig["Service"]): Effect.Effect<void, ConfigProblem> => {
  const mistakes = [
    ...(config.databaseUrl === undefined ? [missing(serverVariables.databaseUrl)] : []),
    ...(config.nats === undefined ? [missing(serverVariables.natsUrl)] : [])
  ]
  return mistakes.length === 0 ? Effect.void : Effect.fail(new ConfigProblem({ mistakes }))
}

/** Where the command line finds the platform, who it is there, and where a platform of its own keeps its files. */
export const readClient = Effect.fnUntraced(function* (environment: Environment = process.env) {
  const parsed = readAll({ ...clientVariables, dataFolder: serverVariables.dataFolder }, environment)
  return Result.isSuccess(parsed) ? parsed.success : yield* new ConfigProblem({ mistakes: parsed.failure })
})

/** One row per variable, for `docs/configuration.md`. */
export const tables = {
  server: markdownTable(Object.values(serverVariables)),
  client: markdownTable(Object.values(clientVariables))
}

/** Credentials stand in the URL or in variables of their own, in one way only. */
const natsAccess = (
  given: Pick<Values, "natsUrl" | "natsUser" | "natsPassword" | "natsToken" | "natsCreds">
): Result.Result<NatsAccess | undefined, string> => {
  const { natsCreds, natsPassword, natsToken, natsUser } = given
  const url = given.natsUrl === undefined ? undefined : Redacted.value(given.natsUrl)
  const ways: ReadonlyArray<NatsAccess["credentials"] | undefined> = [
    url?.user === undefined ? undefined : { _tag: "Password", user: url.user, password: Redacted.make(url.password) },
    natsUser === undefined || natsPassword === undefined
      ? undefined
      : { _tag: "Password", user: natsUser, password: natsPassword },
    natsToken === undefined ? undefined : { _tag: "Token", token: natsToken },
    natsCreds === undefined ? undefined : { _tag: "File", path: natsCreds }
  ]
  const used = ways.filter((way) => way !== undefined)
  if ((natsUser === undefined) !== (natsPassword === undefined)) {
    return Result.fail("NATS_USER, NATS_PASSWORD: one is set without the other. Set both or neither.")
  }
  if (used.length > 1) {
    return Result.fail(
      "NATS_URL, NATS_USER, NATS_TOKEN, NATS_CREDS: credentials are given in more than one way. Keep one of them."
    )
  }
  if (url === undefined && used.length > 0) {
    return Result.fail(`NATS_URL: credentials for NATS are set, but no server. ${exampleOf(serverVariables.natsUrl)}`)
  }
  return Result.succeed(
    url === undefined ? undefined : { servers: url.servers, tls: url.tls, credentials: used[0] ?? { _tag: "None" } }
  )
}

const ownNodeName = Effect.gen(function* () {
  const host =
    hostname()
      .split(".")[0]
      ?.replace(/[^A-Za-z0-9_-]/g, "-")
      .slice(0, 57) ?? ""
  const digits = yield* Effect.replicateEffect(Random.nextIntBetween(0, 35), 6)
  return NodeName.make(`${host === "" ? "node" : host}-${digits.map((digit) => digit.toString(36)).join("")}`)
})

const warningsOf = (environment: Environment, { redisUrl }: Pick<Values, "redisUrl">): ReadonlyArray<string> => {
  const unknown = Object.keys(environment).filter((name) => name.startsWith("DATAMCP_") && !ownNames.has(name))
  return [
    ...unknown.map((name) => `${name} is set, but no such variable exists (docs/configuration.md lists them).`),
    ...(redisUrl === undefined
      ? []
      : ["REDIS_URL is set, but this version keeps its caches in memory and does not connect to it."])
  ]
}
