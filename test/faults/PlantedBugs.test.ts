/**
 * Bugs that a platform like this one could have, planted by swapping layers of real actors on a real database: each run is
 * an ordinary one but for the swap, and the history checker must find it. The same run without one is clean.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Result } from "effect"
import { SqlClient } from "effect/sql"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { NodeName, type TaskId } from "../../protocol/Ids.ts"
import type { SubmitTask } from "../../protocol/Task.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as Actors from "../actors/ActorHarness.ts"
import { Probe } from "../actors/Probe.ts"
import * as Database from "../ledger/Database.ts"
import { freshDatabase } from "../support/Servers.ts"
import { check, type Verdict } from "./Checker.ts"
import { readStored } from "./FinalState.ts"
import { makeHistory } from "./History.ts"
import type { SinkEntry } from "./Rig.ts"

type LedgerShape = Ledger["Service"]
type BusShape = Bus["Service"]

interface Plant {
  readonly ledger?: (real: LedgerShape, sql: SqlClient.SqlClient) => Partial<LedgerShape>
  readonly bus?: (real: BusShape) => Partial<BusShape>
}

/** True for every fifth that asks. */
const everyFifth = () => {
  let count = 0
  return () => ++count % 5 === 0
}

/** The ledger of a node with some of its methods swapped. */
const ledgerOf = (name: string, plant: Plant) => {
  const real = PostgresLedger.layer(NodeName.make(name))
  const swap = plant.ledger
  if (swap === undefined) return real
  return Layer.effect(
    Ledger,
    Effect.gen(function* () {
      const whole = yield* Ledger
      return Ledger.of({ ...whole, ...swap(whole, yield* SqlClient.SqlClient) })
    })
  ).pipe(Layer.provide(real))
}

const worldOf = (url: Redacted.Redacted, plant: Plant) => {
  const world = Actors.worldOn(Database.on(Effect.succeed(url)))
  const swap = plant.bus
  if (swap === undefined) return world
  return Layer.effect(
    Bus,
    Effect.map(Bus, (real) => Bus.of({ ...real, ...swap(real) }))
  ).pipe(Layer.provideMerge(world))
}

/**
 * Two nodes that share a database and a bus. Tasks with keys, submitted twice at once; tasks that fail first; a child of a fast
 * and a slow parent; tasks that may run once only. In the middle everything moves to the other node, which the first one is
 * not told of. Two seconds later whatever has not ended has been left behind.
 */
