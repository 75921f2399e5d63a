/**
 * What a peer's adapter gives: a client that submits and a worker that runs no-op tasks, each for a process of its own.
 * `Connection` is where the round's server listens, `Settings` those of the peer's row in `list.ts`, passed on as they stand.
 */
import type { Submitter, Work } from "../Work.ts"

export interface Connection {
  /** Postgres. */
  readonly url?: string
  /** Redis. */
  readonly port?: number
  /** Restate. */
  readonly ingressUrl?: string
  readonly adminUrl?: string
}

export interface Settings {
  /** Tasks per bulk call, and such calls in flight. */
  readonly bulk: { readonly tasks: number; readonly inFlight: number }
  /** Options of the peer's own client or queue. */
  readonly client?: Readonly<Record<string, unknown>>
  /** Options of the peer's own worker. */
  readonly worker?: Readonly<Record<string, unknown>>
}

export interface Adapter {
  readonly client: (connection: Connection, settings: Settings) => Promise<Submitter>
  /** `done` is called with each task whose completion has been written. */
  readonly worker: (
    connection: Connection,
    settings: Settings,
    done: (task: Work) => void
  ) => Promise<{ readonly close: () => Promise<void> }>
}

/** Submits in chunks, some in flight. */
export const inChunks = async <A>(
  tasks: ReadonlyArray<A>,
  { tasks: size, inFlight }: Settings["bulk"],
  submit: (chunk: ReadonlyArray<A>) => Promise<unknown>
): Promise<void> => {
  let next = 0
  const sender = async () => {
    while (next < tasks.length) {
      const chunk = tasks.slice(next, next + size)
      next += size
      await submit(chunk)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, sender))
}
