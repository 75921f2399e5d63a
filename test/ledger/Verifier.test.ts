/** What is looked at by `datamcp verify`, on Postgres: nothing is found where the ledger has worked, and everything that is planted. */
import { expect, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { Ledger, type Settlement } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { urlOf } from "../../src/embedded/PostgresServer.ts"
import { invariants } from "../../src/ledger/Invariants.ts"
import * as Verifier from "../../src/ledger/Verifier.ts"
import { runCli } from "../cli/runCli.ts"
import { password } from "../support/ServerMakers.ts"
import * as Database from "./Database.ts"
import * as Harness from "./LedgerHarness.ts"

const impatient = Layer.succeed(Verifier.VerifierLimits, {
  ...Verifier.VerifierLimits.defaultValue(),
  batchTasks: 25,
  looksAgain: 1,
  lookAgainMillis: 5
})

const everything = { namespace: undefined, sinceMillis: undefined }

const verification = Verifier.verify(everything)

/** What the program says of the database of this test, and its exit code. */
const verifyByProgram = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [database] = yield* sql<{ readonly name: string }>`select current_database() as name`
    const url = Redacted.value(urlOf({ port: inject("postgresPort") }, password, database?.name))
    const { code, stderr, stdout } = yield* runCli(["verify", "--json", ...args], { env: { DATABASE_URL: url } })
    if (stdout === "") return yield* Effect.die(new Error(stderr))
    return { code, answer: JSON.parse(stdout) }
  })

/** Ends, retries, releases, pauses of parents, cascades and a takeover, all by the ledger. */
const work = Effect.gen(function* () {
  const ledger = yield* Ledger
  const ends: ReadonlyArray<Settlement> = [
    Harness.completed,
    Harness.failed,
    Harness.timedOut,
    Harness.released,
    Harness.retryAfter(60_000)
  ]
  const { agentId, runs, slot } = yield* Harness.running(20)
  const children = yield* Harness.tasks(20, (index) => ({
    agentId,
    dependencies: [{ task_id: runs[index]?.id ?? runs[0]!.id, on: index % 2 === 0 ? "completed" : "ended" }]
  }))
  yield* ledger.accept(children)
  yield* Effect.forEach(
    runs.slice(0, 15),
    (run, index) => ledger.settle(slot, run, ends[index % ends.length] ?? Harness.completed),
    { concurrency: 5 }
  )
  const again = yield* Harness.claim(slot, children)
  yield* Effect.forEach(again, (run) => ledger.settle(slot, run, Harness.completed), { concurrency: 5 })
  yield* ledger.takeOver({ agentId, index: 0 })
})

/** A task that ended well, and what a test does to it by hand. */
const spoilt = Effect.fnUntraced(function* (spoil: (id: string) => Effect.Effect<unknown, unknown>) {
  const ledger = yield* Ledger
  const { runs, slot } = yield* Harness.running(1)
  const [run] = runs
  if (run === undefined) return yield* Effect.die(new Error("nothing runs"))
  yield* ledger.settle(slot, run, Harness.completed)
  yield* spoil(run.id)
  return run.id as string
})

