/**
 * Holds the model of Postgres against Postgres: the production ledger is taken through the same random operations on both,
 * and every answer, every task and every event must be the same after each.
 *
 * What is compared is what a caller can see: outcomes, orders, results, histories. Moments, the wording of errors and the
 * order of rows that nothing promises are left out.
 */
import { expect, layer } from "@effect/vitest"
import { Context, Duration, Effect, Layer, References } from "effect"
import { SqlClient } from "effect/sql"
import { type AcceptOutcome, Ledger, type NewTask, type Settlement, type Slot } from "../../actors/ports/Ledger.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import { type AgentId, GraphId, Namespace, NodeName, TaskId } from "../../protocol/Ids.ts"
import { priorities } from "../../protocol/Task.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as Database from "../ledger/Database.ts"
import { task as newTask } from "../ledger/LedgerHarness.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import * as Chance from "./Chance.ts"
import * as Statements from "./Statements.ts"
import { Tables } from "./Tables.ts"

const home = Namespace.make("default")

/** What both sides are asked for after each operation. */
interface Side {
  readonly name: "model" | "Postgres"
  readonly ledger: Ledger["Service"]
  readonly state: Effect.Effect<ReadonlyMap<string, unknown>>
  /** The last statement once more, as if the answer of the first had been lost. */
  readonly repeats: (repeat: boolean) => void
}

/** Sends each statement again, marked as repetition where it has such a mark, and answers what the second one says. */
const repeating = (client: SqlClient.SqlClient, isOn: () => boolean) => {
  const marked = /task_(claim|settle)\(/
  const unsafe = (text: string, params: ReadonlyArray<unknown> = []) => {
    const once = client.unsafe(text, params)
    return isOn() && marked.test(text)
      ? Effect.andThen(once, client.unsafe(text, [...params.slice(0, -1), true]))
      : once
  }
  const tagged = (...input: ReadonlyArray<unknown>) =>
    Reflect.apply(client as unknown as (...input: ReadonlyArray<unknown>) => unknown, undefined, input)
  return Object.assign(tagged, { unsafe }) as unknown as SqlClient.SqlClient
}

const ledgerOn = (client: SqlClient.SqlClient) =>
  Effect.map(
    Layer.build(
      Layer.fresh(PostgresLedger.layer(NodeName.make("n1"))).pipe(
        Layer.provide(Layer.succeed(SqlClient.SqlClient, client))
      )
    ),
    (context) => Context.get(context, Ledger)
  )

const modelSide = Effect.gen(function* () {
  const tables = new Tables(() => Date.now())
  let repeat = false
  const statement = (text: string, params: ReadonlyArray<unknown> = []) =>
    Effect.sync(() => {
      tables.begin()
      return Statements.find(text).run(tables, params)
    })
  const client = Object.assign((strings: ReadonlyArray<string>) => statement(strings.join("?")), {
    unsafe: statement
  }) as unknown as SqlClient.SqlClient
  const side: Side = {
    name: "model",
    ledger: yield* ledgerOn(repeating(client, () => repeat)),
    repeats: (on) => {
      repeat = on
    },
    state: Effect.sync(
      () =>
        new Map(
          [...tables.tasks.values()].map((each) => [
            each.id,
            {
              status: each.status,
              waiting_for: each.waiting_for,
              attempt: each.attempt,
              epoch: each.epoch,
              version: each.version,
              agent_id: each.agent_id,
              dependencies_open: each.dependencies_open,
              code: each.result?.error?.code ?? null,
              data: each.result?.data ?? null,
              events: tables.events
                .get(each.id)
                ?.map(({ attempt, number, type }) => `${number} ${type} ${attempt ?? 0}`)
            }
          ])
        )
    )
  }
  return side
})

const postgresSide = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  let repeat = false
  const side: Side = {
    name: "Postgres",
    ledger: yield* ledgerOn(repeating(sql, () => repeat)),
    repeats: (on) => {
      repeat = on
    },
    state: Effect.map(
      sql<{ readonly id: string }>`
        select t.id, t.status, t.waiting_for, t.attempt, t.epoch, t.version, t.agent_id, t.dependencies_open,
          t.result -> 'error' ->> 'code' as code, t.result -> 'data' as data,
          (select json_agg(format('%s %s %s', e.number, e.type, coalesce(e.attempt, 0)) order by e.number)
           from events e where e.aggregate = t.id) as events
        from tasks t`.pipe(Effect.orDie),
      (rows) => new Map(rows.map(({ id, ...rest }) => [id, rest as unknown]))
    )
  }
  return side
})

interface Known {
  readonly tasks: Array<NewTask>
  readonly agents: ReadonlyArray<AgentId>
  readonly slots: Array<Slot>
  /** Orders of any age: outdated ones are what is to be refused. */
  readonly orders: Array<TaskOrder>
  readonly runs: Array<{ readonly slot: Slot; readonly order: TaskOrder; readonly attempt: number }>
}

