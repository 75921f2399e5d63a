/** Payloads and results that are too large for their task's row: they go to artifacts by themselves and come back. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { LargeDataLimits } from "../../actors/LargeData.ts"
import { ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { admin, as } from "./as.ts"
import { echoAgent, running, submitGraph, submitTask } from "./Cases.ts"

const bytesMax = 2 * 1024 * 1024
const cases = running.pipe(Layer.provideMerge(Layer.succeed(LargeDataLimits, { bytesMax })))

const large = (bytes: number) => ({ text: "x".repeat(bytes - 11) })

const ended = Effect.fnUntraced(function* (id: TaskId) {
  const tasks = yield* Tasks
  return yield* tasks.wait(id, Duration.seconds(20))
})

const contentOf = Effect.fnUntraced(function* (reference: unknown) {
  const artifacts = yield* Artifacts
  const { content } = yield* artifacts.download((reference as { $artifact: never }).$artifact)
  return JSON.parse(Buffer.concat(yield* Stream.runCollect(content)).toString())
})

const owned = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ count: number }>`select count(*)::int as count from artifacts where task_id is not null`
  return row?.count
})

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("data above the inline limit", (it) => {
  it.effect("is an artifact as payload and as result, and the behaviour gets it whole", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("large")
      const payload = large(Limits.payloadBytesMax + 1)
      const { id } = yield* tasks.submit(submitTask({ agent: "large", payload }))
      const task = yield* ended(id)
      expect(task).toMatchObject({
        status: "completed",
        payload: { $artifact: expect.any(String), size_bytes: Limits.payloadBytesMax + 1 },
        result: { success: true, data: { $artifact: expect.any(String), size_bytes: Limits.payloadBytesMax + 10 } }
      })
      expect(yield* contentOf(task.payload)).toEqual(payload)
      expect(yield* contentOf(task.result?.data)).toEqual({ echo: payload })
      // One byte less stays in the row.
      const inline = yield* tasks.submit(submitTask({ agent: "large", payload: large(Limits.payloadBytesMax) }))
      expect((yield* tasks.get(inline.id)).payload).toEqual(large(Limits.payloadBytesMax))
    }).pipe(as(admin))
  )

  it.effect("is what results refer to, by path", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("refers")
      const filler = "y".repeat(Limits.payloadBytesMax)
      const graph = yield* tasks.submitGraph(
        submitGraph({
          tasks: {
            first: { agent: "refers", payload: { rows: [1, 2, 3], filler } },
            second: {
              agent: "refers",
              payload: { of: { $result: "first", path: "/echo/rows/1" } },
              dependencies: ["first"]
            },
            third: { agent: "refers", payload: { filler, of: { $result: "second" } }, dependencies: ["second"] }
          }
        })
      )
      const { second, third } = graph.tasks
      if (second === undefined || third === undefined) return
      const last = yield* ended(third)
      expect((yield* tasks.get(second)).result?.data).toEqual({ echo: { of: 2 } })
      expect(yield* contentOf(last.result?.data)).toEqual({ echo: { filler, of: { echo: { of: 2 } } } })
    }).pipe(as(admin))
  )

  it.effect("keeps its idempotency key: the same again is the same task, and stores nothing", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("keyed")
      const command = submitTask({ agent: "keyed", payload: large(300_000), idempotency_key: "large" })
      const first = yield* tasks.submit(command)
      yield* ended(first.id)
      const before = yield* owned
      expect(yield* tasks.submit(command)).toMatchObject({ id: first.id, duplicate: true })
      expect(yield* owned).toBe(before)
      const other = Effect.flip(tasks.submit({ ...command, payload: large(300_001) }))
      expect(yield* other).toMatchObject({ _tag: "IdempotencyMismatch" })
    }).pipe(as(admin))
  )

  it.effect("is refused above its own limit, as payload by name, as result as a failure", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("refused")
      const before = yield* owned
      expect(
        yield* Effect.flip(tasks.submit(submitTask({ agent: "refused", payload: large(bytesMax + 1) })))
      ).toMatchObject({
        _tag: "TooLarge",
        field: "payload",
        limit: bytesMax
      })
      const { id } = yield* tasks.submit(submitTask({ agent: "refused", payload: { result_bytes: bytesMax + 1 } }))
      expect(yield* ended(id)).toMatchObject({
        status: "failed",
        attempt: 1,
        result: { error: { code: "result_too_large" } }
      })
      expect(yield* owned).toBe(before)
    }).pipe(as(admin))
  )

  it.effect(
    "may be an artifact that was uploaded before; what is none, or no JSON, fails the task with its reason",
    () =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        const artifacts = yield* Artifacts
        yield* echoAgent("uploaded")
        const upload = (text: string) =>
          artifacts.upload({
            name: "a",
            contentType: "text/plain",
            content: Stream.make(new TextEncoder().encode(text))
          })
        const { id: json } = yield* upload('{"a":[1]}')
        const { id: text } = yield* upload("no json")
        const of = (id: string) => tasks.submit(submitTask({ agent: "uploaded", payload: { $artifact: id } }))
        expect((yield* ended((yield* of(json)).id)).result?.data).toEqual({ echo: { a: [1] } })
        expect(yield* ended((yield* of(text)).id)).toMatchObject({
          status: "failed",
          attempt: 1,
          result: { error: { code: "artifact_json", final: "behaviour" } }
        })
        const nothing = yield* of("0190a1b2-0000-7000-8000-00000000dead")
        expect(yield* ended(nothing.id)).toMatchObject({ result: { error: { code: "artifact_not_found" } } })
        // Anything else with that key is a payload like any other.
        const plain = yield* tasks.submit(submitTask({ agent: "uploaded", payload: { $artifact: json, more: 1 } }))
        expect((yield* ended(plain.id)).result?.data).toEqual({ echo: { $artifact: json, more: 1 } })
      }).pipe(as(admin))
  )

  it.effect("goes when its task is gone, unless a retry shares it", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const store = yield* ArtifactStore
      const sql = yield* SqlClient.SqlClient
      yield* echoAgent("gone")
      const submit = Effect.fnUntraced(function* (payload: object) {
        const { id } = yield* tasks.submit(submitTask({ agent: "gone", payload: { ...large(300_000), ...payload } }))
        return yield* ended(id)
      })
      const dropped = yield* submit({})
      const lives = yield* submit({})
      const failed = yield* submit({ fail: { retryable: false } })
      const again = yield* tasks.retry(failed.id)
      expect((yield* ended(again.id)).payload).toEqual(failed.payload)
      yield* sql`update artifacts set created_at = now() - interval '2 hours'`
      yield* sql`delete from tasks where id in ${sql.in([dropped.id, failed.id])}`
      // Looks in pages go on where the last one ended, and begin anew.
      const swept = yield* Effect.forEach(Array.from({ length: 40 }), () => store.tidy(3))
      expect(swept.reduce((sum, gone) => sum + gone, 0)).toBeGreaterThanOrEqual(1)
      expect(yield* Effect.flip(contentOf(dropped.payload))).toMatchObject({ _tag: "ArtifactNotFound" })
      expect(yield* Effect.flip(contentOf(dropped.result?.data))).toMatchObject({ _tag: "ArtifactNotFound" })
      expect(yield* contentOf(lives.payload)).toMatchObject({ text: expect.any(String) })
      expect(yield* contentOf(failed.payload)).toMatchObject({ text: expect.any(String) })
    }).pipe(as(admin))
  )

  it.effect("is left alone for an hour although its task is not there yet", () =>
    Effect.gen(function* () {
      const store = yield* ArtifactStore
      const owner = TaskId.make("0190a1b2-0000-7000-8000-00000000beef")
      const namespace = Namespace.make("default")
      const content = Stream.make(new Uint8Array(3))
      const { id } = yield* store.put({ namespace, owner, name: "p", contentType: "application/json", content })
      yield* store.tidy(1_000)
      expect((yield* store.info(namespace, id)).sizeBytes).toBe(3)
    }).pipe(as(admin))
  )
})