/** One violation of each check, each at a place of its own: the subject that is to be named. */
const plants = Effect.map(
  SqlClient.SqlClient,
  (sql): Readonly<Record<string, Effect.Effect<string, unknown, Ledger | UuidV7 | SqlClient.SqlClient>>> => {
    const child = Effect.gen(function* () {
      const ledger = yield* Ledger
      const { agentId, runs } = yield* Harness.running(1)
      const parent = runs[0]?.id
      if (parent === undefined) return yield* Effect.die(new Error("nothing runs"))
      const waiting = yield* Harness.task({ agentId, dependencies: [{ task_id: parent }] })
      yield* ledger.accept([waiting])
      return { id: waiting.id as string, parent }
    })
    const live = Effect.gen(function* () {
      const ledger = yield* Ledger
      const queued = yield* Harness.task({ agentId: yield* Harness.agent })
      yield* ledger.accept([queued])
      return queued.id as string
    })
    const newId = Effect.map(UuidV7, (ids) => ids.next())
    return {
      "task-events": spoilt((id) => sql`update tasks set version = version + 1 where id = ${id}`),
      "task-end": spoilt((id) => sql`update events set type = 'TaskFailed' where aggregate = ${id} and number = 3`),
      "task-attempts": spoilt((id) => sql`update tasks set attempt = 2 where id = ${id}`),
      "task-agent": Effect.tap(live, (id) => sql`update tasks set agent_id = gen_random_uuid() where id = ${id}`),
      "dependencies-counted": Effect.gen(function* () {
        const { id } = yield* child
        yield* sql`update tasks set dependencies_open = 2 where id = ${id}`
        return id
      }),
      "dependencies-told": Effect.gen(function* () {
        const { id } = yield* child
        yield* sql`update task_dependencies set resolved = true where child_id = ${id}`
        yield* sql`update tasks set dependencies_open = 0 where id = ${id}`
        return id
      }),
      "dependencies-order": Effect.gen(function* () {
        const { id } = yield* child
        yield* sql`update tasks set status = 'queued', waiting_for = null, version = version + 1 where id = ${id}`
        yield* Database.insertEvent(id as never, 2, "TaskQueued")
        return id
      }),
      "map-elements": Effect.tap(
        live,
        (id) => sql`insert into graph_steps (task_id, definition, made) values (${id}, '{}', 2)`
      ),
      streams: Effect.gen(function* () {
        const id = yield* live
        yield* sql`insert into task_streams (task_id, name, last, bytes, run, written) values (${id}, 'log', 2, 1, 1, 2)`
        yield* sql`insert into stream_chunks (task_id, name, number, attempt, run, data) values (${id}, 'log', 2, 1, 1, '1')`
        return `${id} log`
      }),
      signals: Effect.gen(function* () {
        const id = yield* live
        yield* sql`insert into task_signals (task_id, number, name, actor, request, fingerprint, position)
          values (${id}, 1, 'go', 'key:test', 'r', '\\x00', 1)`
        return id
      }),
      "children-told": Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot } = yield* Harness.running(1)
        const [parent] = runs
        if (parent === undefined) return yield* Effect.die("no run")
        const child = yield* Harness.task({ parentId: parent.id })
        yield* ledger.accept([child])
        yield* ledger.children.take(slot, parent, { position: 1, children: [child.id] })
        yield* ledger.signals.park(slot, parent, 1)
        yield* sql`delete from tasks where id = ${child.id}`
        return parent.id
      }),
      "unique-holders": Effect.tap(live, (id) => sql`update tasks set unique_key = 'lost' where id = ${id}`),
      "unique-keys": Effect.gen(function* () {
        yield* sql`insert into unique_keys (namespace, key, task_id) values ('default', 'kept', ${yield* newId})`
        return "default kept"
      }),
      coalescing: Effect.gen(function* () {
        yield* sql`insert into coalescing (namespace, key, task_id, type, keep, closes_at, submissions)
          values ('default', 'rows', ${yield* newId}, 'echo', 'all', now(), 1)`
        return "default rows"
      }),
      "start-deadlines": Effect.tap(
        live,
        (id) => sql`insert into start_deadlines (task_id, at, timeout_ms) values (${id}, now() - interval '1 hour', 5)`
      ),
      "agent-events": Effect.gen(function* () {
        const id = yield* Harness.agent
        yield* sql`update agents set version = 3 where id = ${id}`
        return id
      }),
      "schedule-events": Effect.gen(function* () {
        const id = yield* newId
        yield* sql`insert into schedules (id, namespace, name, cron, time_zone, anchor_at, jitter_ms, catch_up, overlap, task, owner, event_number)
          values (${id}, 'default', 'nightly', '* * * * *', 'UTC', now(), 0, 'skip', 'allow', '{}', 'key:test', 2)`
        return id
      }),
      leases: Effect.gen(function* () {
        const { runs } = yield* Harness.running(1)
        const id = runs[0]?.id ?? ""
        yield* sql`update tasks set epoch = epoch + 1 where id = ${id}`
        return id
      }),
      "limits-taken": Effect.gen(function* () {
        const id = yield* newId
        yield* sql`insert into limit_keys (limit_id, key, namespace, taken) values (${id}, 'a', 'default', 1)`
        return `${id} a`
      }),
      "limits-held": Effect.gen(function* () {
        const id = yield* newId
        const task = yield* spoilt(
          (of) => sql`insert into task_limits (task_id, limit_id, key, namespace, lane)
          values (${of}, ${id}, 'b', 'default', 'normal')`
        )
        return `${task} ${id}`
      }),
      "webhook-journal": Effect.gen(function* () {
        const id = yield* live
        yield* sql`update events set at = now() - interval '1 hour' where aggregate = ${id}`
        const [row] = yield* sql<{ readonly id: string }>`
          insert into webhook_journal (namespace, aggregates, numbers) values ('default', array[${id}]::uuid[], '{1}')
          returning id::text`
        return row?.id ?? ""
      }),
      "agent-tallies": Effect.gen(function* () {
        const id = yield* Harness.agent
        yield* sql`insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
          values (${id}, 1, 0, 0, 0, 1, 1, 1)`
        return id
      })
    }
  }
)