const run = (plant: Plant): Effect.Effect<Verdict> =>
  Effect.gen(function* () {
    const url = yield* freshDatabase()
    const history = makeHistory()
    const sink: Array<SinkEntry> = []
    yield* Effect.gen(function* () {
      const cluster = Actors.switchable()
      cluster.move("one")
      const one = yield* Actors.start("one", cluster.of("one"), ledgerOf("one", plant))
      yield* Actors.start("two", cluster.of("two"), ledgerOf("two", plant))
      const probe = yield* Probe
      const agent = yield* Actors.agent({ concurrency: 30, instances: 2, retry: { max_attempts: 20, delay_ms: 20 } })

      const submit = (key: string, command: SubmitTask) =>
        Effect.gen(function* () {
          const scheduler = yield* Scheduler
          const operation = history.invoke({ kind: "submit", key, node: "one" })
          const [answer] = yield* scheduler.submit([{ ...command, idempotency_key: key }]).pipe(Effect.orDie)
          const id = answer === undefined ? undefined : Result.getOrThrow(answer).id
          history.end(operation, { outcome: "ok", status: 202, taskId: id, taskIds: id === undefined ? [] : [id] })
          return id as TaskId
        }).pipe(Actors.on(one))

      const ordinary = Array.from({ length: 30 }, (_, number) => `op-${number}`)
      const commandOf = (number: number) =>
        number % 3 === 0 ? Actors.command(agent, { do: "fail", times: 1 }) : Actors.command(agent)
      yield* Effect.forEach(
        [...ordinary.entries(), ...ordinary.slice(0, 10).entries()],
        ([number, key]) => submit(key, commandOf(number)),
        { concurrency: "unbounded" }
      )
      const fast = yield* submit("fast", Actors.command(agent, { do: "wait", gate: "fast" }))
      const slow = yield* submit("slow", Actors.command(agent, { do: "wait", gate: "slow" }))
      const dependencies = [fast, slow].map((task_id) => ({ task_id }))
      yield* submit("child", Actors.command(agent, {}, { dependencies }))
      const configuration = { delivery: "at_most_once" as const }
      for (let number = 0; number < 3; number++) {
        yield* submit(`once-${number}`, Actors.command(agent, { do: "wait", gate: "move" }, { configuration }))
        yield* submit(`held-${number}`, Actors.command(agent, { do: "wait", gate: "move" }))
      }
      yield* Effect.sleep("200 millis")
      yield* probe.gate("fast").open
      yield* Effect.sleep("500 millis")
      // The first node goes on with what it has: it was not told.
      cluster.move("two", ["two"])
      yield* Effect.sleep("300 millis")
      yield* probe.gate("move").open
      yield* Effect.sleep("200 millis")
      yield* probe.gate("slow").open
      yield* Effect.sleep("2000 millis")
      sink.push(...probe.made.map(({ taskId }) => ({ key: taskId, label: "", at: 0, answered: true })))
    }).pipe(Effect.provide(worldOf(url, plant)), Effect.scoped)
    const stored = yield* Effect.promise(() => readStored(Redacted.value(url)))
    const ended = ["completed", "failed", "timeout", "cancelled"]
    const isQuiet = stored.tasks.every(({ status }) => ended.includes(status))
    // The agent was put there without the registry, and has no event of its own.
    const breaches = stored.breaches.filter((breach) => breach.check !== "agent-events")
    const deadLetters = stored.tasks.filter(({ status }) => status === "failed").map(({ id }) => id)
    return check({
      ...{ seed: 0, operations: history.operations, sink, state: { ...stored, breaches, deadLetters } },
      // What is calm and what a fault is says nothing here: the move is the fault.
      ...{ calm: [{ from: 0, to: Number.POSITIVE_INFINITY }], faultsObserved: 1, serialAgents: [] },
      ...{ quietAfterMillis: isQuiet ? 0 : undefined, quietBoundMillis: 2_000 }
    })
  }).pipe(Effect.scoped, Effect.orDie)

