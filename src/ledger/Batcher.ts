/**
 * Groups single requests into batches without timers: while one is in flight the next one gathers, and goes as soon as the
 * first has ended or it is full. One fsync then serves many callers.
 *
 * Invariant: each request is answered exactly once, after its batch was; a batch that is refused for a mistake in one
 * of its requests is halved until only that request is refused. It must not reorder requests of one batch.
 */
import { Deferred, Effect, Queue, type Scope } from "effect"
import * as CommitTurns from "../../actors/CommitTurns.ts"

export interface BatcherOptions<A, B, E> {
  /** Most requests of one batch. */
  readonly rowsMax: number
  /** Most bytes of one batch, as `bytesOf` counts them; a larger request goes alone. */
  readonly bytesMax: number
  readonly bytesOf: (request: A) => number
  /** Most batches in flight at a time; those beyond the first begin full. */
  readonly lanes: number
  /** Requests that may wait; more suspend their callers. */
  readonly waitingMax: number
  /** Answers a batch, in the order of its requests. */
  readonly flush: (batch: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<B>, E>
  /** Told the size of each batch. */
  readonly onBatch: (size: number) => Effect.Effect<void>
  /** Whether a failed batch may succeed without one of its requests. */
  readonly isRefusal: (error: E) => boolean
}

interface Waiting<A, B, E> {
  readonly request: A
  readonly answer: Deferred.Deferred<B, E>
}

/** Starts the workers in the scope; they end with it, and callers that still wait are interrupted. */
export const make = <A, B, E>(
  options: BatcherOptions<A, B, E>
): Effect.Effect<(request: A) => Effect.Effect<B, E>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const waiting = yield* Queue.bounded<Waiting<A, B, E>>(options.waitingMax)
    const unanswered = new Set<Waiting<A, B, E>>()
    let closed = false
    let waitingRows = 0
    let waitingBytes = 0
    const turns = CommitTurns.make({
      lanes: options.lanes,
      isFull: () => waitingRows >= options.rowsMax || waitingBytes >= options.bytesMax
    })
    // Before the loop is forked, so that it runs after all batches have ended.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        for (const entry of unanswered) Deferred.doneUnsafe(entry.answer, Effect.interrupt)
        return Queue.shutdown(waiting)
      })
    )

    const answer = (batch: ReadonlyArray<Waiting<A, B, E>>): Effect.Effect<void> =>
      options.flush(batch.map((entry) => entry.request)).pipe(
        Effect.matchCauseEffect({
          onSuccess: (answers) =>
            Effect.sync(() => {
              for (let index = 0; index < batch.length; index++) {
                const entry = batch[index]
                const value = answers[index]
                if (entry === undefined) continue
                unanswered.delete(entry)
                Deferred.doneUnsafe(
                  entry.answer,
                  value === undefined ? Effect.die(new Error("a batch was answered in part")) : Effect.succeed(value)
                )
              }
            }),
          onFailure: (cause) => {
            const refused = cause.reasons.some((reason) => reason._tag === "Fail" && options.isRefusal(reason.error))
            if (refused && batch.length > 1) {
              const middle = batch.length >> 1
              return Effect.andThen(answer(batch.slice(0, middle)), answer(batch.slice(middle)))
            }
            return Effect.sync(() => {
              for (const entry of batch) {
                unanswered.delete(entry)
                Deferred.doneUnsafe(entry.answer, Effect.failCause(cause))
              }
            })
          }
        })
      )

    /** The first request is waited for; whoever else is there once a transaction may begin comes along. */
    const gather = Effect.gen(function* () {
      const first = yield* Queue.take(waiting)
      yield* Effect.yieldNow
      yield* turns.begin
      const batch = [first]
      let bytes = options.bytesOf(first.request)
      while (batch.length < options.rowsMax && bytes < options.bytesMax) {
        const next = Queue.takeUnsafe(waiting)
        if (next === undefined || next._tag === "Failure") break
        batch.push(next.value)
        bytes += options.bytesOf(next.value.request)
      }
      waitingRows -= batch.length
      waitingBytes -= bytes
      return batch
    })

    yield* gather.pipe(
      Effect.flatMap((batch) =>
        Effect.andThen(options.onBatch(batch.length), answer(batch)).pipe(
          Effect.ensuring(Effect.sync(turns.end)),
          Effect.forkScoped
        )
      ),
      Effect.forever,
      Effect.forkScoped
    )

    const entered = (request: A) => {
      waitingRows++
      waitingBytes += options.bytesOf(request)
      turns.grown()
    }

    return (request) =>
      Effect.suspend(() => {
        if (closed) return Effect.interrupt
        const entry: Waiting<A, B, E> = { request, answer: Deferred.makeUnsafe() }
        unanswered.add(entry)
        if (Queue.offerUnsafe(waiting, entry)) {
          entered(request)
          return Deferred.await(entry.answer)
        }
        return Queue.offer(waiting, entry).pipe(
          Effect.onInterrupt(() => Effect.sync(() => unanswered.delete(entry))),
          Effect.andThen(Effect.sync(() => entered(request))),
          Effect.andThen(Deferred.await(entry.answer))
        )
      })
  })
