/**
 * Submits the work of a proof as a careful client does: over the public HTTP API, each task with its idempotency key, tried again on another
 * node until it is answered by yes or no. Remembers each yes: that is what the platform has promised.
 */
import { Clock, Effect, FiberSet } from "effect"
import * as undici from "undici"
import type { ProofPlan } from "../../protocol/Proof.ts"
import type { EffectSink } from "./EffectSink.ts"
import type { ProofNodes } from "./ProofNodes.ts"
import { agentName, keyOf, type Piece, pieceOf } from "./Work.ts"

export interface Submissions {
  /** Submits all, at the plan's rate and within its time. Returns when each has its answer. */
  readonly run: Effect.Effect<void>
  /** The id that was answered for the task of this number. */
  readonly idOf: (number: number) => string | undefined
  readonly counts: () => {
    readonly submitted: number
    readonly accepted: number
    readonly resubmitted: number
    readonly retried: number
  }
  /** Whether a cancellation of the task of this number was answered by yes. */
  readonly wasCancelled: (number: number) => boolean
  /** Tasks whose second submission was answered by another id, or refused. */
  readonly doubled: ReadonlyArray<string>
  /** What was refused for good, in words. */
  readonly refusals: ReadonlyArray<string>
}

/** Submissions under way at a time; what is above waits. */
const openMax = 512
/** How long one request may take. */
const answerWithin = 10_000
const pauseMillis = { noAnswer: 50, busyMost: 2_000 }
/** Attempts of a task: more than any schedule of kills can use up. */
const attemptsMax = 100
/** Words of refusals that are kept. */
const refusalsMax = 10

interface Answer {
  readonly status: number
  readonly id: string | undefined
  readonly retryAfterMillis: number
  readonly text: string
}

/** Nobody answered, or the connection was cut: it may have been done. */
const noAnswer: Answer = { status: 0, id: undefined, retryAfterMillis: pauseMillis.noAnswer, text: "no answer" }

/** Nobody was there to be asked. */
const nobodyUp: Answer = { ...noAnswer }

export const make = Effect.fnUntraced(function* (
  plan: ProofPlan,
  platform: { readonly nodes: ProofNodes; readonly key: string; readonly sink: EffectSink }
) {
  const { key, nodes, sink } = platform
  const dispatcher = yield* Effect.acquireRelease(
    Effect.sync(() => new undici.Agent({ connections: 64, pipelining: 1, headersTimeout: answerWithin })),
    (agent) => Effect.promise(() => agent.destroy())
  )
  const ids: Array<string | undefined> = []
  const cancelled = new Set<number>()
  const doubled: Array<string> = []
  const refusals: Array<string> = []
  const counts = { submitted: 0, accepted: 0, resubmitted: 0, retried: 0 }
  let turn = 0

  const post = (path: string, body: object, idempotencyKey?: string): Effect.Effect<Answer> =>
    Effect.suspend(() => {
      const up = nodes.up()
      const node = up[turn++ % Math.max(1, up.length)]
      if (node === undefined) return Effect.succeed(nobodyUp)
      return Effect.tryPromise(async (signal): Promise<Answer> => {
        const response = await undici.request(`${node.url}/api/v1${path}`, {
          method: "POST",
          dispatcher,
          signal,
          headers: {
            authorization: `Bearer ${key}`,
            "content-type": "application/json",
            ...(idempotencyKey !== undefined && { "idempotency-key": idempotencyKey })
          },
          body: JSON.stringify(body)
        })
        const text = await response.body.text()
        return {
          status: response.statusCode,
          id: response.statusCode < 300 ? /"id":"([0-9a-f-]{36})"/u.exec(text)?.[1] : undefined,
          retryAfterMillis: Number(response.headers["retry-after"] ?? 1) * 1_000,
          text: text.slice(0, 300)
        }
      }).pipe(
        Effect.timeout(answerWithin),
        Effect.orElseSucceed(() => noAnswer)
      )
    })

  /** Yes or no, however often it has to be asked. */
  const insist = Effect.fnUntraced(function* (path: string, body: object, idempotencyKey?: string) {
    for (;;) {
      const answer = yield* post(path, body, idempotencyKey)
      if (answer.status !== 0 && answer.status !== 429 && answer.status < 500) return answer
      if (answer !== nobodyUp) counts.retried++
      yield* Effect.sleep(Math.min(answer.retryAfterMillis, pauseMillis.busyMost))
    }
  })

  const submit = (piece: Piece) =>
    insist(
      "/tasks",
      {
        agent: agentName,
        type: "http.fetch",
        name: keyOf(piece.number),
        payload: { url: sink.urlOf(piece), method: "POST", body: { task: piece.number } },
        configuration: { retry: { max_attempts: attemptsMax } }
      },
      keyOf(piece.number)
    )

  const one = Effect.fnUntraced(function* (number: number) {
    const piece = pieceOf(plan.seed, number)
    const { id, status, text } = yield* submit(piece)
    if (id === undefined) {
      if (refusals.length < refusalsMax) refusals.push(`${keyOf(number)}: ${status} ${text}`)
      return
    }
    ids[number] = id
    counts.accepted++
    if (piece.again) {
      const second = yield* submit(piece)
      counts.resubmitted++
      if (second.id !== id) doubled.push(id)
    }
    if (piece.kind === "cancelled" && (yield* insist(`/tasks/${id}/cancel`, {})).status < 300) cancelled.add(number)
  })

  const run = Effect.gen(function* () {
    const open = yield* FiberSet.make()
    const began = yield* Clock.currentTimeMillis
    for (let next = 0; next < plan.tasks; ) {
      const elapsed = (yield* Clock.currentTimeMillis) - began
      if (elapsed >= plan.seconds * 1_000) break
      const due = Math.min(plan.tasks, Math.floor((elapsed * plan.rate) / 1_000) + 1)
      for (let room = openMax - (yield* FiberSet.size(open)); next < due && room > 0; room--) {
        counts.submitted++
        yield* FiberSet.run(open, one(next++))
      }
      yield* Effect.sleep(5)
    }
    yield* FiberSet.awaitEmpty(open)
  }).pipe(Effect.scoped)

  return {
    run,
    idOf: (number) => ids[number],
    counts: () => counts,
    wasCancelled: (number) => cancelled.has(number),
    doubled,
    refusals
  } satisfies Submissions
})
