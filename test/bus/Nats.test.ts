/** The connection at start and at the end, and streams that are not as ours are. */
import { describe, expect, it } from "@effect/vitest"
import { jetstreamManager, RetentionPolicy } from "@nats-io/jetstream"
import { Cause, Duration, Effect, Exit, Layer, Redacted, Scope } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Nats, NatsLimits } from "../../src/bus/Nats.ts"
import type { NatsOptions } from "../../src/bus/NatsConnecting.ts"
import { freePort } from "../support/ServerMakers.ts"
import { ownNats } from "../support/Servers.ts"
import * as Fixture from "./BusFixture.ts"

const impatient = Layer.effect(
  NatsLimits,
  Effect.map(NatsLimits, (limits) => ({ ...limits, connectPatience: Duration.millis(600) }))
)

const failureOf = <A, E extends { readonly message: string }>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    const reason = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason) : undefined
    return reason?.error.message ?? `no failure: ${JSON.stringify(exit)}`
  })

const connectTo = (options: NatsOptions) =>
  Effect.scoped(Layer.build(Nats.layer(options).pipe(Layer.provide(impatient))))

const password = { user: "node", password: Redacted.make("right") }

describe("a connection", () => {
  it.live("to nobody fails within its patience and names the server", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const began = performance.now()
      expect(yield* failureOf(connectTo(Fixture.accessTo(`nats://127.0.0.1:${port}`)))).toBe(
        `NATS could not be reached at nats://127.0.0.1:${port}: connection refused`
      )
      expect(performance.now() - began).toBeLessThan(3_000)
    })
  )

  it.live("with wrong credentials fails at once, says so, and does not repeat them", () =>
    Effect.gen(function* () {
      const { natsUrl } = yield* ownNats([password])
      const wrong = {
        ...Fixture.accessTo(natsUrl),
        credentials: { _tag: "Password", user: "node", password: Redacted.make("wrong-secret") }
      } as const
      const message = yield* failureOf(connectTo(wrong))
      expect(message).toContain(`NATS at ${natsUrl} refuses our credentials`)
      expect(message).not.toContain("wrong-secret")
      yield* connectTo({ ...wrong, credentials: { _tag: "Password", ...password } })
    }).pipe(Effect.scoped)
  )

  it.live("with a credentials file that is not there says which", () =>
    Effect.gen(function* () {
      const options = {
        ...Fixture.accessTo("nats://127.0.0.1:1"),
        credentials: { _tag: "File", path: "/nowhere.creds" }
      } as const
      expect(yield* failureOf(connectTo(options))).toContain("/nowhere.creds")
    })
  )

  it.live("finds the server that is up among those that are not, and keeps them all in mind", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const down = `nats://127.0.0.1:${yield* freePort}`
      yield* Effect.gen(function* () {
        const { connection } = yield* Nats
        expect(connection.getServers().length).toBe(2)
      }).pipe(Effect.provide(Nats.layer({ ...Fixture.accessTo(nats.natsUrl), servers: [down, nats.natsUrl] })))
    }).pipe(Effect.scoped)
  )

  it.live("ends within its bound though the server is frozen or dead", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      for (const mistreat of [nats.freeze, Effect.andThen(nats.thaw, nats.kill9)]) {
        const scope = yield* Scope.make()
        yield* Scope.provide(Layer.build(Fixture.busAt(nats.natsUrl)), scope)
        yield* mistreat
        const began = performance.now()
        yield* Scope.close(scope, Exit.void)
        expect(performance.now() - began).toBeLessThan(6_000)
        yield* nats.thaw
      }
    }).pipe(Effect.scoped)
  )

  it.live("hands over what was published before it ends", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const agent = Fixture.newAgent()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        yield* bus.dispatch(Fixture.orders(agent, Fixture.range(2_000), 1))
      }).pipe(Effect.provide(Fixture.busAt(nats.natsUrl)))
      yield* Effect.gen(function* () {
        const consumer = yield* Fixture.collect(agent)
        yield* Fixture.eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 2_000
        )
      }).pipe(Effect.provide(Fixture.busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )
})

describe("streams", () => {
  it.live("of two nodes that start at the same time are made once, and a third finds them", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const start = Effect.scoped(Layer.build(Fixture.busAt(nats.natsUrl)))
      yield* Effect.all([start, start, start], { concurrency: 3 })
      yield* start
    }).pipe(Effect.scoped)
  )

  it.live("are changed to what they should be, and keep what an operator has added", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const stranger = yield* Fixture.stranger(nats.natsUrl)
      const manager = yield* Effect.promise(() => jetstreamManager(stranger))
      yield* Effect.promise(() =>
        manager.streams.add({
          name: "TASKS",
          subjects: ["task.>"],
          retention: RetentionPolicy.Workqueue,
          max_bytes: 1_000_000,
          metadata: { owner: "operations" }
        })
      )
      yield* Effect.scoped(Layer.build(Fixture.busAt(nats.natsUrl)))
      const { config } = yield* Effect.promise(() => manager.streams.info("TASKS"))
      expect(config.max_bytes).toBe(1024 * 1024 * 1024)
      expect(config.metadata?.["owner"]).toBe("operations")
    }).pipe(Effect.scoped)
  )

  it.live("of somebody else by our name stop the start, with what to do", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const stranger = yield* Fixture.stranger(nats.natsUrl)
      const manager = yield* Effect.promise(() => jetstreamManager(stranger))
      yield* Effect.promise(() => manager.streams.add({ name: "TASKS", subjects: ["their.>"] }))
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(Fixture.busAt(nats.natsUrl))))
      expect(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "").toMatch(/TASKS with retention "limits".*not ours/s)
    }).pipe(Effect.scoped)
  )
})
