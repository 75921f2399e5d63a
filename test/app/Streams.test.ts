/** Streams of tasks on a running node with real Postgres: written by attempts, read by whoever comes. */
import { expect, layer } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, type Schema, Scope, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger } from "../../actors/ports/Ledger.ts"
import type { Chunk } from "../../protocol/Chunk.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { isTerminal } from "../../protocol/Task.ts"
import { Signals } from "../../src/app/Signals.ts"
import { TaskStreams } from "../../src/app/TaskStreams.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { until } from "../actors/ActorHarness.ts"
import { MemoryBusControl } from "../support/MemoryBus.ts"
import { admin, as, principal, stranger } from "./as.ts"
import { echoAgent, running, submitTask } from "./Cases.ts"

const begin = Effect.fnUntraced(function* (payload: Schema.Json, over: object = {}) {
  return (yield* (yield* Tasks).submit(submitTask({ agent: "writer", payload, ...over }))).id
})
const writer = Effect.ignore(echoAgent("writer", { configuration: { max_concurrent_tasks: 50 } }))
const ended = (id: TaskId) =>
  until(
    Effect.flatMap(Tasks, (tasks) => tasks.get(id)),
    ({ status }) => isTerminal(status),
    "20 seconds"
  )
const page = (id: TaskId, after = 0, over: object = {}) =>
  Effect.flatMap(TaskStreams, (streams) =>
    streams.read(id, { stream: "log", after, limit: 500, atMost: Duration.zero, ...over })
  )
