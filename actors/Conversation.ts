/**
 * What one run of an attempt hears and says: signals and ends of children that it awaits, and chunks that it emits.
 *
 *   await --> look --> answered
 *              ^ '---> nothing yet: hold the slot --> woken, or time to look again
 *              '--------------'                  '--> held long enough: park (the run ends, the slot is free)
 *
 * Awaits are numbered in the order in which the run makes them, and the ledger keeps the answer of each: another run that
 * makes the same ones gets the same answers at once. What a run says again on its way to where the same attempt parked was
 * said before, and is left out. Chunks are written one append at a time, so their order is that of the emits; those that wait
 * are bounded, and beyond the bound, or the rate, the emit waits. Nothing here costs a run that does not use it.
 */
import { type Clock, Context, Duration, Effect, Latch, Result, Schema } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import { SignalName, StreamName, TaskId } from "../protocol/Ids.ts"
import { faultsOf } from "../protocol/JsonShape.ts"
import * as Limits from "../protocol/Limits.ts"
import { storableJson } from "../protocol/Storable.ts"
import { type Attempt, type AwaitOptions, BehaviourFailure } from "./Behaviour.ts"
import type { ChildEnd, ChildrenAnswer } from "./ports/ChildLedger.ts"
import type { Claimed, Ledger, RunningTask, Slot } from "./ports/Ledger.ts"
import type { AwaitAnswer, AwaitTerms, TakenSignal } from "./ports/SignalLedger.ts"

export const ConversationLimits = Context.Reference<{
  /** How long an await holds its slot, unless it says otherwise, before the run parks. */
  readonly holdFor: Duration.Duration
  /** Longest time between two looks of an await that holds its slot, in case nobody wakes it. */
  readonly lookEvery: Duration.Duration
  /** Bytes of chunks of one run that may wait to be written. */
  readonly chunkBytesWaiting: number
}>("datamcp/actors/ConversationLimits", {
  defaultValue: () => ({
    holdFor: Duration.seconds(10),
    lookEvery: Duration.seconds(5),
    chunkBytesWaiting: 256 * 1024
  })
})

export interface Conversation {
  readonly signal: Attempt["signal"]
  readonly awaitChildren: Attempt["awaitChildren"]
  readonly emit: Attempt["emit"]
  /** Called once, with the position of the await, when the run shall end and free its slot. */
  readonly onPark: (handler: (position: number) => void) => void
  /** A signal may have come. */
  readonly wake: () => void
  /** Takes no more chunks; succeeds once those that it took are written, or refused. Undefined when nothing was said. */
  readonly close: () => Effect.Effect<void> | undefined
}

interface Options {
  readonly ledger: Ledger["Service"]
  readonly slot: Slot
  readonly order: TaskOrder
  /** The claim, once it is decided; undefined when the task was not won. */
  readonly claimed: Effect.Effect<Claimed | undefined>
  readonly limits: (typeof ConversationLimits)["Service"]
  readonly clock: Clock.Clock
}

export const make = (options: Options): Conversation => {
  let talk: Talk | undefined
  let park: (position: number) => void = () => {}
  const begun = () => (talk ??= begin(options, (position) => park(position)))
  return {
    signal: (name, asked) => Effect.suspend(() => begun().signal(name, asked)),
    awaitChildren: (children, asked) => Effect.suspend(() => begun().awaitChildren(children, asked)),
    emit: (stream, chunk) => Effect.suspend(() => begun().emit(stream, chunk)),
    onPark: (handler) => {
      park = handler
    },
    wake: () => talk?.wake(),
    close: () => talk?.close
  }
}

interface Talk extends Pick<Conversation, "signal" | "awaitChildren" | "emit" | "wake"> {
  readonly close: Effect.Effect<void>
}

