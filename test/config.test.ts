/** The environment is read once, completely, and a wrong value says what to do about it. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Redacted } from "effect"
import { tokenPattern } from "../protocol/Ids.ts"
import { clientVariables, serverVariables } from "../src/config/Variables.ts"
import { read, readClient, requireServers } from "../src/config.ts"

const mistakesOf = (environment: Record<string, string>) =>
  Effect.map(Effect.flip(read(environment)), (problem) => problem.mistakes)

describe("an empty environment", () => {
  it.effect("gives the documented defaults", () =>
    Effect.gen(function* () {
      const config = yield* read({})
      expect(config).toMatchObject({
        databaseUrl: undefined,
        nats: undefined,
        redisUrl: undefined,
        host: "127.0.0.1",
        port: 8002,
        dataFolder: ".datamcp",
        behaviours: [],
        logLevel: "Info",
        logFormat: "auto",
        otlpEndpoint: undefined,
        sampleRatio: 1,
        warnings: []
      })
      expect(Duration.toMillis(config.drain)).toBe(10_000)
    })
  )

  it.effect("names the node after its host, differently each time", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* read({}), yield* read({})]
      expect(one.nodeName).toMatch(tokenPattern)
      expect(one.nodeName).toMatch(/-[0-9a-z]{6}$/u)
      expect(one.nodeName).not.toBe(other.nodeName)
    })
  )

  it.effect("is the same as one full of empty values", () =>
    Effect.gen(function* () {
      const empty = Object.fromEntries(Object.values(serverVariables).map(({ name }) => [name, "  "]))
      expect({ ...(yield* read(empty)), nodeName: "" }).toEqual({ ...(yield* read({})), nodeName: "" })
    })
  )

  it.effect("does not do for a node that starts no servers, which is told both names", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(Effect.flatMap(read({}), requireServers))
      expect(problem.message).toContain("DATABASE_URL is not set")
      expect(problem.message).toContain("NATS_URL is not set")
    })
  )
})

describe("a full environment", () => {
  it.effect("is understood as a whole, by its own examples", () =>
    Effect.gen(function* () {
      for (const variable of [...Object.values(serverVariables), ...Object.values(clientVariables)]) {
        expect({ name: variable.name, understood: variable.grammar.parse(variable.example) !== undefined }).toEqual({
          name: variable.name,
          understood: true
        })
      }
      const config = yield* read({
        DATABASE_URL: "postgres://u:p@db/datamcp",
        NATS_URL: "tls://n1.example.com, tls://n2.example.com:4333",
        NATS_USER: "u",
        NATS_PASSWORD: "hush",
        PORT: "0",
        HOST: "::",
        DATAMCP_NODE_NAME: "node_1",
        DATAMCP_BEHAVIOURS: "./a.ts, @acme/b",
        DATAMCP_DRAIN: "1500ms",
        LOG_LEVEL: "DEBUG",
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
        OTEL_EXPORTER_OTLP_HEADERS: "api-key=s%20ecret, x=1",
        OTEL_TRACES_SAMPLER_ARG: "0.25"
      })
      expect(config).toMatchObject({
        nats: { servers: ["n1.example.com:4222", "n2.example.com:4333"], tls: true, credentials: { user: "u" } },
        port: 0,
        host: "::",
        nodeName: "node_1",
        behaviours: ["./a.ts", "@acme/b"],
        logLevel: "Debug",
        sampleRatio: 0.25
      })
      expect(Duration.toMillis(config.drain)).toBe(1500)
      expect(config.otlpHeaders && Redacted.value(config.otlpHeaders)).toEqual({ "api-key": "s ecret", x: "1" })
      yield* requireServers(config)
    })
  )

  it.effect("keeps its secrets to itself", () =>
    Effect.gen(function* () {
      const config = yield* read({
        DATABASE_URL: "postgres://u:hush@db/datamcp",
        NATS_URL: "nats://u:hush@nats:4222",
        REDIS_URL: "redis://:hush@cache",
        OTEL_EXPORTER_OTLP_HEADERS: "api-key=hush"
      })
      expect(config.nats).toMatchObject({ servers: ["nats:4222"], tls: false, credentials: { _tag: "Password" } })
      expect(JSON.stringify(config)).not.toContain("hush")
      expect(config.databaseUrl && Redacted.value(config.databaseUrl)).toBe("postgres://u:hush@db/datamcp")
    })
  )

  it.effect("is warned about what is not used and what does not exist", () =>
    Effect.gen(function* () {
      const { warnings } = yield* read({ REDIS_URL: "redis://cache", DATAMCP_NODENAME: "x", DATAMCP_URL: "http://x" })
      expect(warnings).toHaveLength(2)
      expect(warnings[0]).toContain("DATAMCP_NODENAME is set, but no such variable exists")
      expect(warnings[1]).toContain("REDIS_URL")
    })
  )
})

describe("a wrong value", () => {
  it.effect("stops the start with the variable's name, what was expected, what it is and an example", () =>
    Effect.gen(function* () {
      expect(yield* mistakesOf({ PORT: "eighty" })).toEqual([
        'PORT: expected a whole number from 0 to 65535; got "eighty". Example: PORT=8080'
      ])
    })
  )

  it.effect("is told together with all others", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(read({ PORT: "-1", LOG_LEVEL: "loud", DATAMCP_DRAIN: "soon" }))
      expect(problem.mistakes.map((mistake) => mistake.split(":")[0])).toEqual(["PORT", "DATAMCP_DRAIN", "LOG_LEVEL"])
      expect(problem.message).toContain("The configuration is wrong:\n  PORT:")
    })
  )

  it.effect.each([
    ["DATABASE_URL", "mysql://u:hush@db/x"],
    ["DATABASE_URL", "hush"],
    ["DATABASE_URL", "postgres://u:hush@a:5432,:5433/x"],
    ["DATABASE_URL", "postgres://u:hush@a:5432,b:x/x"],
    ["NATS_URL", "nats://u:hush@"],
    ["NATS_URL", "nats://u:hush@a,nats://b"],
    ["NATS_URL", "nats://u:hush@a,tls://u:hush@b"],
    ["REDIS_URL", "http://u:hush@cache"],
    ["OTEL_EXPORTER_OTLP_HEADERS", "hush"],
    ["OTEL_EXPORTER_OTLP_HEADERS", "a=hush%2"]
  ] as const)("of a secret is not repeated: %s", ([name, value]) =>
    Effect.gen(function* () {
      const [mistake = ""] = yield* mistakesOf({ [name]: value })
      expect(mistake).toContain(`${name}: expected`)
      expect(mistake).not.toContain("hush")
    })
  )

  it.effect.each([
    ["PORT", "65536"],
    ["PORT", "8e3"],
    ["HOST", "a b"],
    ["HOST", "http://x"],
    ["DATAMCP_NODE_NAME", "a.b"],
    ["DATAMCP_NODE_NAME", ">"],
    ["DATAMCP_BEHAVIOURS", "a,,b"],
    ["DATAMCP_DRAIN", "0s"],
    ["DATAMCP_DRAIN", "10m"],
    ["DATABASE_CONNECTIONS", "1"],
    ["OTEL_TRACES_SAMPLER_ARG", "1.5"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"],
    ["LOG_FORMAT", "xml"],
    ["LOG_FORMAT", "toString"],
    ["DATABASE_PREPARE", "yes"],
    ["DATAMCP_NATS_REPLICAS", "2"]
  ] as const)("is refused: %s=%s", ([name, value]) =>
    Effect.gen(function* () {
      const mistakes = yield* mistakesOf({ [name]: value })
      expect(mistakes).toHaveLength(1)
      expect(mistakes[0]).toContain(`${name}: expected`)
      expect(mistakes[0]).toContain(`Example: ${name}=`)
    })
  )

  it.effect.each([
    [{ NATS_URL: "nats://a", NATS_USER: "u" }, "one is set without the other"],
    [{ NATS_URL: "nats://a", NATS_PASSWORD: "hush" }, "one is set without the other"],
    [{ NATS_URL: "nats://u:hush@a", NATS_TOKEN: "hush" }, "more than one way"],
    [{ NATS_URL: "nats://a", NATS_TOKEN: "hush", NATS_CREDS: "/x" }, "more than one way"],
    [{ NATS_TOKEN: "hush" }, "but no server"]
  ] as const)("may be a combination: %j", ([environment, message]) =>
    Effect.gen(function* () {
      const [mistake = ""] = yield* mistakesOf(environment)
      expect(mistake).toContain(message)
      expect(mistake).not.toContain("hush")
    })
  )

  it.effect("of the command line's variables is told the same way", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(readClient({ DATAMCP_URL: "localhost" }))
      expect(problem.message).toContain("DATAMCP_URL: expected a URL")
      const client = yield* readClient({ DATAMCP_API_KEY: "hush" })
      expect(`${JSON.stringify(client)}`).not.toContain("hush")
    })
  )
})
