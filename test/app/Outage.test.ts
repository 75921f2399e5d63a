/** While Postgres is away nobody gets in and nothing is pretended (G11, S35); when it is back, so is everything. */
import { expect, layer } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Redacted, Schedule, Stream } from "effect"
import { AgentId, ApiKeyId, ArtifactId, GraphId, ScheduleName, TaskId } from "../../protocol/Ids.ts"
import { type Principal } from "../../protocol/Permission.ts"
import { Agents } from "../../src/app/Agents.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { keyOf } from "../../src/app/ApiKeyText.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import { Schedules } from "../../src/app/Schedules.ts"
import { Signals } from "../../src/app/Signals.ts"
import { System } from "../../src/app/System.ts"
import { TaskStreams } from "../../src/app/TaskStreams.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import * as Database from "../ledger/Database.ts"
import type { PostgresHandle } from "../support/ServerMakers.ts"
import { ownPostgres } from "../support/Servers.ts"
import { admin, as } from "./as.ts"
import { echoAgent, on, submitGraph, submitTask } from "./Cases.ts"

class OwnPostgres extends Context.Service<OwnPostgres, PostgresHandle>()("test/OwnPostgres") {
  static readonly layer = Layer.effect(OwnPostgres, ownPostgres())
}

const Live = on(Database.on(Effect.map(OwnPostgres, (postgres) => postgres.url()))).pipe(
  Layer.provideMerge(OwnPostgres.layer)
)

const uuid = "0190a1b2-0000-7000-8000-00000000dead"

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("without Postgres", (it) => {
  it.effect("every use case says that it is unavailable and when to come back, and afterwards works again", () =>
    Effect.gen(function* () {
      const postgres = yield* OwnPostgres
      const [tasks, signals, streams, agents, keys, artifacts, schedules, system] = [
        yield* Tasks,
        yield* Signals,
        yield* TaskStreams,
        yield* Agents,
        yield* ApiKeys,
        yield* Artifacts,
        yield* Schedules,
        yield* System
      ]
      yield* echoAgent("kept")
      const { key } = yield* keys.create({ name: "k", role: "admin" })
      const id = TaskId.make(uuid)
      const attempts: Readonly<Record<string, Effect.Effect<unknown, { readonly _tag: string }, Principal | Agents>>> =
        {
          submit: tasks.submit(submitTask({ type: "echo" })),
          submitBatch: tasks.submitBatch([{ type: "echo" }], { atomic: false }),
          submitAtomic: tasks.submitBatch([{ type: "echo" }], { atomic: true }),
          submitGraph: tasks.submitGraph(submitGraph({ tasks: { a: { type: "echo" } } })),
          get: tasks.get(id),
          list: tasks.list({}),
          listScanning: tasks.list({ label: ["a=b"] }),
          events: tasks.events(id, { after: 0, limit: 1 }),
          follow: Stream.runCollect(tasks.follow(id, 0)),
          graph: tasks.graph(GraphId.make(uuid)),
          graphOf: tasks.graphOf(id),
          cancel: tasks.cancel(id, undefined),
          retry: tasks.retry(id),
          signal: signals.send(id, { name: "go", payload: 1, idempotencyKey: undefined }),
          listSignals: signals.list(id),
          pause: signals.pause(id, undefined),
          resume: signals.resume(id),
          readStream: streams.read(id, { stream: "log", after: 0, limit: 1, atMost: Duration.seconds(9) }),
          followStream: Stream.runCollect(streams.follow(id, { stream: "log", after: 0 })),
          listStreams: streams.list(id),
          createAgent: echoAgent("new"),
          getAgent: agents.get("kept"),
          listAgents: agents.list({}),
          pauseAgent: agents.pause("kept"),
          removeAgent: agents.remove("kept", { force: true }),
          metrics: agents.metrics(AgentId.make(uuid)),
          // Unknown here: a remembered key would be let in for another moment, and do nothing with it.
          authenticate: keys.authenticate(Redacted.make(keyOf(new Uint8Array(10), new Uint8Array(32)).key)),
          authenticateGood: keys.authenticate(Redacted.make(key)),
          createKey: keys.create({ name: "x", role: "viewer" }),
          listKeys: keys.list({}),
          revoke: keys.revoke(ApiKeyId.make("aaaaaaaaaaaaaaaa")),
          bootstrap: keys.bootstrap,
          upload: artifacts.upload({ name: "a", contentType: "text/plain", content: Stream.make(new Uint8Array(9)) }),
          info: artifacts.info(ArtifactId.make(uuid)),
          createSchedule: schedules.create({ name: ScheduleName.make("s"), every_ms: 1000, task: { type: "echo" } }),
          getSchedule: schedules.get("s"),
          listSchedules: schedules.list({}),
          pauseSchedule: schedules.pause("s"),
          removeSchedule: schedules.remove("s"),
          runSchedule: schedules.run("s", undefined),
          runsOfSchedule: schedules.runs("s", {}),
          preview: schedules.preview({ every_ms: 1000 }),
          status: system.status
        }
      yield* postgres.kill9
      const outcomes = yield* Effect.all(
        Object.entries(attempts).map(([name, attempt]) =>
          Effect.map(Effect.timed(Effect.flip(attempt)), ([, error]) => ({
            name,
            error: JSON.parse(JSON.stringify(error))
          }))
        ),
        { concurrency: 4 }
      )
      for (const { error, name } of outcomes) {
        expect({ name, error }).toMatchObject({ name, error: { status: 503, retry_after_seconds: 1 } })
        expect(JSON.stringify(error)).not.toMatch(/127\.0\.0\.1|select|insert|ECONN|postgres:/iu)
      }
      expect(yield* system.readiness).toMatchObject({ ready: false, parts: { postgres: false } })

      yield* postgres.start
      const again = { schedule: Schedule.spaced("100 millis"), times: 100 }
      expect(yield* Effect.retry(agents.get("kept"), again)).toMatchObject({ name: "kept", draining: false })
      expect(yield* Effect.retry(keys.authenticate(Redacted.make(key)), again)).toMatchObject({ role: "admin" })
      expect(yield* Effect.retry(tasks.submit(submitTask({ type: "echo" })), again)).toMatchObject({ status: "queued" })
    }).pipe(as(admin))
  )
})