const begin = (options: Options, park: (position: number) => void): Talk => {
  const { claimed, clock, ledger, limits, order, slot } = options
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const wakes = new Set<Latch.Latch>()
  let awaits = 0
  /** The await where this attempt parked, until this run has come to it. */
  let replaysTo = order.parked?.attempt === (order.attempts ?? 0) + 1 ? order.parked.position : 0
  const mouth = makeMouth({ ...options, now })

  /** The run's task once its claim is decided. One that was not won is about to be interrupted. */
  const task = Effect.flatMap(claimed, (won) =>
    won === undefined ? Effect.never : Effect.succeed({ running: taskOf(order, won), run: won.startedBy })
  )

  const signal: Conversation["signal"] = Effect.fnUntraced(function* (name, asked = {}) {
    if (!isSignalName(name)) return yield* invalid(`${JSON.stringify(name)} is no name of a signal`)
    const position = ++awaits
    const { running } = yield* task
    const look = ledger.signals.take(slot, running, {
      position,
      name,
      timeoutMillis: millisOf(asked.timeout),
      terms: termsOf(asked)
    })
    const answer = yield* untilAnswered({
      position,
      holdMillis: millisOf(asked.hold) ?? Duration.toMillis(limits.holdFor),
      look: Effect.map(look, (taken) => {
        if (taken._tag === "Fenced") return fenced
        return taken._tag === "Waiting" ? waiting(taken.leftMillis ?? Number.POSITIVE_INFINITY) : answered(taken)
      })
    })
    return yield* heard(answer, name, asked)
  })

  const awaitChildren: Conversation["awaitChildren"] = Effect.fnUntraced(function* (children, asked = {}) {
    const stray = children?.find((id) => !isTaskId(id))
    if (stray !== undefined) return yield* unknownChild(stray)
    if ((children?.length ?? 0) > Limits.awaitedChildrenMax) return yield* tooManyChildren
    const position = ++awaits
    const { running } = yield* task
    let pauseMillis = childPauseMillis
    const answer = yield* untilAnswered({
      position,
      holdMillis: millisOf(asked.hold) ?? 0,
      // Nobody wakes a run that keeps its slot.
      look: Effect.map(ledger.children.take(slot, running, { position, children }), (taken) => {
        if (taken._tag === "Fenced") return fenced
        pauseMillis *= 2
        return taken._tag === "Waiting" ? waiting(pauseMillis) : answered(taken)
      })
    })
    return yield* endsOf(answer)
  })

  /** Looks until there is an answer. Parks once it has held its slot for so long. */
  const untilAnswered = Effect.fnUntraced(function* <A>(asked: {
    readonly position: number
    readonly holdMillis: number
    readonly look: Effect.Effect<Looked<A>>
  }) {
    const { look, position } = asked
    const began = now()
    const holdMillis = order.at_most_once === true ? Number.POSITIVE_INFINITY : asked.holdMillis
    const woken = Latch.makeUnsafe(false)
    wakes.add(woken)
    const found = Effect.gen(function* () {
      while (true) {
        woken.closeUnsafe()
        // What was said before it is there for whoever decides.
        yield* mouth.written
        const looked = yield* look
        if (looked._tag === "Fenced") return yield* Effect.never
        if (looked._tag === "Answered") return looked.answer
        const holdLeft = holdMillis - (now() - began)
        if (holdLeft <= 0) {
          park(position)
          return yield* Effect.never
        }
        const pause = Math.min(holdLeft, looked.againMillis, Duration.toMillis(limits.lookEvery))
        yield* Effect.timeoutOption(woken.await, Duration.millis(Math.max(1, Math.ceil(pause))))
      }
    })
    const answer = yield* Effect.ensuring(
      found,
      Effect.sync(() => wakes.delete(woken))
    )
    replaysTo = position >= replaysTo ? 0 : replaysTo
    return answer
  })

  const emit: Conversation["emit"] = Effect.fnUntraced(function* (stream, data) {
    if (!isStreamName(stream)) return yield* invalid(`${JSON.stringify(stream)} is no name of a stream`)
    const chunk = yield* Effect.fromResult(chunkOf(data))
    const { run, running } = yield* task
    if (replaysTo > 0) return
    yield* mouth.say(running, run, { stream, ...chunk })
  })

  return {
    signal,
    awaitChildren,
    emit,
    wake: () => {
      for (const woken of wakes) woken.openUnsafe()
    },
    close: mouth.close
  }
}

