/**
 * A client who submits tasks to nodes for as long as a test lasts and keeps what it was promised: the tests of failing
 * servers ask afterwards whether each promise was kept.
 */
import { Effect, Fiber, Schedule } from "effect"
import { type Asked, askPort } from "../http/support/TestServer.ts"
import type { ServedPlatform } from "../nats/ServedPlatform.ts"

export interface Promised {
  readonly id: string
  readonly key: string
}

/** Asks a node; what does not answer at all is status 0. */
export const asking = ({ key, url }: Pick<ServedPlatform, "key" | "url">) => {
  const port = Number(new URL(url).port)
  const ask = (asked: Asked) => Effect.promise(() => askPort(port, { key, ...asked }).catch(() => nobody))
  return {
    get: (path: string) => ask({ path: `/api/v1${path}` }),
    post: (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
      ask({
        ...{ method: "POST", path: `/api/v1${path}`, body: JSON.stringify(body) },
        headers: { "content-type": "application/json", ...headers }
      })
  }
}

const nobody = { status: 0, headers: {}, text: "", json: {} as Record<string, never> }

/**
 * Submits one task after the other, `writers` at a time, each with a key of its own and again with the same key until it is
 * accepted. Runs in the scope until `stop`.
 */
export const submitting = Effect.fnUntraced(function* (
  node: Pick<ServedPlatform, "key" | "url">,
  options: { readonly writers: number; readonly task: Readonly<Record<string, unknown>> }
) {
  const { post } = asking(node)
  const promised: Array<Promised> = []
  const refusals = new Map<number, number>()
  /** When the last acceptance came, and the longest time without one. */
  let acceptedAt = performance.now()
  let longestPauseMillis = 0
  let count = 0
  let stopping = false

  const one = Effect.gen(function* () {
    const key = `key-${count++}`
    while (true) {
      const answer = yield* post("/tasks", options.task, { "idempotency-key": key })
      if (answer.status === 202) {
        const now = performance.now()
        longestPauseMillis = Math.max(longestPauseMillis, now - acceptedAt)
        acceptedAt = now
        promised.push({ id: String(answer.json["id"]), key })
        return
      }
      refusals.set(answer.status, (refusals.get(answer.status) ?? 0) + 1)
      yield* Effect.sleep("50 millis")
    }
  })
  const writer = Effect.repeat(Effect.andThen(one, Effect.sleep("5 millis")), { until: () => stopping })
  const running = yield* Effect.forkScoped(
    Effect.all(
      Array.from({ length: options.writers }, () => writer),
      { concurrency: "unbounded", discard: true }
    )
  )
  return {
    promised,
    refusals,
    longestPauseMillis: () => longestPauseMillis,
    /** Waits until `more` further tasks were accepted. */
    further: (more: number, within: number) => {
      const from = promised.length
      return untilTrue(`${more} more acceptances`, () => Effect.succeed(promised.length >= from + more), within)
    },
    stop: Effect.suspend(() => {
      stopping = true
      return Fiber.await(running)
    })
  }
})

/** Waits until `look` says so, for at most `seconds`; then dies with `what`. */
export const untilTrue = (what: string, look: () => Effect.Effect<boolean>, seconds: number) =>
  Effect.suspend(look).pipe(
    Effect.repeat({ until: (is) => is, schedule: Schedule.spaced("25 millis") }),
    Effect.timeoutOrElse({
      duration: `${seconds} seconds`,
      orElse: () => Effect.die(new Error(`${what}: not within ${seconds} s`))
    })
  )
