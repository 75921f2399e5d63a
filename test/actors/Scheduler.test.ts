/** The scheduler: what is answered is committed, a key answers the same for ever, and excess is refused before it is stored. */
import { describe, expect, layer } from "@effect/vitest"
import { DateTime, Deferred, Effect, Exit, Fiber, Layer, Result, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { SchedulerLimits } from "../../actors/AcceptQueue.ts"
import { AgentDirectory } from "../../actors/AgentDirectory.ts"
import { Dispatcher } from "../../actors/Dispatcher.ts"
import { LargeDataLimits } from "../../actors/LargeData.ts"
import { LimitDirectory } from "../../actors/LimitDirectory.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { AgentId, NodeName, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { GraphTask, SubmitGraph, SubmitTask } from "../../protocol/Task.ts"
import * as AgentStorePostgres from "../../src/ledger/AgentStorePostgres.ts"
import { LimitRegistry } from "../../src/ledger/LimitRegistry.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import { countRows, eventTypes, rows, statuses } from "../ledger/LedgerHarness.ts"
import { agent, change, command, on, untilTrue, world } from "./ActorHarness.ts"

/** A task of a graph that an agent does. */
const node = (agentId: AgentId): GraphTask => ({ agent: agentId })

const times = (count: number) => Array.from({ length: count }, (_, index) => index)

/** A node that accepts, nothing above what fits into a task's row, and runs nothing. */
const accepting = Scheduler.layer.pipe(
  Layer.provide(Layer.succeed(LargeDataLimits, { bytesMax: Limits.payloadBytesMax })),
  Layer.provideMerge(Dispatcher.layer),
  Layer.provideMerge(Layer.mergeAll(AgentDirectory.layer, LimitDirectory.layer)),
  Layer.provideMerge(Layer.mergeAll(AgentStorePostgres.layer, LimitRegistry.layer)),
  Layer.provideMerge(PostgresLedger.layer(NodeName.make("solo")))
)

const answers = Effect.fnUntraced(function* (
  commands: ReadonlyArray<SubmitTask>,
  options?: { readonly atomic?: boolean }
) {
  return yield* (yield* Scheduler).submit(commands, options)
})

const accepted = (results: ReadonlyArray<Result.Result<{ readonly id: TaskId }, unknown>>) =>
  results.map((result) => Result.getOrThrow(result).id)

const fieldsOf = (results: ReadonlyArray<Result.Result<unknown, unknown>>) =>
  results.map((result) => {
    if (Result.isSuccess(result)) return "accepted"
    const problem = result.failure as {
      readonly _tag: string
      readonly errors?: ReadonlyArray<{ readonly field: string }>
    }
    return problem.errors?.map(({ field }) => field).join() ?? problem._tag
  })

/** Keeps every accept waiting until it is let go. */
const stalled = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const locked = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const fiber = yield* sql`lock table tasks in exclusive mode`.pipe(
    Effect.andThen(Deferred.succeed(locked, undefined)),
    Effect.andThen(Deferred.await(release)),
    sql.withTransaction,
    Effect.forkChild
  )
  yield* Deferred.await(locked)
  return Effect.andThen(Deferred.succeed(release, undefined), Fiber.join(fiber))
})

