/**
 * The same work for every system: no-op tasks of 200 bytes of JSON, and the three ways in which one client process submits
 * them. Knows no system; an adapter says how its system takes tasks.
 *
 *   submitMany   as fast as they are taken, in the calls that the system is fastest with
 *   submitEach   one task per call, a number of calls in flight
 *   submitPaced  one task per call at a steady rate, none waiting for the one before (open loop)
 */

/** The payload of a task. `at` is when it was sent, in milliseconds of the machine's monotonic clock; 0 when nobody asks. */
export interface Work {
  readonly text: string
  readonly n: number
  readonly at: number
}

/** How a client gives tasks to a system. What resolves has been accepted as durably as the system's settings make it. */
export interface Submitter {
  readonly submitMany: (tasks: ReadonlyArray<Work>) => Promise<void>
  /** Gives back what `ended` needs to know which task it was. */
  readonly submit: (task: Work) => Promise<unknown>
  /** Resolves when a client of the system hears that the task has completed. Without it the worker's own word counts. */
  readonly ended?: (handle: unknown) => Promise<void>
  /** How many of the `submitted` tasks so far have no recorded completion, by the system's own record. */
  readonly remaining: (submitted: number) => Promise<number>
  readonly close: () => Promise<void>
}

/** Milliseconds of a clock that all processes of the machine share. */
export const monotonicMillis = (): number => Number(process.hrtime.bigint()) / 1e6

const text = "x".repeat(165)
export const workOf = (n: number, at = 0): Work => ({ text, n, at })

/** Most tasks of a paced run that may be without an end; reached only by a system that cannot keep up. */
const openMax = 1_024

export interface Paced {
  /** Milliseconds from the call to the system's answer. */
  readonly accepted: ReadonlyArray<number>
  /** Milliseconds from the call to the end as the client heard it; empty where the worker tells. */
  readonly ended: ReadonlyArray<number>
  /** Milliseconds between when a task was due and when it was sent: what the client itself was late. */
  readonly late: ReadonlyArray<number>
}

export const submitMany = (submitter: Submitter, count: number): Promise<void> =>
  submitter.submitMany(Array.from({ length: count }, (_, n) => workOf(n)))

/** Milliseconds from call to answer of each task. */
export const submitEach = async (
  submitter: Submitter,
  options: { readonly count: number; readonly inFlight: number }
): Promise<ReadonlyArray<number>> => {
  const answered: Array<number> = []
  let sent = 0
  const sender = async () => {
    while (sent < options.count) {
      const n = sent++
      const at = performance.now()
      await submitter.submit(workOf(n))
      answered.push(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: options.inFlight }, sender))
  return answered
}

export const submitPaced = async (
  submitter: Submitter,
  options: { readonly perSecond: number; readonly seconds: number }
): Promise<Paced> => {
  const accepted: Array<number> = []
  const ended: Array<number> = []
  const late: Array<number> = []
  const open = new Set<Promise<void>>()
  const failures: Array<unknown> = []
  const count = Math.round(options.perSecond * options.seconds)
  const one = async (n: number) => {
    const at = monotonicMillis()
    const handle = await submitter.submit(workOf(n, at))
    accepted.push(monotonicMillis() - at)
    if (submitter.ended === undefined) return
    await submitter.ended(handle)
    ended.push(monotonicMillis() - at)
  }
  const began = monotonicMillis()
  for (let n = 0; n < count; n++) {
    const due = began + (n * 1_000) / options.perSecond
    const early = due - monotonicMillis()
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
    if (open.size >= openMax) await Promise.race(open)
    late.push(Math.max(0, monotonicMillis() - due))
    const running: Promise<void> = one(n).then(
      () => void open.delete(running),
      (error: unknown) => {
        open.delete(running)
        failures.push(error)
      }
    )
    open.add(running)
    if (failures.length > 0) break
  }
  await Promise.all(open)
  if (failures.length > 0) throw failures[0]
  return { accepted, ended, late }
}
