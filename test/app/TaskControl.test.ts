/** Many tasks found and changed through the use cases, on the real ledger. */
import { expect, layer } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { AgentId, OperationId, TaskId } from "../../protocol/Ids.ts"
import { ListTasks } from "../../protocol/Query.ts"
import type { AcceptedTask } from "../../protocol/Task.ts"
import {
  ActOnTasks,
  DeadLetter,
  DryRun,
  Operation,
  TaskAttempt,
  TaskCounts as TaskCountsSchema
} from "../../protocol/TaskAction.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import * as OperationRunner from "../../src/app/OperationRunner.ts"
import { Replays } from "../../src/app/Replays.ts"
import { Retention } from "../../src/app/Retention.ts"
import * as RetentionSweep from "../../src/app/RetentionSweep.ts"
import { TaskControl } from "../../src/app/TaskControl.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import * as Harness from "../ledger/LedgerHarness.ts"
import { admin, as, principal, stranger } from "./as.ts"
import { layer as cases, echoAgent, submitTask } from "./Cases.ts"

const closed = { onExcessProperty: "error" } as const
const query = Schema.decodeUnknownSync(ListTasks)
const command = Schema.decodeUnknownSync(ActOnTasks)
const decodeOperation = Schema.decodeUnknownSync(Operation)
const live = { excludeTestServices: true, timeout: "60 seconds" } as const
const world = cases.pipe((base) => Replays.layer.pipe(Layer.provideMerge(base)))

/** Accepts echo tasks for an agent, that nobody runs. */
const submitted = Effect.fnUntraced(function* (agent: string, count: number, over: (n: number) => object = () => ({})) {
  const tasks = yield* Tasks
  return yield* Effect.forEach(Array.from({ length: count }), (_, n) =>
    tasks.submit(submitTask({ agent, type: "echo", ...over(n) }))
  )
})

/** Claims tasks of an agent and records an end for each. */
const ended = Effect.fnUntraced(function* (
  accepted: ReadonlyArray<AcceptedTask>,
  settlement: (n: number) => Parameters<Ledger["Service"]["settle"]>[2] = () => Harness.completed
) {
  const ledger = yield* Ledger
  const agentId = AgentId.make(accepted[0]?.agent_id ?? "")
  const slot = yield* Harness.lease(agentId)
  const orders = accepted.map(({ id, name, namespace, type }) => ({
    ...{ id, name, namespace, type, lane: "normal" as const, max_attempts: 5 }
  }))
  const { claimed } = yield* ledger.claim(slot, orders)
  yield* Effect.forEach(
    claimed,
    ({ attempt, id }, n) =>
      ledger.settle(slot, { id, namespace: Harness.home, attempt, trace: undefined }, settlement(n)),
    { concurrency: "unbounded" }
  )
})

/** Carries an operation out as the runner does, step by step. */
const carriedOut = Effect.fnUntraced(function* (answer: Operation | DryRun) {
  if ("dry_run" in answer) return yield* Effect.die("a dry run is no operation")
  const control = yield* TaskControl
  const step = yield* OperationRunner.makeStep
  while (yield* step);
  const operation = yield* control.operation(answer.id)
  expect(decodeOperation(operation, closed)).toEqual(operation)
  return operation
})

const statusesOf = (accepted: ReadonlyArray<AcceptedTask>) => Harness.statuses(accepted.map(({ id }) => id))
const ids = (accepted: ReadonlyArray<{ readonly id: TaskId }>) => accepted.map(({ id }) => id)

