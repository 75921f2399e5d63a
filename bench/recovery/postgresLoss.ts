/**
 * Postgres is restarted under a steady rate of tasks, fast (SIGINT) and by SIGKILL of its first process, away for five seconds each time: when
 * submissions are accepted again, what they are answered until then, and whether every 2xx is found afterwards.
 */
import { type Figures, quantile } from "../Figures.ts"
import { pause } from "../scenarios/Bench.ts"
import { underLoad } from "./UnderLoad.ts"

const beforeMillis = 4_000
const downMillis = 5_000
const afterMillis = 10_000

export const postgresRestarted = async (how: "fast" | "kill", perSecond: number): Promise<Figures> => {
  const { event, stored, submissions } = await underLoad(
    { nodes: 2, perSecond, beforeMillis, afterMillis },
    async ({ postgres }) => {
      const endedAt = Date.now()
      await postgres.end(how === "fast" ? "SIGINT" : "SIGKILL")
      await pause(downMillis)
      await postgres.again()
      return { endedAt, startedAt: Date.now() }
    }
  )
  const { endedAt, startedAt } = event
  const found = new Set(stored.map(({ id }) => id))
  const answered = submissions.filter(({ id }) => id !== undefined)
  const since = submissions.filter(({ answeredAt }) => answeredAt >= endedAt)
  const unavailable = since.filter(({ status }) => status === 503)
  const firstYes = Math.min(
    ...answered.filter(({ answeredAt }) => answeredAt >= startedAt).map(({ answeredAt }) => answeredAt)
  )
  const lastNo = Math.max(startedAt, ...since.filter(({ id }) => id === undefined).map(({ answeredAt }) => answeredAt))
  const name = `postgres_${how}`
  return {
    [`${name}_first_accept_after_ms`]: firstYes - startedAt,
    [`${name}_last_refusal_after_ms`]: lastNo - startedAt,
    [`${name}_answered_503`]: unavailable.length,
    [`${name}_503_without_retry_after`]: unavailable.filter(({ retryAfter }) => retryAfter === undefined).length,
    [`${name}_other_failures`]: since.filter(({ id, status }) => id === undefined && status !== 503).length,
    [`${name}_answer_p99_ms`]: quantile(
      since.map(({ answeredAt, sentAt }) => answeredAt - sentAt),
      0.99
    ),
    [`${name}_answer_max_ms`]: quantile(
      since.map(({ answeredAt, sentAt }) => answeredAt - sentAt),
      1
    ),
    [`${name}_accepted`]: answered.length,
    [`${name}_false_accepts`]: answered.filter(({ id }) => id === undefined || !found.has(id)).length
  }
}