const bugs: ReadonlyArray<{ readonly bug: string; readonly check: string; readonly plant: () => Plant }> = [
  {
    bug: "a submission is answered before its commit, which does not come",
    check: "C1",
    plant: () => {
      const isLost = everyFifth()
      return {
        ledger: (real) => ({
          accept: (tasks, options) =>
            // Not those that others depend on, which could not be submitted then.
            tasks.every(({ idempotency }) => !/fast|slow|child/.test(idempotency?.key ?? "")) && isLost()
              ? Effect.succeed(
                  tasks.map(() => {
                    return {
                      _tag: "Accepted",
                      status: "queued",
                      waitingFor: undefined,
                      createdAt: "2026-01-01T00:00:00Z"
                    }
                  })
                )
              : real.accept(tasks, options)
        })
      }
    }
  },
  {
    bug: "an end is recorded without a look at epoch or attempt",
    check: "C3",
    plant: () => ({
      ledger: (_, sql) => ({
        lost: () => Effect.succeed([]),
        settle: (_slot, task, end) =>
          Effect.as(
            sql`with ended as (
                update tasks set status = 'completed', waiting_for = null, version = version + 1, completed_at = coalesce(completed_at, now())
                where id = ${task.id} returning id, version, namespace
              ) insert into events (aggregate, number, kind, type, namespace)
              select id, version, 'task', 'TaskCompleted', namespace from ended`,
            { recorded: end._tag === "Completed" }
          ).pipe(Effect.orDie)
      })
    })
  },
  {
    bug: "dispatch forgets what was not acknowledged, and nobody asks Postgres",
    check: "C1",
    plant: () => {
      const isLost = everyFifth()
      return {
        bus: (real) => ({ dispatch: (orders) => (isLost() ? Effect.void : real.dispatch(orders)) }),
        ledger: () => ({ backlog: () => Effect.succeed([]) })
      }
    }
  },
  {
    bug: "a message is acknowledged before its claim, which does not come, and nobody asks Postgres",
    check: "C1",
    plant: () => {
      const isLost = everyFifth()
      return {
        bus: (real) => ({
          consume: (options) =>
            real.consume({
              ...options,
              onDelivery: (delivery) => {
                delivery.ack()
                if (!isLost()) options.onDelivery({ ...delivery, ack: () => {} })
              }
            })
        }),
        ledger: () => ({ backlog: () => Effect.succeed([]) })
      }
    }
  },
  {
    bug: "a doubled message is known by its id only: its claim is taken for granted minutes later",
    check: "C5",
    plant: () => ({
      bus: (real) => ({
        dispatch: (orders) =>
          Effect.andThen(real.dispatch(orders), Effect.forkDetach(Effect.delay(real.dispatch(orders), "600 millis")))
      }),
      ledger: (real) => ({
        claim: (slot, orders) =>
          Effect.map(real.claim(slot, orders), ({ claimed }) => {
            const won = new Map(claimed.map((entry) => [entry.id, entry] as const))
            const granted = orders.map(({ id }) => {
              return won.get(id) ?? { id, attempt: 1, startedBy: 1, startedAtMillis: Date.now(), payload: undefined }
            })
            return { fenced: false, claimed: granted }
          })
      })
    })
  },
  {
    bug: "timers follow a wall clock that was set back",
    check: "C16",
    plant: () => ({ ledger: () => ({ queueDue: () => Effect.succeed(0) }) })
  },
  {
    bug: "the end of a parent is counted twice",
    check: "C8",
    plant: () => ({
      ledger: (real, sql) => ({
        settle: (slot, task, end, options) =>
          Effect.tap(real.settle(slot, task, end, options), () =>
            sql`with ready as (
                update tasks t set dependencies_open = 0, status = 'queued', waiting_for = null, queued_at = now(), version = version + 1
                from task_dependencies d where d.parent_id = ${task.id} and t.id = d.child_id and t.status = 'pending'
                  and t.dependencies_open <= 1
                returning t.id, t.version, t.namespace
              ) insert into events (aggregate, number, kind, type, namespace)
              select id, version, 'task', 'TaskQueued', namespace from ready`.pipe(Effect.orDie)
          )
      })
    })
  },
  {
    bug: "an idempotency key is looked up before the transaction and kept after it",
    check: "C11",
    plant: () => {
      const known = new Map<string, string>()
      return {
        ledger: (real) => ({
          accept: (tasks, options) =>
            Effect.gen(function* () {
              const fresh = tasks.map((task) => ({ ...task, idempotency: undefined }))
              yield* Effect.sleep("20 millis")
              const outcomes = yield* real.accept(fresh, options)
              for (const { id, idempotency } of tasks) known.set(idempotency?.key ?? id, id)
              return outcomes
            })
        })
      }
    }
  },
  {
    bug: "a task that may run at most once is queued again when its instance is lost",
    check: "C5",
    plant: () => ({
      ledger: (real, sql) => ({
        takeOver: (instance) =>
          Effect.gen(function* () {
            const once = yield* sql<{ id: string }>`
              update tasks set at_most_once = false where at_most_once and status = 'running' returning id`.pipe(
              Effect.orDie
            )
            const taken = yield* real.takeOver(instance)
            for (const { id } of once) {
              yield* sql`update tasks set at_most_once = true where id = ${id}`.pipe(Effect.orDie)
            }
            return taken
          })
      })
    })
  }
]

const brokenOf = (verdict: Verdict) => verdict.checks.filter(({ outcome }) => outcome === "broken").map(({ id }) => id)

describe("the history checker, on runs of real actors", () => {
  it.live(
    "finds every planted bug, and nothing where none is planted, though everything moves in the middle",
    () =>
      Effect.gen(function* () {
        const clean = yield* run({})
        expect(clean.checks.filter(({ outcome }) => outcome === "broken")).toEqual([])
        expect(clean.verdict).toBe("pass")
        // The move lost attempts: a call more of what may run again, none of what may not.
        expect(clean.figures.effectsRepeated).toBeGreaterThan(0)
        expect(clean.figures.unknownOutcomes).toBeGreaterThan(0)
        const verdicts = yield* Effect.forEach(bugs, ({ plant }) => run(plant()), { concurrency: 3 })
        for (const [number, { bug, check: id }] of bugs.entries()) {
          const verdict = verdicts[number] ?? clean
          expect({ bug, broken: brokenOf(verdict) }).toEqual({ bug, broken: expect.arrayContaining([id]) })
          expect(verdict.verdict).toBe("violated")
        }
      }),
    90_000
  )
})
