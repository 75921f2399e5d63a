/** What one run hears and says, against a ledger that a test plays. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as Conversation from "../../actors/Conversation.ts"
import type { ChildrenAnswer } from "../../actors/ports/ChildLedger.ts"
import type { Ledger } from "../../actors/ports/Ledger.ts"
import type { AwaitAnswer, AwaitTerms } from "../../actors/ports/SignalLedger.ts"
import type { NewChunks } from "../../actors/ports/StreamLedger.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import { AgentId, Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"

const namespace = Namespace.make("default")
const order: TaskOrder = {
  id: TaskId.make("01890a5d-ac96-774b-bcce-b302099a8057"),
  namespace,
  name: "a task",
  type: "test.talk",
  lane: "normal",
  max_attempts: 3
}
const slot = { namespace, agentId: AgentId.make("01890a5d-ac96-774b-bcce-b302099a8058"), index: 0, epoch: 1 }
const claimed = { id: order.id, attempt: 1, startedBy: 2, startedAtMillis: 0, payload: undefined }
const waiting: AwaitAnswer = { _tag: "Waiting", leftMillis: undefined }
const answered = (payload: unknown): AwaitAnswer => ({
  _tag: "Signal",
  signal: { number: 1, name: "go", payload: payload as never, actor: "key:a", at: "2026-11-23T10:00:00.000Z" }
})

/** A conversation, what it asked of the ledger, and the answers that the ledger gives. */
const begin = Effect.fnUntraced(function* (over: Partial<TaskOrder> = {}) {
  const looks: Array<{ readonly position: number; readonly terms: AwaitTerms }> = []
  const appends: Array<NewChunks> = []
  const parked: Array<number> = []
  const answers: Array<AwaitAnswer> = []
  const childLooks: Array<{ readonly position: number; readonly children: ReadonlyArray<TaskId> | undefined }> = []
  const childAnswers: Array<ChildrenAnswer> = []
  const say = { outcome: "written" as Effect.Success<ReturnType<Ledger["Service"]["streams"]["append"]>> }
  const gate = yield* Deferred.make<void>()
  const ledger = {
    signals: {
      take: (_: unknown, __: unknown, wanted: { readonly position: number; readonly terms: AwaitTerms }) =>
        Effect.sync(() => {
          looks.push(wanted)
          return answers.shift() ?? waiting
        })
    },
    children: {
      take: (_: unknown, __: unknown, wanted: (typeof childLooks)[number]) =>
        Effect.sync(() => {
          childLooks.push(wanted)
          return childAnswers.shift() ?? ({ _tag: "Waiting", open: 1 } as const)
        })
    },
    streams: {
      append: (_: unknown, __: unknown, chunks: NewChunks) =>
        Effect.andThen(
          Deferred.await(gate),
          Effect.sync(() => {
            appends.push(chunks)
            return say.outcome
          })
        )
    }
  } as unknown as Ledger["Service"]
  const conversation = Conversation.make({
    ledger,
    slot,
    order: { ...order, ...over },
    claimed: Effect.succeed(claimed),
    clock: yield* Clock.Clock,
    limits: Conversation.ConversationLimits.defaultValue()
  })
  conversation.onPark((position) => parked.push(position))
  yield* Deferred.succeed(gate, undefined)
  return { conversation, looks, appends, parked, answers, say, childLooks, childAnswers }
})

