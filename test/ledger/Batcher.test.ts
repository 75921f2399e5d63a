/** Batches: what waits goes together, within bounds; each request is answered once; a mistake costs only its own. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Latch, Schema, Scope } from "effect"
import * as Batcher from "../../src/ledger/Batcher.ts"

const options = {
  rowsMax: 10,
  bytesMax: 1_000,
  lanes: 1,
  waitingMax: 1_000,
  bytesOf: (request: number) => request,
  onBatch: () => Effect.void,
  isRefusal: (error: string) => error === "refused"
}

/** A batcher whose batches wait for the gate, and what they were. */
const gated = Effect.fnUntraced(function* (over: Partial<typeof options> = {}) {
  const gate = yield* Latch.make()
  const batches: Array<ReadonlyArray<number>> = []
  const submit = yield* Batcher.make<number, number, string>({
    ...options,
    ...over,
    flush: (batch) =>
      Effect.suspend(() => {
        batches.push(batch)
        return Effect.as(
          gate.await,
          batch.map((request) => request * 2)
        )
      })
  })
  return { batches, gate, submit }
})

const settled = Effect.andThen(Effect.yieldNow, Effect.yieldNow).pipe(Effect.repeat({ times: 20 }))

describe("a batcher", () => {
  it.effect("gathers while one is under way, and answers each in order", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* gated()
      const first = yield* Effect.forkChild(submit(1))
      yield* settled
      const others = yield* Effect.forEach([2, 3, 4], (request) => Effect.forkChild(submit(request)))
      yield* settled
      expect(batches).toEqual([[1]])
      yield* gate.open
      expect(yield* Fiber.join(first)).toBe(2)
      expect(yield* Effect.forEach(others, Fiber.join)).toEqual([4, 6, 8])
      expect(batches).toEqual([[1], [2, 3, 4]])
    })
  )

  it.effect("begins another while one is under way only when it is full, and no more than its lanes", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* gated({ lanes: 2, rowsMax: 3 })
      const send = (...requests: ReadonlyArray<number>) =>
        Effect.forEach(requests, (request) => Effect.forkChild(submit(request))).pipe(Effect.tap(() => settled))
      const fibers = [...(yield* send(1)), ...(yield* send(2, 3))]
      expect(batches).toEqual([[1]])
      fibers.push(...(yield* send(4)))
      expect(batches).toEqual([[1], [2, 3, 4]])
      fibers.push(...(yield* send(5, 6, 7, 8)))
      expect(batches).toEqual([[1], [2, 3, 4]])
      yield* gate.open
      expect(yield* Effect.forEach(fibers, Fiber.join)).toEqual([2, 4, 6, 8, 10, 12, 14, 16])
      expect(batches).toEqual([[1], [2, 3, 4], [5, 6, 7], [8]])
    })
  )

  it.effect("keeps to its rows and bytes; a request that is larger goes alone", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* gated({ bytesMax: 100, rowsMax: 3 })
      yield* gate.open
      yield* Effect.forEach([1, 1, 1, 1, 60, 60, 60, 500, 1], submit, { concurrency: "unbounded" })
      expect(batches.every((batch) => batch.length <= 3)).toBe(true)
      expect(batches.flat()).toEqual([1, 1, 1, 1, 60, 60, 60, 500, 1])
      for (const batch of batches) {
        const before = batch.slice(0, -1).reduce((sum, request) => sum + request, 0)
        expect(before).toBeLessThan(100)
      }
    })
  )

  it.effect.prop(
    "refuses exactly the requests at fault, however they were grouped",
    { requests: Schema.Array(Schema.Struct({ bad: Schema.Boolean })).check(Schema.isMaxLength(40)) },
    ({ requests }) =>
      Effect.gen(function* () {
        let answered = 0
        const submit = yield* Batcher.make<{ readonly bad: boolean }, string, string>({
          ...options,
          bytesOf: () => 1,
          flush: (batch) =>
            batch.some(({ bad }) => bad)
              ? Effect.fail("refused")
              : Effect.sync(() => {
                  answered += batch.length
                  return batch.map(() => "good")
                })
        })
        const exits = yield* Effect.forEach(requests, (request) => Effect.exit(submit(request)), {
          concurrency: "unbounded"
        })
        expect(exits).toEqual(requests.map(({ bad }) => (bad ? Exit.fail("refused") : Exit.succeed("good"))))
        expect(answered).toBe(requests.filter(({ bad }) => !bad).length)
      })
  )

  it.effect("tells all of a batch when it fails as a whole, and goes on", () =>
    Effect.gen(function* () {
      let calls = 0
      const submit = yield* Batcher.make<number, number, string>({
        ...options,
        flush: (batch) =>
          Effect.suspend(() =>
            calls++ === 0 ? Effect.fail("away") : calls === 2 ? Effect.die("bug") : Effect.succeed(batch)
          )
      })
      const both = yield* Effect.forEach([1, 2], (request) => Effect.exit(submit(request)), { concurrency: 2 })
      expect(both).toEqual([Exit.fail("away"), Exit.fail("away")])
      expect(yield* Effect.exit(submit(3))).toEqual(Exit.die("bug"))
      expect(yield* submit(4)).toBe(4)
    })
  )

  it.effect("makes callers wait beyond its bound, and forgets nobody", () =>
    Effect.gen(function* () {
      const { batches, gate, submit } = yield* gated({ waitingMax: 5 })
      const all = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, index) => index),
        (request) => Effect.forkChild(submit(request))
      )
      yield* settled
      yield* gate.open
      expect(yield* Effect.forEach(all, Fiber.join)).toEqual(Array.from({ length: 100 }, (_, index) => index * 2))
      expect(batches.flat()).toHaveLength(100)
    })
  )

  it.live("interrupts whoever still waits when it ends, under way or not", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const started = yield* Deferred.make<void>()
      const submit = yield* Batcher.make<number, number, string>({
        ...options,
        flush: () => Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
      }).pipe(Scope.provide(scope))
      const underWay = yield* Effect.forkChild(submit(1))
      yield* Deferred.await(started)
      const waiting = yield* Effect.forkChild(submit(2))
      yield* settled
      yield* Scope.close(scope, Exit.void)
      const late = yield* Effect.forkChild(submit(3))
      for (const fiber of [underWay, waiting, late]) {
        const exit = yield* Effect.timeoutOption(Fiber.await(fiber), "1 second")
        expect(exit).toMatchObject({ _tag: "Some", value: { _tag: "Failure" } })
      }
    })
  )
})
