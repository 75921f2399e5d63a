/**
 * Ends that nodes refused because they came too late, as the nodes themselves count them. A killed node takes with it what it had counted since
 * it was last asked, so the sum is a lower bound.
 */
import { Effect } from "effect"
import type { ProofNodes } from "./ProofNodes.ts"

export interface FencedEnds {
  /** Asks the nodes now and then, for ever. */
  readonly watch: Effect.Effect<never>
  /** Asks once. */
  readonly look: Effect.Effect<void>
  readonly total: () => number
}

const sample = /^datamcp_task_ends_fenced_total(?:\{[^}]*\})? (?<value>\S+)$/gmu

export const make = (nodes: ProofNodes, key: string): FencedEnds => {
  const last = new Map<string, number>()
  let total = 0
  const ask = (name: string, url: string) =>
    Effect.tryPromise((signal) =>
      fetch(`${url}/metrics`, { signal, headers: { authorization: `Bearer ${key}` } }).then((response) =>
        response.text()
      )
    ).pipe(
      Effect.timeout("2 seconds"),
      Effect.map((text) => {
        const now = [...text.matchAll(sample)].reduce((sum, { groups }) => sum + Number(groups?.["value"] ?? 0), 0)
        const before = last.get(name) ?? 0
        // A counter that has gone back is that of a new process.
        total += now >= before ? now - before : now
        last.set(name, now)
      }),
      Effect.ignore
    )
  const look = Effect.suspend(() =>
    Effect.forEach(nodes.up(), ({ name, url }) => ask(name, url), { concurrency: 4, discard: true })
  )
  return { look, watch: Effect.forever(Effect.andThen(look, Effect.sleep("1 second"))), total: () => total }
}