/** What an await finds when it looks: an answer, or nothing yet; then it looks again after so long at most. */
type Looked<A> =
  | { readonly _tag: "Answered"; readonly answer: A }
  | { readonly _tag: "Waiting"; readonly againMillis: number }
  | typeof fenced

const fenced = { _tag: "Fenced" } as const
const waiting = (againMillis: number) => ({ _tag: "Waiting", againMillis }) as const
const answered = <A>(answer: A) => ({ _tag: "Answered", answer }) as const

/** Half of the pause before an await for children that keeps its slot looks again; each pause is twice the one before. */
const childPauseMillis = 25

// --- hearing

const heard = (
  answer: Exclude<AwaitAnswer, { readonly _tag: "Fenced" | "Waiting" }>,
  name: SignalName,
  { shape, timeout }: AwaitOptions
): Effect.Effect<TakenSignal, BehaviourFailure> => {
  switch (answer._tag) {
    case "TimedOut":
      return refuse("signal_timeout", `no signal ${name} came within ${millisOf(timeout)} ms`, { signal: name })
    case "Diverged":
      return refuse(
        "replay_diverged",
        `an earlier attempt awaited the signal ${answer.awaited} where this one awaits ${name}: awaits must come in the same order every time`,
        { signal: name, awaited: answer.awaited }
      )
    case "Signal": {
      const { actor, at, number, payload } = answer.signal
      const faults = shape === undefined ? [] : faultsOf(shape, payload)
      if (faults.length === 0) return Effect.succeed({ number, name, payload, actor, at })
      const [first] = faults
      return refuse(
        "signal_rejected",
        `signal ${number} (${name}) breaks the shape: ${first?.field} ${first?.message}`,
        {
          ...{ signal: name, number, actor, at },
          errors: faults.map(({ field, message }) => ({ field, message }))
        }
      )
    }
  }
}

const endsOf = (
  answer: Exclude<ChildrenAnswer, { readonly _tag: "Fenced" | "Waiting" }>
): Effect.Effect<ReadonlyArray<ChildEnd>, BehaviourFailure> => {
  switch (answer._tag) {
    case "Ended":
      return Effect.succeed(answer.children)
    case "Diverged":
      return refuse(
        "replay_diverged",
        "an earlier attempt awaited something else where this one awaits these children: awaits must come in the same order every time",
        null
      )
    case "Refused":
      if (answer.why === "too_many") return tooManyChildren
      return answer.why === "circular"
        ? refuse("children_circular", `${answer.child} depends on the task that would wait for it`, {
            task_id: answer.child
          })
        : unknownChild(answer.child)
  }
}

const unknownChild = (id: string) =>
  refuse("children_unknown", `${id} is no child of this task, or is gone`, { task_id: id })

const tooManyChildren = Effect.fail(
  new BehaviourFailure({
    code: "children_too_many",
    message: `an await waits for at most ${Limits.awaitedChildrenMax} children`,
    retryable: false
  })
)

const refuse = (code: string, message: string, details: Schema.Json) =>
  Effect.fail(new BehaviourFailure({ code, message, retryable: false, details }))

const invalid = (message: string) =>
  Effect.fail(new BehaviourFailure({ code: "name_invalid", message, retryable: false }))

const termsOf = ({ from, message, shape }: AwaitOptions): AwaitTerms => ({
  ...(message !== undefined && { message }),
  ...(shape !== undefined && { shape }),
  ...(from !== undefined && { from })
})

const millisOf = (duration: Duration.Input | undefined): number | undefined =>
  duration === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(duration))

const taskOf = (order: TaskOrder, { attempt }: Claimed): RunningTask => ({
  id: order.id,
  namespace: order.namespace,
  attempt,
  trace: order.trace
})

// --- saying

interface Said {
  readonly stream: StreamName
  readonly text: string
  readonly bytes: number
}