describe("an await", () => {
  it.effect("looks again when it is woken, and every 5 s in case it is not", () =>
    Effect.gen(function* () {
      const { answers, conversation, looks } = yield* begin()
      const heard = yield* Effect.forkChild(conversation.signal("go"))
      yield* TestClock.adjust("1 second")
      expect(looks).toHaveLength(1)
      conversation.wake()
      yield* TestClock.adjust("1 second")
      expect(looks).toHaveLength(2)
      yield* TestClock.adjust("5 seconds")
      expect(looks).toHaveLength(3)
      answers.push(answered(7))
      conversation.wake()
      expect(yield* Fiber.join(heard)).toMatchObject({ payload: 7, actor: "key:a" })
    })
  )

  it.effect("parks once it has held its slot for so long, where it stands", () =>
    Effect.gen(function* () {
      const { answers, conversation, parked } = yield* begin()
      answers.push(answered(1))
      yield* conversation.signal("go")
      yield* Effect.forkChild(conversation.signal("go", { hold: "3 seconds" }))
      yield* TestClock.adjust("2 seconds")
      expect(parked).toEqual([])
      yield* TestClock.adjust("2 seconds")
      expect(parked).toEqual([2])
    })
  )

  it.effect("of a task that may run at most once never parks", () =>
    Effect.gen(function* () {
      const { conversation, parked } = yield* begin({ at_most_once: true })
      yield* Effect.forkChild(conversation.signal("go", { hold: 0 }))
      yield* TestClock.adjust("10 minutes")
      expect(parked).toEqual([])
    })
  )

  it.effect("fails with what came of it, and the evidence", () =>
    Effect.gen(function* () {
      const { answers, conversation } = yield* begin()
      answers.push({ _tag: "TimedOut" }, { _tag: "Diverged", awaited: "other" }, answered("x"))
      expect(yield* Effect.flip(conversation.signal("go"))).toMatchObject({ code: "signal_timeout", retryable: false })
      expect(yield* Effect.flip(conversation.signal("go"))).toMatchObject({
        code: "replay_diverged",
        details: { awaited: "other" }
      })
      expect(yield* Effect.flip(conversation.signal("go", { shape: { type: "integer" } }))).toMatchObject({
        code: "signal_rejected",
        details: { signal: "go", number: 1, actor: "key:a", errors: [{ field: "", message: "must be a whole number" }] }
      })
      expect(yield* Effect.flip(conversation.signal("no dots."))).toMatchObject({ code: "name_invalid" })
    })
  )

  it.effect("says what it asks for", () =>
    Effect.gen(function* () {
      const { answers, conversation, looks } = yield* begin()
      answers.push(answered(1))
      const terms = { message: "m", shape: { type: "integer" }, from: { roles: ["admin"] } } as const
      yield* conversation.signal("go", { ...terms, timeout: "1 minute" })
      expect(looks).toMatchObject([{ position: 1, terms, timeoutMillis: 60_000 }])
    })
  )
})

describe("an await for children", () => {
  const child = TaskId.make("01890a5d-ac96-774b-bcce-b302099a8059")
  const end = { id: child, status: "completed", data: 1 } as const

  it.effect("parks at once when they have not ended, and is numbered with the awaits for signals", () =>
    Effect.gen(function* () {
      const { answers, childAnswers, childLooks, conversation, parked } = yield* begin()
      answers.push(answered(1))
      childAnswers.push({ _tag: "Ended", children: [end] })
      yield* conversation.signal("go")
      expect(yield* conversation.awaitChildren()).toEqual([end])
      yield* Effect.forkChild(conversation.awaitChildren([child]))
      yield* TestClock.adjust("1 milli")
      expect(childLooks).toEqual([
        { position: 2, children: undefined },
        { position: 3, children: [child] }
      ])
      expect(parked).toEqual([3])
    })
  )

  it.effect("that holds its slot looks soon, then ever more seldom, and every 5 s at last", () =>
    Effect.gen(function* () {
      const { childLooks, conversation, parked } = yield* begin()
      yield* Effect.forkChild(conversation.awaitChildren([child], { hold: "1 minute" }))
      yield* TestClock.adjust("49 millis")
      expect(childLooks).toHaveLength(1)
      yield* TestClock.adjust("1 milli")
      expect(childLooks).toHaveLength(2)
      yield* TestClock.adjust("58 seconds")
      expect(childLooks.length).toBeGreaterThan(14)
      expect(childLooks.length).toBeLessThan(24)
      expect(parked).toEqual([])
      yield* TestClock.adjust("2 seconds")
      expect(parked).toEqual([1])
    })
  )

  it.effect("of a task that may run at most once never parks", () =>
    Effect.gen(function* () {
      const { childAnswers, conversation, parked } = yield* begin({ at_most_once: true })
      const awaited = yield* Effect.forkChild(conversation.awaitChildren([child]))
      yield* TestClock.adjust("10 minutes")
      childAnswers.push({ _tag: "Ended", children: [end] })
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(awaited)).toEqual([end])
      expect(parked).toEqual([])
    })
  )

  it.effect("fails with what came of it", () =>
    Effect.gen(function* () {
      const { childAnswers, childLooks, conversation } = yield* begin()
      childAnswers.push(
        { _tag: "Diverged" },
        { _tag: "Refused", why: "unknown", child },
        { _tag: "Refused", why: "gone", child },
        { _tag: "Refused", why: "circular", child },
        { _tag: "Refused", why: "too_many" }
      )
      const codes: Array<string> = []
      for (let each = 0; each < 5; each++) {
        const failure = yield* Effect.flip(conversation.awaitChildren([child]))
        expect(failure.retryable).toBe(false)
        codes.push(failure.code)
      }
      expect(codes).toEqual([
        "replay_diverged",
        "children_unknown",
        "children_unknown",
        "children_circular",
        "children_too_many"
      ])
      const many = Array.from({ length: Limits.awaitedChildrenMax + 1 }, () => child)
      expect(yield* Effect.flip(conversation.awaitChildren(many))).toMatchObject({ code: "children_too_many" })
      const strays = [TaskId.make("no id", { disableChecks: true })]
      expect(yield* Effect.flip(conversation.awaitChildren(strays))).toMatchObject({ code: "children_unknown" })
      // Neither of them asked the ledger, nor took a number.
      expect(childLooks).toHaveLength(5)
    })
  )
})

