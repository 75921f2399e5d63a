/**
 * A system under measurement as the bench sees it: started on nothing for one round, on servers of its own, with one client
 * process and (unless the system itself runs the tasks) one worker process.
 */

import type { Cost } from "./ProcessTree.ts"
import { type Remote, serveRemote } from "./Remote.ts"
import { type Paced, type Submitter, submitEach, submitMany, submitPaced } from "./Work.ts"

/** Where tasks are submitted; datamcp has two doors, its peers one. */
export type Door = "nats" | "http" | "own"

/** What a client process does when told. */
export interface ClientMethods {
  readonly submitMany: (count: number) => Promise<void>
  readonly submitEach: (
    door: Door,
    options: { readonly count: number; readonly inFlight: number }
  ) => ReturnType<typeof submitEach>
  readonly submitPaced: (options: { readonly perSecond: number; readonly seconds: number }) => Promise<Paced>
  readonly remaining: (submitted: number) => Promise<number>
}

/** What a worker process tells. */
export interface WorkerMethods {
  /** Tasks whose completion has been written, since it started. */
  readonly done: () => Promise<number>
  /** Milliseconds from call to written completion of the paced tasks since the last question. */
  readonly latencies: () => Promise<ReadonlyArray<number>>
}

export interface Running {
  readonly client: Remote<ClientMethods>
  /** Absent where the system runs the tasks itself and its clients hear of their ends. */
  readonly worker?: Remote<WorkerMethods>
  readonly doors: ReadonlyArray<Door>
  /** Processes whose CPU time is told apart. */
  readonly costs: ReadonlyArray<Cost>
  readonly stop: () => Promise<void>
}

export interface System {
  /** Short, stable: rows of results are found by it. */
  readonly name: string
  /** For people, with its version. */
  readonly title: string
  /** When a submission is answered and a completion counts: after fsync or not. */
  readonly fsync: string
  /** Every setting that differs from the system's default, and where it is recommended. */
  readonly settings: string
  /** Why it cannot run here and how to change that; undefined when it can. */
  readonly missing: () => Promise<string | undefined>
  readonly start: () => Promise<Running>
}

/** The body of a client process: serves `submitters`, one per door. */
export const serveClient = (submitters: Partial<Record<Door, Submitter>>) => {
  const [first] = Object.values(submitters)
  if (first === undefined) throw new Error("a client has at least one door")
  const methods: ClientMethods = {
    submitMany: (count) => submitMany(first, count),
    submitEach: (door, options) => submitEach(submitters[door] ?? first, options),
    submitPaced: (options) => submitPaced(first, options),
    remaining: (submitted) => first.remaining(submitted)
  }
  serveRemote({ ...methods }, async () => {
    for (const submitter of Object.values(submitters)) await submitter.close()
  })
}
