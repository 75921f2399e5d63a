/**
 * Tasks by `POST /tasks` at a steady rate, none waiting for the one before, and what each submission was answered: a client that does not
 * try again, so that every failure is seen. Where a connection is refused the next node is asked, as a load balancer does.
 */
import { Pool } from "undici"

export interface Submission {
  /** Milliseconds of the machine's clock. */
  readonly sentAt: number
  readonly answeredAt: number
  /** 0: no answer, or a connection that was cut. */
  readonly status: number
  readonly retryAfter: string | undefined
  readonly id: string | undefined
  /** What the connection said, where there was no answer. */
  readonly why: string | undefined
  /** Nodes that refused the connection before. */
  readonly refused: number
}

export interface SteadyLoad {
  readonly stop: () => Promise<ReadonlyArray<Submission>>
}

const answerMillisMax = 30_000

export const steadyLoad = (options: {
  readonly urls: ReadonlyArray<string>
  readonly key: string
  readonly perSecond: number
  readonly agent: string
  /** How long each task runs. */
  readonly sleepMillis: number
}): SteadyLoad => {
  const pools = options.urls.map(
    (url) => new Pool(url, { connections: 64, pipelining: 1, headersTimeout: answerMillisMax })
  )
  const body = JSON.stringify({ agent: options.agent, type: "echo", payload: { sleep_ms: options.sleepMillis } })
  const headers = { authorization: `Bearer ${options.key}`, "content-type": "application/json" }
  const done: Array<Submission> = []
  const open = new Set<Promise<void>>()

  const ask = async (turn: number) => {
    let refused = 0
    for (;;) {
      const pool = pools[(turn + refused) % pools.length]
      if (pool === undefined) throw new Error("no node to ask")
      try {
        const response = await pool.request({ method: "POST", path: "/api/v1/tasks", headers, body })
        const text = await response.body.text()
        const retryAfter = response.headers["retry-after"]
        return {
          status: response.statusCode,
          retryAfter: typeof retryAfter === "string" ? retryAfter : undefined,
          id: response.statusCode < 300 ? String(JSON.parse(text).id) : undefined,
          why: undefined,
          refused
        }
      } catch (error) {
        const code = error instanceof Error && "code" in error ? error.code : undefined
        if (code !== "ECONNREFUSED" || refused + 1 >= pools.length)
          return { status: 0, retryAfter: undefined, id: undefined, why: String(code ?? error), refused }
        refused++
      }
    }
  }
  const one = async (turn: number) => {
    const sentAt = Date.now()
    const answer = await ask(turn)
    done.push({ sentAt, answeredAt: Date.now(), ...answer })
  }

  const began = performance.now()
  let sent = 0
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) / 1_000) * options.perSecond)
    for (; sent < due; sent++) {
      const running: Promise<void> = one(sent).finally(() => open.delete(running))
      open.add(running)
    }
  }, 2)
  return {
    stop: async () => {
      clearInterval(timer)
      await Promise.all(open)
      await Promise.all(pools.map((pool) => pool.destroy()))
      return done
    }
  }
}

/** Submissions without a yes, by what was said instead; told beside the figures when there are any. */
export const failuresOf = (submissions: ReadonlyArray<Submission>): number => {
  const failed = submissions.filter(({ id }) => id === undefined)
  const kinds = Map.groupBy(failed, ({ status, why }) => why ?? String(status))
  for (const [kind, those] of kinds) process.stderr.write(`  ${those.length} submissions failed: ${kind}\n`)
  return failed.length
}