layer(world, live)("an action on many tasks", (it) => {
  it.effect("cancels what the filter finds and nothing else, and records an event for each", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      yield* echoAgent("many")
      const wanted = yield* submitted("many", 7, (n) => ({ payload: { customer: { id: n < 5 ? 42 : 7 } } }))
      const act = command({
        action: "cancel",
        filter: { agent: "many", where: "payload./customer/id=42" },
        reason: "sold out"
      })
      const looked = yield* control.act({ ...act, dry_run: true })
      expect(Schema.decodeUnknownSync(DryRun)(looked, closed)).toMatchObject({ matched: 5, complete: true })
      expect(yield* statusesOf(wanted)).toEqual(Array.from({ length: 7 }, () => "queued"))
      const operation = yield* carriedOut(yield* control.act(act))
      expect(operation).toMatchObject({ status: "completed", matched: 5, done: 5, failed: 0, skipped: 0 })
      const after = yield* statusesOf(wanted)
      expect(after).toEqual(["cancelled", "cancelled", "cancelled", "cancelled", "cancelled", "queued", "queued"])
      expect(yield* Harness.eventsOf(wanted[0]?.id ?? "")).toMatchObject([
        { type: "TaskCreated" },
        { type: "TaskCancelled", actor: "key:admin", data: { reason: "sold out" } }
      ])
      expect(yield* Harness.brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("leaves alone what was accepted after it, and takes a step that is repeated once", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const ledger = yield* Ledger
      const sql = yield* SqlClient.SqlClient
      yield* echoAgent("later")
      const before = yield* submitted("later", 3)
      const begun = yield* control.act(command({ action: "cancel", filter: { agent: "later" } }))
      const after = yield* submitted("later", 2)
      if ("dry_run" in begun) return yield* Effect.die("a dry run")
      const step = {
        ...{ operation: begun.id, from: begun.id, next: before[2]?.id, matched: 1, done: 0, failed: 0, errors: [] }
      }
      const first = ids(before).slice(2)
      const once = yield* ledger.control(
        Harness.home,
        first,
        { _tag: "Cancel", reason: undefined },
        { actor: "a", step }
      )
      expect(once.done).toEqual(first)
      const again = yield* ledger.control(
        Harness.home,
        ids(before),
        { _tag: "Cancel", reason: undefined },
        { actor: "a", step }
      )
      expect(again.done).toEqual([])
      expect(yield* statusesOf(before)).toEqual(["queued", "queued", "cancelled"])
      // As after a crash: the runner goes on where the operation stands.
      const operation = yield* carriedOut(begun)
      expect(operation).toMatchObject({ status: "completed", matched: 3, done: 3 })
      expect(yield* statusesOf(before)).toEqual(["cancelled", "cancelled", "cancelled"])
      expect(yield* statusesOf(after)).toEqual(["queued", "queued"])
      expect(yield* sql`select 1 from operations where status = 'running'`).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("moves waiting tasks to another lane or agent; what runs or ended stays where it is", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const tasks = yield* Tasks
      yield* echoAgent("from")
      const { id: to } = yield* echoAgent("to")
      const all = yield* submitted("from", 6)
      yield* ended(all.slice(0, 2))
      const urgent = yield* carriedOut(
        yield* control.act(command({ action: "prioritise", filter: { agent: "from" }, priority: "critical" }))
      )
      expect(urgent).toMatchObject({ matched: 4, done: 4 })
      const listed = yield* tasks.list(query({ agent: "from", priority: "critical" }))
      expect(ids(listed.data).toSorted()).toEqual(ids(all.slice(2)).toSorted())
      const moved = yield* carriedOut(
        yield* control.act(command({ action: "reroute", filter: { agent: "from" }, agent: "to" }))
      )
      expect(moved).toMatchObject({ matched: 4, done: 4 })
      const rows = yield* Harness.rows(ids(all))
      expect(rows.map(({ agent_id }) => agent_id === to)).toEqual([false, false, true, true, true, true])
      const events = yield* Harness.eventsOf(all[5]?.id ?? "")
      expect(events).toMatchObject([
        { type: "TaskCreated" },
        { type: "TaskMoved", data: { priority: "critical", priority_before: "normal" } },
        { type: "TaskMoved", data: { agent_id: to } }
      ])
      expect(yield* Harness.brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("refuses what it cannot mean, naming the field, and begins nothing", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const sql = yield* SqlClient.SqlClient
      const before = yield* sql`select count(*)::int as n from operations`
      const bad: ReadonlyArray<readonly [object, string]> = [
        [{ action: "cancel", filter: {} }, "filter"],
        [{ action: "cancel", filter: { status: "completed" } }, "filter.status"],
        [{ action: "delete", filter: { created_before: "2020-02-31T00:00:00Z" } }, "filter.created_before"],
        [{ action: "prioritise", filter: { status: "queued" } }, "priority"],
        [{ action: "reroute", filter: { status: "queued" } }, "agent"],
        [{ action: "reroute", filter: { status: "queued" }, agent: "nobody" }, "agent"],
        [{ action: "cancel", filter: { status: "queued" }, payload: 1 }, "payload"]
      ]
      for (const [given, field] of bad) {
        const refused = yield* Effect.flip(control.act(command(given)))
        expect({ given, refused }).toMatchObject({ given, refused: { _tag: "InvalidInput", errors: [{ field }] } })
      }
      expect(yield* sql`select count(*)::int as n from operations`).toEqual(before)
    }).pipe(as(admin))
  )

  it.effect("can be stopped, and then goes no further", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      yield* echoAgent("stopped")
      const all = yield* submitted("stopped", 2)
      const begun = yield* control.act(command({ action: "cancel", filter: { agent: "stopped" } }))
      if ("dry_run" in begun) return yield* Effect.die("a dry run")
      expect(yield* control.stopOperation(begun.id)).toMatchObject({ status: "cancelled" })
      expect(yield* Effect.flip(control.stopOperation(begun.id))).toMatchObject({ _tag: "Conflict" })
      expect(yield* carriedOut(begun)).toMatchObject({ status: "cancelled", matched: 0 })
      expect(yield* statusesOf(all)).toEqual(["queued", "queued"])
    }).pipe(as(admin))
  )

  it.effect("belongs to its namespace", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into namespaces (name) values ('stranger') on conflict do nothing`
      yield* echoAgent("walled")
      const all = yield* submitted("walled", 2)
      const filter = { created_before: "2999-01-01T00:00:00Z" }
      const theirs = yield* control.act(command({ action: "cancel", filter })).pipe(as(stranger))
      expect(yield* carriedOut(theirs).pipe(as(stranger))).toMatchObject({ status: "completed", matched: 0 })
      expect(yield* statusesOf(all)).toEqual(["queued", "queued"])
      if ("dry_run" in theirs) return
      expect(yield* Effect.flip(control.operation(theirs.id))).toMatchObject({ _tag: "OperationNotFound" })
      const unknown = OperationId.make("01900000-0000-7000-8000-000000000000")
      expect(yield* Effect.flip(control.operation(unknown))).toMatchObject({ _tag: "OperationNotFound" })
    }).pipe(as(admin))
  )

  it.effect("needs the permission of what it does", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const viewer = principal("viewer")
      const user = principal("api_user")
      for (const action of ["cancel", "retry", "delete", "acknowledge"] as const) {
        const act = control.act(command({ action, filter: { name: "x" } }))
        expect(yield* Effect.flip(act.pipe(as(viewer)))).toMatchObject({ _tag: "Forbidden" })
        if (action === "delete")
          expect(yield* Effect.flip(act.pipe(as(user)))).toMatchObject({ permission: "task:delete" })
      }
    })
  )
})

layer(world, live)("a dead letter", (it) => {
  it.effect("is shown with its cause and attempts until somebody has dealt with it", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      yield* echoAgent("dying")
      const [first, second, third] = yield* submitted("dying", 3)
      if (first === undefined || second === undefined || third === undefined) return yield* Effect.die("no tasks")
      const ledger = yield* Ledger
      const slot = yield* Harness.lease(AgentId.make(first.agent_id ?? ""))
      const run = (attempts: number, settlement: Parameters<typeof ledger.settle>[2]) =>
        Effect.gen(function* () {
          const { claimed } = yield* ledger.claim(slot, [
            {
              ...{ id: first.id, name: "n", namespace: Harness.home, type: first.type },
              ...{ lane: "normal", attempts, max_attempts: 5 }
            }
          ])
          const attempt = claimed[0]?.attempt ?? 0
          yield* ledger.settle(slot, { id: first.id, namespace: Harness.home, attempt, trace: undefined }, settlement)
        })
      yield* run(0, Harness.retryAfter(0))
      yield* ledger.queueDue(100)
      yield* run(1, Harness.released)
      yield* run(1, Harness.failed)
      const attempts = yield* control.attempts(first.id)
      expect(Schema.decodeUnknownSync(Schema.Array(TaskAttempt))(attempts, closed)).toEqual(attempts)
      expect(attempts).toMatchObject([
        {
          attempt: 1,
          outcome: "retried",
          error: { code: "no" },
          execution_time_ms: 4,
          retry_delay_ms: 0,
          node: "solo"
        },
        { attempt: 2, outcome: "released" },
        { attempt: 2, outcome: "failed", error: { code: "no" }, execution_time_ms: 2, instance: 0 }
      ])
      yield* ended([second, third], () => Harness.timedOut)
      const mine = Effect.map(control.deadLetters({ agent: "dying" }), ({ data }) => data)
      const found = yield* mine
      expect(Schema.decodeUnknownSync(Schema.Array(DeadLetter))(found, closed)).toEqual(found)
      expect(found.map(({ task }) => task.id)).toEqual([third.id, second.id, first.id])
      expect(found[2]).toMatchObject({ error: { code: "no" }, acknowledged: null, retried_as: [] })
      expect(found[2]?.attempts).toHaveLength(3)

      expect(yield* control.acknowledge(second.id, "not ours")).toMatchObject({
        acknowledged: { actor: "key:admin", note: "not ours" }
      })
      expect(yield* control.acknowledge(second.id, "again")).toMatchObject({ acknowledged: { note: "not ours" } })
      const replayed = yield* control.replay(third.id, {
        payload: { fixed: true },
        configuration: { timeout_ms: 7_000 }
      })
      expect((yield* mine).map(({ task }) => task.id)).toEqual([first.id])
      expect(yield* control.deadLetter(third.id)).toMatchObject({ retried_as: [replayed.id] })
      const tasks = yield* Tasks
      expect(yield* tasks.get(replayed.id)).toMatchObject({
        payload: { fixed: true },
        configuration: { timeout_ms: 7_000 },
        retry_of: third.id
      })
      expect(ids((yield* tasks.list(query({ retry_of: third.id }))).data)).toEqual([replayed.id])
      expect(yield* Effect.flip(control.acknowledge(replayed.id, undefined))).toMatchObject({ _tag: "TaskNotFound" })
      expect(yield* Effect.flip(control.replay(replayed.id, {}))).toMatchObject({ _tag: "Conflict" })
    }).pipe(as(admin))
  )

  it.effect("is replayed with many others once, also when the step is taken again", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const tasks = yield* Tasks
      const replays = yield* Replays
      yield* echoAgent("again")
      const all = yield* submitted("again", 5)
      yield* ended(all, (n) => (n === 0 ? Harness.completed : Harness.failed))
      const begun = yield* control.replayMany({ filter: { agent: "again", error: "no" }, payload: { n: 2 } })
      // A node that crashed after it had submitted one of them, and before it had recorded the step.
      const early = yield* replays.replay(
        all[1]?.id ?? TaskId.make(""),
        { payload: { n: 2 } },
        `operation/${begun.id}/${all[1]?.id}`
      )
      const sql = yield* SqlClient.SqlClient
      yield* sql`delete from acknowledgements`
      const operation = yield* carriedOut(begun)
      expect(operation).toMatchObject({ status: "completed", failed: 0 })
      const retries = yield* sql<{ retry_of: string; id: string }>`
        select retry_of, id from tasks where retry_of = any (${ids(all)}::uuid[]) order by retry_of`
      expect(retries.map(({ retry_of }) => retry_of)).toEqual(ids(all.slice(1)))
      expect(retries[0]?.id).toBe(early.id)
      expect((yield* control.deadLetters({ agent: "again" })).data).toEqual([])
      expect((yield* tasks.list(query({ agent: "again", status: "queued" }))).data).toHaveLength(4)
    }).pipe(as(admin))
  )
})

layer(world, live)("a single task", (it) => {
  it.effect("is moved while it waits, and deleted once it has ended and nobody needs it", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const tasks = yield* Tasks
      yield* echoAgent("single")
      const [parent] = yield* submitted("single", 1, () => ({ idempotency_key: "only once" }))
      if (parent === undefined) return yield* Effect.die("no task")
      expect(yield* control.prioritise(parent.id, "high")).toMatchObject({ priority: "high", version: 2 })
      // Again changes nothing and is no event.
      expect(yield* control.prioritise(parent.id, "high")).toMatchObject({ priority: "high", version: 2 })
      expect(yield* Effect.flip(control.remove(parent.id))).toMatchObject({ _tag: "Conflict", reason: "state" })
      const child = yield* tasks.submit(
        submitTask({ agent: "single", payload: { of: { $result: parent.id } }, dependencies: [{ task_id: parent.id }] })
      )
      yield* ended([parent])
      expect(yield* Effect.flip(control.prioritise(parent.id, "low"))).toMatchObject({ _tag: "Conflict" })
      const refused = yield* Effect.flip(control.remove(parent.id))
      expect(refused).toMatchObject({ _tag: "Conflict", detail: expect.stringContaining("still needed") })
      yield* ended([child])
      expect(yield* control.remove(parent.id)).toEqual({ id: parent.id, deleted: true })
      expect(yield* Effect.flip(control.remove(parent.id))).toMatchObject({ _tag: "TaskNotFound" })
      expect(yield* Harness.eventsOf(parent.id)).toEqual([])
      // Who deletes a task lets go of its key.
      const anew = yield* tasks.submit(submitTask({ agent: "single", idempotency_key: "only once" }))
      expect(anew).toMatchObject({ duplicate: false })
    }).pipe(as(admin))
  )

  it.effect("is not given to an agent that cannot do it, or that is not there", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      yield* echoAgent("able")
      yield* echoAgent("unable", { capabilities: [{ name: "other.work" }] })
      const [task] = yield* submitted("able", 1)
      if (task === undefined) return yield* Effect.die("no task")
      for (const agent of ["unable", "nobody"]) {
        const refused = yield* Effect.flip(control.reroute(task.id, agent))
        expect(refused).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "agent" }] })
      }
      const operation = yield* carriedOut(
        yield* control.act(command({ action: "reroute", filter: { agent: "able" }, agent: "unable" }))
      )
      expect(operation).toMatchObject({ matched: 1, done: 0, failed: 1, errors: [{ task_id: task.id }] })
    }).pipe(as(admin))
  )

  it.effect("that is moved and claimed at the same time is claimed or moved, and runs once", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const control = yield* TaskControl
      const { id: from } = yield* echoAgent("race-from")
      const { id: to } = yield* echoAgent("race-to")
      const all = yield* submitted("race-from", 200)
      const slots = [yield* Harness.lease(from), yield* Harness.lease(to)]
      const orders = all.map(({ id, name, namespace, type }) => ({
        ...{ id, name, namespace, type, lane: "normal" as const, max_attempts: 5 }
      }))
      const claims = (slot: (typeof slots)[number]) =>
        Effect.forEach(orders, (order) => ledger.claim(slot, [order]), { concurrency: 20 })
      const moves = Effect.forEach(all.toReversed(), ({ id }) => Effect.exit(control.reroute(id, "race-to")), {
        concurrency: 20
      })
      const [first] = yield* Effect.all([slots[0] === undefined ? Effect.succeed([]) : claims(slots[0]), moves], {
        concurrency: 2
      })
      const second = slots[1] === undefined ? [] : yield* claims(slots[1])
      const won = [...first, ...second].flatMap(({ claimed }) => claimed.map(({ id }) => id))
      expect(won.toSorted()).toEqual(ids(all).toSorted())
      expect(first.some(({ claimed }) => claimed.length > 0)).toBe(true)
      expect(yield* Harness.brokenHistories).toEqual([])
    }).pipe(as(admin))
  )
})

layer(world, live)("counts", (it) => {
  it.effect("are exact for ends, also of deleted tasks and of those without an agent", () =>
    Effect.gen(function* () {
      const control = yield* TaskControl
      const tasks = yield* Tasks
      yield* echoAgent("counted")
      const all = yield* submitted("counted", 10)
      yield* ended(all.slice(0, 6), (n) => (n < 4 ? Harness.completed : Harness.failed))
      yield* tasks.cancel(all[6]?.id ?? TaskId.make(""), undefined)
      const alone = yield* tasks.submit(submitTask({ type: "nobody.can" }))
      const waiting = yield* tasks.submit(submitTask({ type: "nobody.can" }))
      yield* tasks.cancel(alone.id, undefined)
      const counted = yield* control.counts({ by: "agent" })
      expect(Schema.decodeUnknownSync(TaskCountsSchema)(counted, closed)).toEqual(counted)
      expect(counted).toMatchObject({
        counts: { completed: 4, failed: 2, cancelled: 2, queued: 3, pending: 1, running: 0, timeout: 0 },
        at_least: [],
        agents: [{ name: "counted", counts: { completed: 4, failed: 2, cancelled: 1, queued: 3, pending: 0 } }]
      })
      yield* control.remove(all[0]?.id ?? TaskId.make(""))
      yield* control.remove(alone.id)
      expect(yield* control.counts({})).toMatchObject({ counts: { completed: 3, cancelled: 1 } })
      expect(yield* control.counts({ agent: "counted" })).toMatchObject({ counts: { completed: 3, cancelled: 1 } })
      expect(yield* Effect.flip(control.counts({ agent: "nobody" }))).toMatchObject({ _tag: "AgentNotFound" })
      yield* tasks.cancel(waiting.id, undefined)
      // As the rows have it.
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{
        status: string
        n: number
      }>`select status, count(*)::int as n from tasks group by status`
      const { counts } = yield* control.counts({})
      const present = Object.fromEntries(Object.entries(counts).filter(([, n]) => n > 0))
      expect(present).toEqual(Object.fromEntries(rows.map(({ n, status }) => [status, n])))
    }).pipe(as(admin))
  )
})

layer(world, live)("retention", (it) => {
  const age = Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`update tasks set created_at = created_at - interval '2 hours', completed_at = completed_at - interval '2 hours'`
  )
  /** Every step that is due now. */
  const swept = Effect.gen(function* () {
    const step = yield* RetentionSweep.makeStep
    const sql = yield* SqlClient.SqlClient
    yield* sql`update retention set due_at = now()`
    while (yield* step);
  })

  it.effect("deletes what the first fitting rule says, archived before where it says so, and keeps the rest", () =>
    Effect.gen(function* () {
      const retention = yield* Retention
      const control = yield* TaskControl
      const artifacts = yield* Artifacts
      yield* echoAgent("kept")
      expect(yield* retention.get).toMatchObject({ rules: [], version: 0, deleted: 0 })
      const labelled = yield* submitted("kept", 2, () => ({ labels: { audit: "yes" } }))
      const done = yield* submitted("kept", 3, (n) => ({ payload: { n } }))
      const failed = yield* submitted("kept", 2)
      const open = yield* submitted("kept", 1)
      yield* ended([...labelled, ...done])
      yield* ended(failed, () => Harness.failed)
      yield* age
      const fresh = yield* submitted("kept", 1)
      yield* ended(fresh)
      const hour = 3_600_000
      const set = yield* retention.set(
        {
          rules: [
            { label: ["audit=yes"], delete_after_ms: null },
            { status: ["completed"], delete_after_ms: hour, archive: true },
            { status: ["failed"], delete_after_ms: 3 * hour }
          ]
        },
        0
      )
      expect(set).toMatchObject({ version: 1 })
      expect(yield* Effect.flip(retention.set({ rules: [] }, 7))).toMatchObject({
        _tag: "Conflict",
        current_version: 1
      })
      yield* swept
      const left = yield* Harness.rows(ids([...labelled, ...done, ...failed, ...open, ...fresh]))
      expect(left.map(({ id }) => id)).toEqual(ids([...labelled, ...failed, ...open, ...fresh]))
      const after = yield* retention.get
      expect(after).toMatchObject({ deleted: 3, archives: [{ tasks: 3 }] })
      const archive = after.archives[0]?.artifact_id
      if (archive === undefined) return yield* Effect.die("no archive")
      const { content } = yield* artifacts.download(archive)
      const packed = Buffer.concat(yield* Stream.runCollect(content))
      const { gunzipSync } = yield* Effect.promise(() => import("node:zlib"))
      const lines = gunzipSync(packed).toString().trim().split("\n")
      expect(lines.map((line) => JSON.parse(line))).toMatchObject(
        done.map(({ id }, n) => ({
          ...{ id, payload: { n }, status: "completed", result: { data: { ok: true } } },
          events: [{ type: "TaskCreated" }, { type: "TaskStarted" }, { type: "TaskCompleted" }]
        }))
      )
      expect((yield* control.counts({})).counts).toMatchObject({ completed: 3, failed: 2, queued: 1 })
      // Nothing is left to do, and nothing is archived twice.
      yield* swept
      expect(yield* retention.get).toMatchObject({ deleted: 3, archives: [{ tasks: 3 }] })
    }).pipe(as(admin))
  )

  it.effect("keeps what an idempotency key still stands for, and what a living task depends on", () =>
    Effect.gen(function* () {
      const retention = yield* Retention
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      yield* echoAgent("needed")
      const [keyed, parent, other] = yield* submitted("needed", 3, (n) => (n === 0 ? { idempotency_key: "k" } : {}))
      if (keyed === undefined || parent === undefined || other === undefined) return yield* Effect.die("no tasks")
      yield* tasks.submit(
        submitTask({ agent: "needed", dependencies: [{ task_id: parent.id }], run_at: "2026-12-01T00:00:00Z" })
      )
      yield* ended([keyed, parent, other])
      yield* retention.set({ rules: [{ type: ["echo"], delete_after_ms: 0 }] }, undefined)
      yield* swept
      expect((yield* Harness.rows([keyed.id, parent.id, other.id])).map(({ id }) => id)).toEqual([keyed.id, parent.id])
      expect(yield* tasks.submit(submitTask({ agent: "needed", type: "echo", idempotency_key: "k" }))).toMatchObject({
        id: keyed.id,
        duplicate: true
      })
      yield* sql`delete from idempotency_keys`
      yield* swept
      expect((yield* Harness.rows([keyed.id, parent.id])).map(({ id }) => id)).toEqual([parent.id])
    }).pipe(as(admin))
  )

  it.effect("clears a result when its time to live is over, and says so", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      yield* echoAgent("fading")
      const [short, long] = yield* submitted("fading", 2, (n) => ({
        configuration: { result_ttl_ms: n === 0 ? 1_000 : 3_600_000 }
      }))
      if (short === undefined || long === undefined) return yield* Effect.die("no tasks")
      yield* ended([short, long])
      expect(yield* ledger.expireResults(10)).toBe(0)
      yield* sql`update tasks set completed_at = completed_at - interval '2 seconds'`
      expect(yield* ledger.expireResults(10)).toBe(1)
      expect(yield* ledger.expireResults(10)).toBe(0)
      const task = yield* tasks.get(short.id)
      expect(task).toMatchObject({ status: "completed", result: { success: true, expired_at: expect.any(String) } })
      expect(task.result).not.toHaveProperty("data")
      expect(yield* tasks.get(long.id)).toMatchObject({ result: { data: { ok: true } } })
      expect(yield* Harness.eventTypes(short.id)).toEqual([
        ...["TaskCreated", "TaskStarted", "TaskCompleted", "TaskResultExpired"]
      ])
      const told = yield* Stream.runCollect(tasks.follow(short.id, 0))
      expect(told.map(({ type }) => type)).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
      expect(yield* Harness.brokenHistories).toEqual([])
    }).pipe(as(admin))
  )
})