/** Agents of the harness are stored without their event. */
const recordAgents = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`insert into events (aggregate, number, kind, type, namespace)
    select id, 1, 'agent', 'AgentCreated', namespace from agents on conflict do nothing`
)

layer(Layer.merge(Harness.layer, impatient), { excludeTestServices: true, timeout: "60 seconds" })(
  "verifying",
  (it) => {
    it.effect("finds nothing where the ledger has worked, and says what it looked at", () =>
      Effect.gen(function* () {
        yield* work
        yield* recordAgents
        const { answer, code } = yield* verifyByProgram("--all")
        expect(answer.breaches).toEqual([])
        expect(code).toBe(0)
        expect(answer).toMatchObject({ ok: true, namespace: null, since: null, tasks: 40 })
        expect(answer.checks.map(({ id, outcome }: Record<string, unknown>) => [id, outcome])).toEqual(
          invariants.map(({ id }) => [id, "holds"])
        )
        expect((yield* verifyByProgram("--namespace", "elsewhere")).answer.tasks).toBe(0)
      })
    )

    it.effect(
      "finds nothing while the ledger works",
      () =>
        Effect.gen(function* () {
          const working = yield* Effect.forkChild(Effect.repeat(work, { times: 5 }))
          for (let time = 0; time < 5; time++) {
            const { breaches } = yield* verification
            // Those of the agents that are being made, which have no event yet.
            expect(breaches.filter(({ check }) => check !== "agent-events")).toEqual([])
          }
          yield* Fiber.join(working)
          yield* recordAgents
          expect((yield* verification).breaches).toEqual([])
        }),
      { timeout: 60_000 }
    )

    it.effect(
      "finds what is planted, names the check and the place, and ends with exit code 1",
      () =>
        Effect.gen(function* () {
          const all = yield* plants
          expect(Object.keys(all)).toEqual(invariants.map(({ id }) => id))
          const planted: Array<readonly [string, string]> = []
          for (const [check, plant] of Object.entries(all)) {
            planted.push([check, yield* plant])
            yield* recordAgents
            const { breaches, ok } = yield* verification
            expect(ok).toBe(false)
            // By check, in the order of the list: this one, and nothing besides those before it.
            expect(breaches.map(({ check, subject }) => [check, subject])).toEqual(planted)
          }
          const { answer, code } = yield* verifyByProgram("--all")
          expect(code).toBe(1)
          expect(answer.breaches.map(({ check, subject }: Record<string, unknown>) => [check, subject])).toEqual(
            planted
          )
          expect((yield* verifyByProgram("--all", "--namespace", "elsewhere")).code).toBe(0)
        }),
      { timeout: 120_000 }
    )
  }
)
