/**
 * Tells of what went wrong inside callbacks of the connection, where nobody can be failed: messages that could not be
 * understood, and handlers that threw. Everything is counted; the log gets one line per kind and second, with the last
 * case and how many there were, so that a flood of bad messages does not become a flood of lines.
 */
import { Effect, Result, Schedule } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"

export type MessageKind = "dispatch" | "event" | "notice" | "chunk" | "survey"

export interface Undecodable {
  readonly kind: MessageKind
  readonly subject: string
  readonly bytes: number
  /** Never quotes the message: it may hold secrets. */
  readonly reason: string
  /** Number in its stream. */
  readonly sequence?: number
}

export interface Evidence {
  readonly undecodable: (found: Undecodable) => void
  /** Runs a handler that somebody else wrote; false when it threw. */
  readonly guard: (kind: MessageKind, handler: () => void) => boolean
}

interface Cases {
  readonly text: string
  count: number
  last: Readonly<Record<string, unknown>>
}

/** Writes its lines while the scope is open. */
export const make = Effect.gen(function* () {
  const context = yield* Effect.context<never>()
  const open = new Map<string, Cases>()

  const add = (text: string, key: string, last: Readonly<Record<string, unknown>>) => {
    const cases = open.get(key)
    if (cases === undefined) {
      open.set(key, { text, count: 1, last })
      return
    }
    cases.count++
    cases.last = last
  }

  const tell = Effect.suspend(() => {
    const all = [...open.values()]
    open.clear()
    return Effect.forEach(
      all,
      ({ count, last, text }) => Effect.logWarning(text).pipe(Effect.annotateLogs({ ...last, count })),
      { discard: true }
    )
  })
  yield* Effect.acquireRelease(Effect.void, () => tell)
  yield* Effect.forkScoped(Effect.repeat(tell, Schedule.spaced("1 second")))

  return {
    undecodable: ({ kind, ...last }) => {
      Metrics.busUndecodable({ kind }).updateUnsafe(1, context)
      add(`a message of kind ${kind} could not be understood`, `message ${kind}`, last)
    },
    guard: (kind, handler) => {
      const result = Result.try(handler)
      if (Result.isFailure(result))
        add(`a handler of messages of kind ${kind} threw`, `handler ${kind}`, { error: String(result.failure) })
      return Result.isSuccess(result)
    }
  } satisfies Evidence
})