type Operation = (side: Side) => Effect.Effect<unknown>

const settlements: ReadonlyArray<Settlement> = [
  { _tag: "Completed", data: { ok: true }, dataBytes: 11, executionMillis: 1 },
  { _tag: "Failed", error: { code: "no", message: "no" }, executionMillis: 1 },
  { _tag: "TimedOut", error: { code: "timeout", message: "late" }, executionMillis: 1 },
  { _tag: "Retry", error: { code: "no", message: "no" }, delayMillis: 0, executionMillis: 1 },
  { _tag: "Released" }
]

/** Of several tasks that are not there, nothing promises which one is named. */
const comparable = (outcome: AcceptOutcome) => ({
  ...outcome,
  createdAt: undefined,
  ...(outcome._tag === "UnknownTask" && { id: undefined })
})

const idsOf = (ready: ReadonlyArray<{ readonly id: string }>) => ready.map(({ id }) => id).sort()

/** Draws the next operation: the same for both sides, with what the first one learned. */
const draw = Effect.fnUntraced(function* (chance: Chance.Chance, known: Known) {
  const { agents, orders, runs, slots, tasks } = known
  const some = <A>(all: ReadonlyArray<A>, most: number) =>
    all.length === 0 ? [] : [...new Set(Array.from({ length: chance.between(1, most) }, () => chance.of(all)))]
  const kind = chance.below(12)
  if (kind <= 2 || tasks.length === 0) {
    const graph = chance.is(0.2) ? GraphId.make(tasks[0]?.id ?? "01900000-0000-7000-8000-0000000000ff") : undefined
    const made: Array<NewTask> = []
    for (let count = chance.between(1, 4); count > 0; count--) {
      const parents = chance.is(0.4) ? some([...tasks, ...made], 2) : []
      const unknown = chance.is(0.05) ? [{ id: TaskId.make("01900000-0000-7000-8000-00000000dead") }] : []
      made.push(
        yield* newTask({
          name: `task ${tasks.length + made.length}`,
          agentId: chance.is(0.9) ? chance.of(agents) : undefined,
          lane: chance.of(priorities),
          maxAttempts: chance.between(1, 3),
          atMostOnce: chance.is(0.2),
          runAt: chance.is(0.1) ? "2020-01-01T00:00:00Z" : chance.is(0.05) ? "2099-01-01T00:00:00Z" : undefined,
          deadline: chance.is(0.05) ? "2020-01-01T00:00:00Z" : undefined,
          parentId: chance.is(0.1) && tasks.length > 0 ? chance.of(tasks).id : undefined,
          dependencies: [...parents, ...unknown].map(({ id }) => ({
            task_id: id,
            on: chance.of(["completed", "ended"] as const),
            required: chance.is(0.7),
            ...(chance.is(0.3) && { if_skipped: "run" as const })
          })),
          idempotency: chance.is(0.3) ? { key: `k${chance.below(6)}`, fingerprint: chance.of(["aa", "bb"]) } : undefined
        })
      )
    }
    const atomic = chance.is(0.4)
    tasks.push(...made)
    for (const { agentId: _, id, lane, maxAttempts, name, namespace, type } of made) {
      orders.push({ id, lane, name, namespace, type, max_attempts: maxAttempts })
    }
    const own =
      graph === undefined || !atomic
        ? undefined
        : {
            id: graph,
            namespace: home,
            name: undefined,
            idempotency: { key: `g${chance.below(3)}`, fingerprint: "aa" }
          }
    const operation: Operation = ({ ledger }) =>
      Effect.map(
        ledger.accept(made, { atomic, ...(own !== undefined && { graph: own }) }).pipe(Effect.orDie),
        (outcomes) => outcomes.map(comparable)
      )
    return { name: "accept", operation }
  }
  if (kind === 3) {
    const agentId = chance.of(agents)
    const index = chance.below(2)
    const operation: Operation = ({ ledger, name }) =>
      Effect.map(Effect.orDie(ledger.takeOver({ agentId, index })), (taken) => {
        if (name === "model") slots.push({ namespace: home, agentId, index, epoch: taken.epoch })
        return taken
      })
    return { name: "takeOver", operation }
  }
  if (kind <= 6 && slots.length > 0) {
    const slot = chance.is(0.8) ? (slots.at(-1) ?? chance.of(slots)) : chance.of(slots)
    const wanted = some(orders, 6).filter((order, at, all) => all.findIndex(({ id }) => id === order.id) === at)
    const operation: Operation = ({ ledger, name }) =>
      Effect.map(ledger.claim(slot, wanted), ({ claimed, fenced }) => {
        const won = claimed.toSorted((one, other) => (one.id < other.id ? -1 : 1))
        if (name === "model") {
          for (const { attempt, id } of won) {
            const order = wanted.find((each) => each.id === id)
            if (order !== undefined) runs.push({ slot, order, attempt })
          }
        }
        // Moments are each side's own.
        return { fenced, won: won.map(({ startedAtMillis: _, ...run }) => run) }
      })
    return { name: "claim", operation }
  }
  if (kind <= 8 && slots.length > 0) {
    const settlement = chance.of(settlements)
    const early = chance.is(0.3)
    const order = chance.of(orders)
    const run =
      early || runs.length === 0
        ? { slot: chance.of(slots), order, attempt: (order.attempts ?? 0) + 1 }
        : chance.is(0.7)
          ? (runs.at(-1) ?? chance.of(runs))
          : chance.of(runs)
    const unclaimed = early && settlement._tag !== "Released"
    const of = { id: run.order.id, namespace: home, attempt: run.attempt, trace: undefined }
    const operation: Operation = ({ ledger }) => ledger.settle(run.slot, of, settlement, { unclaimed })
    return { name: `settle ${settlement._tag}${unclaimed ? " unclaimed" : ""}`, operation }
  }
  if (kind === 9) {
    const ids = some(tasks, 2).map(({ id }) => id)
    const operation: Operation = ({ ledger }) =>
      Effect.map(Effect.orDie(ledger.cancel(home, ids, { actor: "key:test", reason: undefined })), (ended) =>
        ended.toSorted((one, other) => (one.id < other.id ? -1 : 1))
      )
    return { name: "cancel", operation }
  }
  if (kind === 10) {
    const agentId = chance.of(agents)
    const operation: Operation = ({ ledger }) =>
      Effect.gen(function* () {
        const due = yield* ledger.queueDue(100)
        const expired = yield* ledger.expire(100)
        const kinds = yield* ledger.withoutAgent(undefined, 10)
        const assigned = yield* Effect.forEach(kinds, (of) => ledger.assign({ ...of, agentId }, 100))
        return { due, ended: expired.ended, running: idsOf(expired.running), kinds, assigned }
      }).pipe(Effect.orDie)
    return { name: "upkeep", operation }
  }
  const agentId = chance.of(agents)
  const slot = slots.length === 0 ? { namespace: home, agentId, index: 0, epoch: 0 } : chance.of(slots)
  const asked = some(tasks, 4).map(({ id }) => id)
  const key = { key: `k${chance.below(6)}`, fingerprint: chance.of(["aa", "bb"]) }
  const operation: Operation = ({ ledger, name }) =>
    Effect.gen(function* () {
      const backlog = yield* ledger.backlog(agentId, { limit: 50 })
      if (name === "model") orders.push(...backlog)
      const lost = yield* ledger.lost(slot, asked)
      const working = yield* ledger.agentsWithWork(10)
      const results = yield* ledger.results(
        home,
        asked.map((id) => ({ id }))
      )
      const earlier = yield* ledger.earlier(home, key)
      const orphans = yield* ledger.orphans(Duration.hours(1), 10)
      return {
        backlog,
        lost: [...lost].sort(),
        working,
        results: idsOf(results),
        earlier: { ...earlier, createdAt: 0 },
        orphans
      }
    }).pipe(Effect.orDie)
  return { name: "look", operation }
})