layer(accepting.pipe(Layer.provideMerge(world)), { excludeTestServices: true, timeout: "60 seconds" })(
  "the scheduler",
  (it) => {
    describe("answers", () => {
      it.effect("each command of a batch by itself, in order, after its commit", () =>
        Effect.gen(function* () {
          const agentId = yield* agent()
          const results = yield* answers([
            command(agentId),
            { agent: "nobody" },
            command(agentId, {}, { deadline: "2020-01-01T00:00:00Z" }),
            command(agentId, {}, { parent_id: TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0") }),
            { agent: agentId, payload: "half a \ud83d" },
            command(agentId, {}, { run_at: "2026-12-31T00:00:00Z" }),
            {}
          ])
          expect(fieldsOf(results)).toEqual(["accepted", "agent", "deadline", "parent_id", "", "accepted", "type"])
          expect(results[5] === undefined ? undefined : Result.getOrThrow(results[5])).toMatchObject({
            status: "pending",
            waiting_for: "time",
            duplicate: false
          })
          const ids = accepted([results[0], results[5]].flatMap((each) => (each === undefined ? [] : [each])))
          expect(yield* statuses(ids)).toEqual(["queued", "pending"])
        })
      )

      it.effect("a thousand concurrent callers each with their own", () =>
        Effect.gen(function* () {
          const agentId = yield* agent()
          const mine = yield* Effect.forEach(
            times(1_000),
            (index) =>
              Effect.map(
                answers([
                  command(
                    agentId,
                    {},
                    { name: `n${index}`, ...(index % 3 === 0 && { idempotency_key: `own-${index}` }) }
                  )
                ]),
                accepted
              ),
            { concurrency: "unbounded" }
          )
          const sql = yield* SqlClient.SqlClient
          const names = yield* sql<{ id: string; name: string }>`select id, name from tasks where agent_id = ${agentId}`
          const found = new Map(names.map(({ id, name }) => [id, name]))
          expect(mine.map(([id]) => found.get(id ?? ""))).toEqual(times(1_000).map((index) => `n${index}`))
        })
      )

      it.effect("a batch of large tasks, committed a few at a time", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const agentId = yield* agent()
          const large = accepted(yield* answers(times(6).map(() => ({ agent: agentId, payload: "x".repeat(100_000) }))))
          const commits = yield* sql`select distinct created_at from tasks where id = any (${large}::uuid[])`
          expect(commits.length).toBeGreaterThanOrEqual(4)
          const small = accepted(yield* answers(times(12).map(() => command(agentId))))
          expect(yield* sql`select distinct created_at from tasks where id = any (${small}::uuid[])`).toHaveLength(1)
        })
      )

      it.effect("an atomic batch with the refusal that undid it, at its item, and stores nothing", () =>
        Effect.gen(function* () {
          const agentId = yield* agent()
          const before = yield* countRows("tasks")
          const unknown = TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0")
          const bad: ReadonlyArray<readonly [SubmitTask, string]> = [
            [{ agent: "nobody" }, "2.agent"],
            [command(agentId, {}, { dependencies: [{ task_id: unknown }] }), "2.dependencies"],
            [command(agentId, {}, { parent_id: unknown }), "2.parent_id"]
          ]
          for (const [last, field] of bad) {
            const results = yield* answers([command(agentId), command(agentId), last], { atomic: true })
            expect(fieldsOf(results)).toEqual([field, field, field])
          }
          expect(yield* countRows("tasks")).toBe(before)
        })
      )
    })

    describe("an idempotency key", () => {
      it.effect("answers as the first time, whichever agent the same command would go to now", () =>
        Effect.gen(function* () {
          yield* agent()
          yield* agent()
          const same: SubmitTask = { type: "probe.act", payload: { n: 1 }, idempotency_key: "routed" }
          const [first, ...others] = yield* Effect.forEach(times(6), () => answers([same]))
          const told = first?.map((each) => Result.getOrThrow(each))
          for (const other of others)
            expect(other.map((each) => Result.getOrThrow(each))).toEqual(
              told?.map((each) => ({ ...each, duplicate: true }))
            )
        })
      )

      it.effect("answers although the same command would be refused by now", () =>
        Effect.gen(function* () {
          const agentId = yield* agent()
          const soon: SubmitTask = command(
            agentId,
            {},
            {
              deadline: DateTime.formatIso(DateTime.add(yield* DateTime.now, { milliseconds: 300 })),
              idempotency_key: "too-late"
            }
          )
          const here: SubmitTask = command(agentId, {}, { idempotency_key: "agent-gone" })
          const first = accepted(yield* answers([soon, here]))
          yield* change(agentId, { status: "terminated" })
          const directory = yield* AgentDirectory
          yield* untilTrue(() => directory.byId(agentId) === undefined && Date.parse(soon.deadline ?? "") < Date.now())
          for (const atomic of [false, true]) {
            const again = yield* answers([soon, here], { atomic })
            expect(again.map((each) => Result.getOrThrow(each))).toMatchObject(
              first.map((id) => ({ id, duplicate: true, agent_id: agentId }))
            )
          }
          const changed = yield* answers([
            { ...soon, name: "another" },
            { ...here, idempotency_key: "never-used" }
          ])
          expect(fieldsOf(changed)).toEqual(["IdempotencyMismatch", "agent"])
        })
      )

      it.effect("of a graph answers although its agent has gone", () =>
        Effect.gen(function* () {
          const scheduler = yield* Scheduler
          const agentId = yield* agent()
          const graph: SubmitGraph = {
            tasks: { a: node(agentId), b: { ...node(agentId), dependencies: ["a"] } },
            idempotency_key: "graph-agent-gone"
          }
          const first = yield* scheduler.submitGraph(graph)
          yield* change(agentId, { status: "terminated" })
          const directory = yield* AgentDirectory
          yield* untilTrue(() => directory.byId(agentId) === undefined)
          expect(yield* scheduler.submitGraph(graph)).toMatchObject({ id: first.id, duplicate: true })
          expect(yield* Effect.flip(scheduler.submitGraph({ ...graph, name: "another" }))).toMatchObject({
            _tag: "IdempotencyMismatch"
          })
        })
      )
    })

    describe("a graph", () => {
      it.effect("is stored whole, or refused with the field of the task at fault", () =>
        Effect.gen(function* () {
          const scheduler = yield* Scheduler
          const agentId = yield* agent()
          const before = yield* countRows("tasks")
          const refused = [
            { tasks: {} },
            { tasks: { a: { agent: "nobody" } } },
            { tasks: { a: node(agentId), b: { ...node(agentId), dependencies: ["c"] } } },
            {
              tasks: {
                a: { ...node(agentId), dependencies: ["b"] },
                b: { ...node(agentId), dependencies: ["a"] }
              }
            },
            { tasks: { a: { agent: agentId, payload: { $result: "b" } }, b: node(agentId) } },
            { tasks: { a: { agent: agentId, payload: "x".repeat(300_000) } } },
            {
              tasks: Object.fromEntries(
                times(110).map((index) => [
                  `t${index}`,
                  { agent: agentId, dependencies: times(1_000).map((at) => `t${at}`) }
                ])
              )
            }
          ]
          const problems = yield* Effect.forEach(refused, (graph) => Effect.flip(scheduler.submitGraph(graph)))
          const fields = problems.map((problem) =>
            problem._tag === "InvalidInput"
              ? problem.errors[0]?.field
              : problem._tag === "TooLarge"
                ? problem.field
                : problem._tag
          )
          expect(fields).toEqual([
            "tasks",
            "tasks.a.agent",
            "tasks.b.dependencies",
            "tasks",
            "tasks.a.payload",
            "tasks.a.payload",
            "tasks"
          ])
          expect(yield* countRows("tasks")).toBe(before)
          const { tasks } = yield* scheduler.submitGraph({
            tasks: { a: node(agentId), b: { ...node(agentId), dependencies: ["a"] } },
            labels: { run: "1" }
          })
          expect((yield* rows(Object.values(tasks))).map(({ status }) => status)).toEqual(["queued", "pending"])
        })
      )
    })

    describe("too much at once", () => {
      const small = Layer.effect(
        SchedulerLimits,
        Effect.map(SchedulerLimits, (limits) => ({ ...limits, mailboxTasks: 10, commitTasks: 2 }))
      )

      it.effect("is refused before anything of it is stored; what was taken is not shed", () =>
        Effect.gen(function* () {
          const agentId = yield* agent()
          const other = yield* Layer.build(Layer.fresh(accepting).pipe(Layer.provide(small)))
          const scheduler = yield* Scheduler.pipe(on(other))
          const release = yield* stalled
          // What is in a transaction waits no more; ten tasks beside that may wait.
          const busy = yield* Effect.forEach(times(2), () =>
            Effect.forkChild(answers([command(agentId), command(agentId)]).pipe(on(other)))
          )
          yield* Effect.yieldNow.pipe(Effect.repeat({ times: 50 }))
          const waiting = yield* Effect.forEach(times(2), () =>
            Effect.forkChild(answers(times(5).map(() => command(agentId))).pipe(on(other)))
          )
          yield* Effect.yieldNow.pipe(Effect.repeat({ times: 50 }))
          const refused = [
            yield* Effect.flip(scheduler.submit([command(agentId)])),
            yield* Effect.flip(scheduler.submit([command(agentId)], { atomic: true })),
            yield* Effect.flip(scheduler.submitGraph({ tasks: { a: node(agentId) } }))
          ]
          expect(refused).toMatchObject(times(3).map(() => ({ _tag: "Overloaded", retry_after_seconds: 1 })))
          yield* release
          const taken = (yield* Effect.forEach([...busy, ...waiting], Fiber.join)).flatMap(accepted)
          expect(taken).toHaveLength(14)
          const sql = yield* SqlClient.SqlClient
          expect(yield* sql`select id from tasks where agent_id = ${agentId}`).toHaveLength(14)
          expect(yield* answers([command(agentId)]).pipe(on(other))).toHaveLength(1)
        })
      )

      it.effect("of atomic batches and graphs is bounded as well", () =>
        Effect.gen(function* () {
          const agentId = yield* agent()
          const other = yield* Layer.build(Layer.fresh(accepting).pipe(Layer.provide(small)))
          const release = yield* stalled
          const waiting = yield* Effect.forEach(times(2), () =>
            Effect.forkChild(
              answers(
                times(5).map(() => command(agentId)),
                { atomic: true }
              ).pipe(on(other))
            )
          )
          yield* Effect.yieldNow.pipe(Effect.repeat({ times: 50 }))
          const excess = yield* Effect.flip(answers([command(agentId)], { atomic: true }).pipe(on(other)))
          expect(excess._tag).toBe("Overloaded")
          yield* release
          for (const fiber of waiting) expect(accepted(yield* Fiber.join(fiber))).toHaveLength(5)
        })
      )
    })

    it.effect("when the node ends, callers that wait are told that the outcome is not known", () =>
      Effect.gen(function* () {
        const agentId = yield* agent()
        const scope = yield* Scope.make()
        const other = yield* Layer.build(Layer.fresh(accepting)).pipe(Scope.provide(scope))
        const release = yield* stalled
        const waiting = yield* Effect.forEach(times(8), () =>
          Effect.forkChild(answers([command(agentId)]).pipe(on(other)))
        )
        yield* Effect.yieldNow.pipe(Effect.repeat({ times: 50 }))
        yield* Scope.close(scope, Exit.void)
        yield* release
        for (const fiber of waiting) {
          const exit = yield* Effect.timeoutOption(Fiber.await(fiber), "2 seconds")
          expect(exit).toMatchObject({
            _tag: "Some",
            value: { _tag: "Failure", cause: { reasons: [{ error: { _tag: "Unavailable" } }] } }
          })
        }
      })
    )

    it.effect("a retried task is linked to the one it repeats", () =>
      Effect.gen(function* () {
        const scheduler = yield* Scheduler
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent()
        const [first] = accepted(yield* answers([command(agentId)]))
        if (first === undefined) return
        const second = yield* scheduler.submitOne(command(agentId), first)
        expect(yield* sql`select retry_of from tasks where id = ${second.id}`).toEqual([{ retry_of: first }])
        expect(yield* eventTypes(second.id)).toEqual(["TaskCreated"])
      })
    )

    it.effect("an agent that this node has not heard of is looked up before it is refused", () =>
      Effect.gen(function* () {
        const directory = yield* AgentDirectory
        const agentId = AgentId.make(yield* agent())
        expect(directory.byId(agentId)).toBeUndefined()
        expect(fieldsOf(yield* answers([command(agentId)]))).toEqual(["accepted"])
        expect(directory.byId(agentId)?.id).toBe(agentId)
      })
    )
  }
)