const makeMouth = (options: {
  readonly ledger: Ledger["Service"]
  readonly slot: Slot
  readonly limits: (typeof ConversationLimits)["Service"]
  readonly now: () => number
}) => {
  const { ledger, limits, now, slot } = options
  const sequences = new Map<StreamName, number>()
  let waiting: Array<Said> = []
  let waitingBytes = 0
  let writing = false
  let closed = false
  let refusal: BehaviourFailure | undefined
  /** On the monotonic clock: when what was said is within the rate. A second's worth may come at once. */
  let paidUntil = 0
  let room: Latch.Latch | undefined
  let silence: Latch.Latch | undefined

  const write = Effect.fnUntraced(function* (task: RunningTask, run: number) {
    while (waiting.length > 0) {
      const [first] = waiting
      if (first === undefined) break
      const end = waiting.findIndex(({ stream }) => stream !== first.stream)
      const part = end === -1 ? waiting : waiting.slice(0, end)
      waiting = end === -1 ? [] : waiting.slice(end)
      const bytes = part.reduce((sum, each) => sum + each.bytes, 0)
      const sequence = sequences.get(first.stream) ?? 0
      const outcome = yield* ledger.streams.append(slot, task, {
        stream: first.stream,
        run,
        sequence,
        chunks: part.map(({ text }) => text),
        bytes
      })
      sequences.set(first.stream, sequence + part.length)
      waitingBytes -= bytes
      if (outcome === "full") refusal = full
      if (outcome === "too_many") refusal = tooMany
      if (outcome === "fenced") closed = true
      if (outcome !== "written") {
        waiting = []
        waitingBytes = 0
      }
      room?.openUnsafe()
    }
    writing = false
    room?.openUnsafe()
    silence?.openUnsafe()
  })

  const say = Effect.fnUntraced(function* (task: RunningTask, run: number, said: Said) {
    while (true) {
      // A run that is over says nothing more; it is being interrupted, or left behind.
      if (closed) return yield* Effect.never
      if (refusal !== undefined) return yield* refusal
      const early = paidUntil - now() - 1_000
      if (early > 0) {
        yield* Effect.sleep(Duration.millis(early))
        continue
      }
      if (waitingBytes < limits.chunkBytesWaiting) break
      room ??= Latch.makeUnsafe(false)
      room.closeUnsafe()
      yield* room.await
    }
    paidUntil = Math.max(paidUntil, now()) + (1_000 * said.bytes) / Limits.chunkBytesPerSecond
    waiting.push(said)
    waitingBytes += said.bytes
    if (writing) return
    writing = true
    yield* Effect.forkDetach(write(task, run))
  })

  const written = Effect.suspend(() => {
    if (!writing) return Effect.void
    silence ??= Latch.makeUnsafe(false)
    silence.closeUnsafe()
    return silence.await
  })

  return {
    say,
    written,
    close: Effect.suspend(() => {
      closed = true
      return written
    })
  }
}

const chunkOf = (data: Schema.Json): Result.Result<Omit<Said, "stream">, BehaviourFailure> => {
  if (isDeeper(data, Limits.jsonDepthMax)) {
    return Result.fail(chunkRefused(`it nests deeper than ${Limits.jsonDepthMax} levels`))
  }
  const written: string | undefined = JSON.stringify(data)
  if (written === undefined) return Result.fail(chunkRefused("it is not JSON"))
  const text = storableJson(written)
  const bytes = new TextEncoder().encode(text).length
  return bytes > Limits.chunkBytesMax
    ? Result.fail(chunkRefused(`it has ${bytes} bytes; the limit is ${Limits.chunkBytesMax}`))
    : Result.succeed({ text, bytes: bytes + Limits.chunkOverheadBytes })
}

const isDeeper = (value: unknown, levels: number): boolean =>
  value !== null &&
  typeof value === "object" &&
  (levels === 0 || Object.values(value).some((part) => isDeeper(part, levels - 1)))

const chunkRefused = (why: string) =>
  new BehaviourFailure({ code: "chunk_refused", message: `a chunk cannot be emitted: ${why}`, retryable: false })

const full = new BehaviourFailure({
  code: "streams_full",
  message: `the task's streams have reached their bound of ${Limits.taskStreamsBytesMax} bytes`,
  retryable: false
})

const tooMany = new BehaviourFailure({
  code: "streams_full",
  message: `a task has at most ${Limits.streamsMax} streams`,
  retryable: false
})

const isSignalName = Schema.is(SignalName)
const isStreamName = Schema.is(StreamName)
const isTaskId = Schema.is(TaskId)