const both = Database.layer.pipe(
  Layer.provideMerge(MemoryBus.layer),
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
)

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null))

layer(both, { excludeTestServices: true, timeout: "60 seconds" })("the simulated Postgres", (test) => {
  test.effect.each([1, 2, 3, 4])("answers as the real one does, operation for operation (%i)", (seed) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`truncate tasks, events, task_dependencies, idempotency_keys, agent_instances, graphs cascade`
      const chance = Chance.make(seed, "calibration")
      const known: Known = {
        tasks: [],
        agents: [yield* Database.insertAgent(`one-${seed}`), yield* Database.insertAgent(`other-${seed}`)],
        slots: [],
        orders: [],
        runs: []
      }
      const model = yield* modelSide
      const real = yield* postgresSide
      const said: Array<string> = []
      for (let step = 0; step < 100; step++) {
        const { name, operation } = yield* draw(chance, known)
        // One in five statements is answered by its repetition, as when the first answer was lost.
        const repeat = chance.is(0.2)
        model.repeats(repeat)
        real.repeats(repeat)
        said.push(`${step} ${name}${repeat ? ", repeated" : ""}`)
        const about = `${said.slice(-3).join("; ")}: `
        const expected = yield* operation(real)
        // The model's answer goes first where it teaches the next operations; both must agree anyway.
        const answer = yield* operation(model)
        expect({ about, answer: plain(answer) }).toEqual({ about, answer: plain(expected) })
        const states = [yield* model.state, yield* real.state] as const
        expect({ about, tasks: states[0].size }).toEqual({ about, tasks: states[1].size })
        for (const [id, row] of states[1]) {
          expect({ about, id, row: plain(states[0].get(id)) }).toEqual({ about, id, row: plain(row) })
        }
      }
      expect(known.runs.length).toBeGreaterThan(5)
      expect(new Set(said.map((each) => each.split(" ")[1])).size).toBeGreaterThan(5)
    })
  )
})
