/** Word of a cancel that comes while a claim is under way, and is not true: what the claim won must not run for nobody. */
import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { NodeName } from "../../protocol/Ids.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import { agent, command, ended, on, start, submit, world } from "./ActorHarness.ts"

/** The first claim that wins something is answered after its tasks were said to be cancelled. */
const withLateWord = Layer.effect(
  Ledger,
  Effect.gen(function* () {
    const ledger = yield* Ledger
    const bus = yield* Bus
    let said = false
    return Ledger.of({
      ...ledger,
      claim: (slot, orders, ...rest) =>
        Effect.tap(ledger.claim(slot, orders, ...rest), ({ claimed }) => {
          if (said || claimed.length === 0) return Effect.void
          said = true
          const tasks = claimed.map(({ id }) => id)
          // Handlers are called before what is queued after them.
          return Effect.andThen(
            bus.notify({ _tag: "Interrupt", agent: slot.agentId, tasks }),
            Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
          )
        })
    })
  })
).pipe(Layer.provide(PostgresLedger.layer(NodeName.make("late"))))

it.live("a claim that wins though its task was said to be cancelled gives it back, without an attempt", () =>
  Effect.gen(function* () {
    const node = yield* start("late", undefined, withLateWord)
    const agentId = yield* agent()
    const ids = yield* submit([command(agentId), command(agentId)]).pipe(on(node))
    const rows = yield* ended(ids, "10 seconds")
    expect(rows.map(({ attempt, status }) => [status, attempt])).toEqual([
      ["completed", 1],
      ["completed", 1]
    ])
  }).pipe(Effect.scoped, Effect.provide(world))
)