describe("chunks", () => {
  it.effect("are written in the order in which they were said, one append at a time, and all before the end", () =>
    Effect.gen(function* () {
      const { appends, conversation } = yield* begin()
      for (let n = 0; n < 5; n++) yield* conversation.emit("log", n)
      yield* conversation.emit("other", "a")
      yield* conversation.emit("log", 5)
      yield* conversation.close() ?? Effect.die("nothing was said")
      const of = (stream: string) => appends.filter((each) => each.stream === stream).flatMap(({ chunks }) => chunks)
      expect(of("log")).toEqual(["0", "1", "2", "3", "4", "5"])
      expect(of("other")).toEqual(['"a"'])
      let sequence = 0
      for (const each of appends.filter(({ stream }) => stream === "log")) {
        expect(each).toMatchObject({ run: 2, sequence })
        sequence += each.chunks.length
      }
    })
  )

  it.effect("that were said before the attempt parked are not said again on the way there", () =>
    Effect.gen(function* () {
      const { answers, appends, conversation } = yield* begin({ parked: { attempt: 1, position: 2 } })
      answers.push(answered(1), answered(2))
      yield* conversation.emit("log", "before")
      yield* conversation.signal("go")
      yield* conversation.emit("log", "between")
      yield* conversation.signal("go")
      yield* conversation.emit("log", "after")
      yield* conversation.close() ?? Effect.die("nothing was said")
      expect(appends.flatMap(({ chunks }) => chunks)).toEqual(['"after"'])
    })
  )

  it.effect("of another attempt than the one that parked are said", () =>
    Effect.gen(function* () {
      const { appends, conversation } = yield* begin({ parked: { attempt: 1, position: 2 }, attempts: 1 })
      yield* conversation.emit("log", "again")
      yield* conversation.close() ?? Effect.die("nothing was said")
      expect(appends.flatMap(({ chunks }) => chunks)).toEqual(['"again"'])
    })
  )

  it.effect("come no faster than the rate, but for a second's worth at once", () =>
    Effect.gen(function* () {
      const { conversation } = yield* begin()
      const bytes = 32 * 1024
      const chunk = "x".repeat(bytes - Limits.chunkOverheadBytes - 2)
      let said = 0
      yield* Effect.forkChild(
        Effect.forever(
          Effect.andThen(
            conversation.emit("log", chunk),
            Effect.sync(() => {
              said += bytes
            })
          )
        )
      )
      for (let step = 1; step <= 1_000; step++) {
        yield* TestClock.adjust("10 millis")
        expect(said).toBeLessThanOrEqual((1 + step / 100) * Limits.chunkBytesPerSecond + bytes)
      }
      expect(said).toBeGreaterThan(9 * Limits.chunkBytesPerSecond)
    })
  )

  it.effect("that cannot be kept are refused", () =>
    Effect.gen(function* () {
      const { conversation, say } = yield* begin()
      let deep: ReadonlyArray<unknown> = []
      for (let level = 0; level < 100; level++) deep = [deep]
      for (const chunk of ["x".repeat(Limits.chunkBytesMax), deep as never, undefined as never]) {
        expect(yield* Effect.flip(conversation.emit("log", chunk))).toMatchObject({ code: "chunk_refused" })
      }
      expect(yield* Effect.flip(conversation.emit("a b", 1))).toMatchObject({ code: "name_invalid" })
      say.outcome = "full"
      yield* conversation.emit("log", 1)
      yield* TestClock.adjust(Duration.millis(1))
      expect(yield* Effect.flip(conversation.emit("log", 2))).toMatchObject({ code: "streams_full" })
    })
  )

  it.effect("of a run that is over go nowhere", () =>
    Effect.gen(function* () {
      const { appends, conversation, say } = yield* begin()
      say.outcome = "fenced"
      yield* conversation.emit("log", 1)
      yield* TestClock.adjust(Duration.millis(1))
      const late = yield* Effect.forkChild(conversation.emit("log", 2))
      yield* TestClock.adjust("1 minute")
      expect(late.pollUnsafe()).toBeUndefined()
      expect(appends).toHaveLength(1)
    })
  )

  it.effect("cost nothing where nothing is said", () =>
    Effect.gen(function* () {
      const { conversation } = yield* begin()
      expect(conversation.close()).toBeUndefined()
    })
  )
})