const all = Effect.fnUntraced(function* (id: TaskId, stream = "log") {
  const chunks: Array<Chunk> = []
  while (true) {
    const { data, next_after: next } = yield* page(id, chunks.at(-1)?.number ?? 0, { stream })
    if (data.length === 0) return chunks
    chunks.push(...data)
    expect(next).toBe(data.at(-1)?.number)
  }
})
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a stream", (it) => {
  it.effect("has every chunk once, numbered without gaps, before the task's end is seen", () =>
    Effect.gen(function* () {
      yield* writer
      const id = yield* begin({ emit: { chunks: 1_200 } })
      yield* ended(id)
      const chunks = yield* all(id)
      expect(chunks.map(({ number }) => number)).toEqual(upTo(1_200))
      expect(chunks.map(({ data }) => data)).toEqual(upTo(1_200).map((chunk) => ({ chunk })))
      expect(yield* page(id, 1_200)).toEqual({ data: [], next_after: 1_200, ended: true })
      expect((yield* (yield* TaskStreams).list(id)).data).toMatchObject([{ name: "log", chunks: 1_200 }])
      expect((yield* page(id, 0, { stream: "other" })).data).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("is followed live by many, from anywhere, to its end", () =>
    Effect.gen(function* () {
      yield* writer
      const streams = yield* TaskStreams
      const id = yield* begin({ emit: { chunks: 60, pause_ms: 5 } })
      const readers = yield* Effect.forEach(
        upTo(12),
        (reader) => Stream.runCollect(streams.follow(id, { stream: "log", after: reader * 3 })),
        { concurrency: "unbounded" }
      )
      for (const [index, reader] of readers.entries()) {
        // Nothing can be behind a number that was never given: those that asked for too much begin at what there was.
        const numbers = reader.map(({ number }) => number)
        expect(numbers.at(-1)).toBe(60)
        expect(numbers).toEqual(numbers.map((_, at) => (numbers[0] ?? 0) + at))
        expect(numbers[0]).toBeLessThanOrEqual((index + 1) * 3 + 1)
      }
    }).pipe(as(admin))
  )

  it.effect("that is cut at random and resumed by number shows no gap and no double, with and without a bus", () =>
    Effect.gen(function* () {
      yield* writer
      const streams = yield* TaskStreams
      const control = yield* MemoryBusControl
      const seed = (yield* Clock.currentTimeMillis) % 1_000_000
      const chance = mulberry(seed)
      for (const cut of [false, true]) {
        control.cut(cut)
        const id = yield* begin({ emit: { chunks: 150, pause_ms: 4 } })
        const read = Effect.fnUntraced(function* () {
          const seen: Array<number> = []
          while (seen.length < 150) {
            const wanted = 1 + Math.floor(chance() * 40)
            const got = yield* streams.follow(id, { stream: "log", after: seen.at(-1) ?? 0 }).pipe(
              Stream.take(wanted),
              Stream.interruptWhen(Effect.sleep(Duration.millis(50 + chance() * 400))),
              Stream.runForEach(({ number }) => Effect.sync(() => void seen.push(number))),
              Effect.exit
            )
            expect(Exit.isSuccess(got), `seed ${seed}`).toBe(true)
          }
          return seen
        })
        const readers = yield* Effect.forEach(upTo(6), read, { concurrency: "unbounded" })
        for (const seen of readers) expect(seen, `seed ${seed}`).toEqual(upTo(150))
        control.cut(false)
        yield* ended(id)
      }
    }).pipe(as(admin), Effect.ensuring(Effect.map(MemoryBusControl, (control) => control.cut(false))))
  )

  it.effect("is waited for until there is a chunk, or the end", () =>
    Effect.gen(function* () {
      yield* writer
      const id = yield* begin({ sleep_ms: 300, emit: { chunks: 1 } })
      const first = yield* page(id, 0, { atMost: Duration.seconds(10) })
      expect(first).toMatchObject({ data: [{ number: 1, data: { chunk: 1 } }], next_after: 1 })
      expect(yield* page(id, 1, { atMost: Duration.seconds(10) })).toEqual({ data: [], next_after: 1, ended: true })
      const quiet = yield* begin({ sleep_ms: 400 })
      expect(yield* page(quiet, 0, { atMost: Duration.millis(50) })).toEqual({ data: [], next_after: 0, ended: false })
      expect(yield* page(quiet, 0, { atMost: Duration.seconds(10) })).toEqual({ data: [], next_after: 0, ended: true })
    }).pipe(as(admin))
  )

  it.effect("tells attempts apart, and goes on counting over them", () =>
    Effect.gen(function* () {
      yield* writer
      const id = yield* begin(
        { emit: { chunks: 3 }, fail: { times: 1 } },
        { configuration: { retry: { max_attempts: 2, delay_ms: 1 } } }
      )
      yield* ended(id)
      const chunks = yield* all(id)
      expect(chunks.map(({ attempt, number }) => [attempt, number])).toEqual([
        ...[1, 2, 3].map((number) => [1, number]),
        ...[4, 5, 6].map((number) => [2, number])
      ])
      expect(new Set(chunks.map(({ run }) => run)).size).toBe(2)
    }).pipe(as(admin))
  )

  it.effect("does not say again what a parked attempt had said", () =>
    Effect.gen(function* () {
      yield* writer
      const id = yield* begin({ emit: { chunks: 5 }, await: [{ signal: "go", hold_ms: 0 }] })
      yield* until(
        Effect.flatMap(Tasks, (tasks) => tasks.get(id)),
        ({ waiting_for: waits }) => waits === "signal"
      )
      expect(yield* all(id)).toHaveLength(5)
      yield* (yield* Signals).send(id, { name: "go", payload: null, idempotencyKey: undefined })
      yield* ended(id)
      expect(yield* all(id)).toHaveLength(5)
    }).pipe(as(admin))
  )

  it.effect("slows down an attempt that says more than the rate", () =>
    Effect.gen(function* () {
      yield* writer
      const bytes = 32 * 1024
      // A second's worth may come at once; the rest takes its time.
      const chunks = (2.5 * Limits.chunkBytesPerSecond) / bytes
      const begun = performance.now()
      const id = yield* begin({ emit: { chunks, bytes } })
      yield* ended(id)
      expect(performance.now() - begun).toBeGreaterThan(1_400)
      expect(yield* all(id)).toHaveLength(chunks)
    }).pipe(as(admin))
  )

  it.effect("refuses a chunk that is too large, and more than a task may say", () =>
    Effect.gen(function* () {
      yield* writer
      const large = yield* begin({ emit: { chunks: 1, bytes: Limits.chunkBytesMax + 1 } })
      expect((yield* ended(large)).result?.error).toMatchObject({ code: "chunk_refused" })
      const id = yield* begin({ emit: { chunks: 3, pause_ms: 300 } })
      const sql = yield* SqlClient.SqlClient
      yield* until(all(id), ({ length }) => length > 0)
      yield* sql`update task_streams set bytes = ${Limits.taskStreamsBytesMax} where task_id = ${id}`
      expect((yield* ended(id)).result?.error).toMatchObject({ code: "streams_full" })
      expect(yield* all(id)).toHaveLength(1)
    }).pipe(as(admin))
  )

  it.effect("is read by who may read tasks of the namespace, and goes with its task", () =>
    Effect.gen(function* () {
      yield* writer
      const id = yield* begin({ emit: { chunks: 1 } })
      yield* ended(id)
      const streams = yield* TaskStreams
      const none = principal("viewer", { permissions: ["event:read"] })
      expect(yield* Effect.flip(as(none)(page(id)))).toMatchObject({ permission: "task:read" })
      expect(yield* Effect.flip(as(stranger)(page(id)))).toMatchObject({ _tag: "TaskNotFound" })
      expect(yield* Effect.flip(as(stranger)(streams.list(id)))).toMatchObject({ _tag: "TaskNotFound" })
      const followed = Stream.runCollect(streams.follow(id, { stream: "log", after: 0 }))
      expect(yield* Effect.flip(as(stranger)(followed))).toMatchObject({ _tag: "TaskNotFound" })
      const sql = yield* SqlClient.SqlClient
      yield* sql`delete from tasks where id = ${id}`
      expect(yield* sql`select from stream_chunks where task_id = ${id}`).toHaveLength(0)
    }).pipe(as(admin))
  )

  it.effect("is open at most so often per key", () =>
    Effect.gen(function* () {
      yield* writer
      const streams = yield* TaskStreams
      const id = yield* begin({ sleep_ms: 600_000 })
      const scope = yield* Scope.make()
      const open = Stream.runDrain(streams.follow(id, { stream: "log", after: 0 }))
      for (let count = 0; count < Limits.openStreamsMax; count++) {
        yield* Effect.forkIn(open, scope, { startImmediately: true })
      }
      expect(yield* Effect.flip(open)).toMatchObject({ _tag: "Overloaded" })
      yield* Scope.close(scope, Exit.void)
      yield* (yield* Tasks).cancel(id, undefined)
      yield* open
    }).pipe(as(admin))
  )

  it.effect("takes nothing from an attempt that is over, and a repeated append once", () =>
    Effect.gen(function* () {
      yield* writer
      const ledger = yield* Ledger
      const id = yield* begin({ sleep_ms: 600_000 })
      const sql = yield* SqlClient.SqlClient
      const rows = sql<{ agent_id: never; epoch: number; attempt: number; status: string; namespace: never }>`
        select agent_id, epoch, attempt, status, namespace from tasks where id = ${id}`
      const [row] = yield* until(rows, ([first]) => first?.status === "running")
      if (row === undefined) return expect.fail("no task")
      const slot = { namespace: row.namespace, agentId: row.agent_id, index: 0, epoch: row.epoch }
      const task = { id, namespace: row.namespace, attempt: row.attempt, trace: undefined }
      const say = (sequence: number, chunks: ReadonlyArray<string>, over: { epoch?: number; attempt?: number } = {}) =>
        ledger.streams.append(
          { ...slot, epoch: over.epoch ?? slot.epoch },
          { ...task, attempt: over.attempt ?? task.attempt },
          { stream: "log", run: 2, sequence, chunks, bytes: 10 }
        )
      expect(yield* say(0, ["1", "2"])).toBe("written")
      expect(yield* say(0, ["1", "2"])).toBe("written")
      expect(yield* say(1, ["2", "3"])).toBe("written")
      expect(yield* say(3, ["9"], { epoch: slot.epoch + 1 })).toBe("fenced")
      expect(yield* say(3, ["9"], { attempt: task.attempt + 1 })).toBe("fenced")
      for (let stream = 1; stream < Limits.streamsMax; stream++) {
        const other = { stream: `s${stream}`, run: 2, sequence: 0, chunks: ["0"], bytes: 10 }
        expect(yield* ledger.streams.append(slot, task, other)).toBe("written")
      }
      expect(
        yield* ledger.streams.append(slot, task, { stream: "more", run: 2, sequence: 0, chunks: ["0"], bytes: 10 })
      ).toBe("too_many")
      yield* (yield* Tasks).cancel(id, undefined)
      expect(yield* say(3, ["9"])).toBe("fenced")
      expect((yield* all(id)).map(({ data, number }) => [number, data])).toEqual([1, 2, 3].map((n) => [n, n]))
    }).pipe(as(admin))
  )
})

/** A small seeded generator (mulberry32). */
const mulberry = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
