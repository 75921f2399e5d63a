/**
 * The machine that a simulation runs on: one loop that owns time and turns for all processes of the simulated world.
 *
 *   ready tasks --> one of them, by chance, runs --> ... --> none left --> time jumps to the next timer
 *
 * Everything runs synchronously inside `run`: there is no event loop, no promise and no clock underneath, so the same seed
 * gives the same run. While it runs, the real sources of time, turns and chance are replaced by traps; what reaches for one
 * ends the simulation and is named. (Effect's own TestClock is not used: it waits for real turns of the event loop, and
 * warns by the real clock.)
 */
import { Clock, Context, Duration, Effect, Random, Scheduler } from "effect"
import * as Chance from "./Chance.ts"

/** When the simulated world begins. */
const epochMillis = Date.parse("2030-01-01T00:00:00.000Z")

interface Task {
  readonly process: Process
  readonly run: () => void
}

interface Timer {
  readonly at: number
  /** Timers of one moment go in the order in which they were set. */
  readonly serial: number
  readonly process: Process | undefined
  readonly run: () => void
  cancelled: boolean
}

/** Something that can be killed or stand still: a node, or the world outside. */
export interface Process {
  readonly name: string
  readonly alive: () => boolean
  /** As `kill -9`: nothing of it runs again, and no finalizer either. */
  readonly kill: () => void
  /** As SIGSTOP: nothing of it runs until then; what happens meanwhile is waiting for it. */
  readonly freeze: (millis: number) => void
  /** Runs on this process later, if it is alive then. Call it off with what it returns. */
  readonly after: (millis: number, run: () => void) => () => void
  /** Clock, scheduler and random source of this process, for its root fiber. */
  readonly context: Context.Context<never>
}

export interface Machine {
  /** Milliseconds since the world began. */
  readonly now: () => number
  readonly wallMillis: () => number
  readonly process: (name: string) => Process
  /** In the world itself, whichever process lives. */
  readonly after: (millis: number, run: () => void) => void
  /** Adds a line to the trace. */
  readonly say: (line: string) => void
  /** Runs until `done`, or until the time has come, or nothing is left to happen. True when done. */
  readonly run: (untilMillis: number, done: () => boolean) => boolean
  /** Turns that were taken. */
  readonly turns: () => number
}

/** Turns without time passing after which something is taken to be spinning. */
const turnsWithoutTimeMax = 200_000

export const make = (seed: number, say: (line: string) => void): Machine => {
  const chance = Chance.make(seed, "turns")
  /** How often the oldest ready task is next, rather than any: some seeds are orderly, some are not at all. */
  const orderly = chance.of([0, 0.5, 0.9])
  const ready: Array<Task> = []
  const timers: Array<Timer> = []
  let now = 0
  let serial = 0
  let turns = 0
  let running = false

  const inside = () => {
    if (!running) throw new Error("a simulated process did something outside of its simulation")
  }

  const setTimer = (millis: number, process: Process | undefined, run: () => void): Timer => {
    const timer = { at: now + Math.max(0, Math.ceil(millis)), serial: serial++, process, run, cancelled: false }
    push(timers, timer)
    return timer
  }

  const process = (name: string): Process => {
    let alive = true
    let frozenUntil = 0
    let waiting: Array<() => void> = []
    const own = Chance.make(seed, `process/${name}/${serial}`)
    const skewMillis = own.between(-20, 20)

    const schedule = (run: () => void) => {
      if (!alive) return
      if (now < frozenUntil) waiting.push(run)
      else ready.push({ process: self, run: () => (now < frozenUntil ? waiting.push(run) : run()) })
    }
    const after = (millis: number, run: () => void) => {
      const timer = setTimer(millis, self, () => schedule(run))
      return () => {
        timer.cancelled = true
      }
    }
    const clock: Clock.Clock = {
      currentTimeMillisUnsafe: () => epochMillis + now + skewMillis,
      currentTimeMillis: Effect.sync(() => epochMillis + now + skewMillis),
      currentTimeNanosUnsafe: () => BigInt(epochMillis + now + skewMillis) * 1_000_000n,
      currentTimeNanos: Effect.sync(() => BigInt(epochMillis + now + skewMillis) * 1_000_000n),
      monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
      monotonicTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
      sleep: (duration) => {
        const millis = Duration.toMillis(duration)
        if (millis <= 0) return Effect.yieldNow
        if (!Number.isFinite(millis)) return Effect.never
        return Effect.callback((resume) => {
          inside()
          const callOff = after(millis, () => resume(Effect.void))
          return Effect.sync(callOff)
        })
      }
    }
    const scheduler: Scheduler.Scheduler = {
      executionMode: "async",
      shouldYield: (fiber) => fiber.currentOpCount >= 2_048,
      makeDispatcher: () => ({
        scheduleTask: (run) => {
          inside()
          schedule(run)
        },
        flush: () => {
          throw new Error("a simulated process wanted to run ahead of its turn")
        }
      })
    }
    const self: Process = {
      name,
      alive: () => alive,
      kill: () => {
        alive = false
        waiting = []
      },
      freeze: (millis) => {
        frozenUntil = Math.max(frozenUntil, now + millis)
        setTimer(frozenUntil - now, undefined, () => {
          if (now < frozenUntil) return
          const all = waiting
          waiting = []
          for (const run of all) schedule(run)
        })
      },
      after,
      context: Context.make(Clock.Clock, clock).pipe(
        Context.add(Scheduler.Scheduler, scheduler),
        Context.add(Random.Random, {
          nextDoubleUnsafe: own.next,
          nextIntUnsafe: () => own.between(Number.MIN_SAFE_INTEGER / 2, Number.MAX_SAFE_INTEGER / 2)
        })
      )
    }
    return self
  }

  const loop = (untilMillis: number, done: () => boolean) => {
    let turnsNow = 0
    while (!done()) {
      if (ready.length > 0) {
        const index = chance.is(orderly) ? 0 : chance.below(ready.length)
        const [task] = ready.splice(index, 1)
        turns++
        if (++turnsNow > turnsWithoutTimeMax) throw new Error(`${task?.process.name} spins without time passing`)
        if (task?.process.alive() === true) task.run()
        continue
      }
      const timer = timers[0]
      if (timer === undefined || timer.at > untilMillis) {
        now = Math.max(now, untilMillis)
        return false
      }
      pop(timers)
      if (timer.cancelled || timer.process?.alive() === false) continue
      if (timer.at > now) turnsNow = 0
      now = timer.at
      timer.run()
    }
    return true
  }

  return {
    now: () => now,
    wallMillis: () => epochMillis + now,
    process,
    after: (millis, run) => void setTimer(millis, undefined, run),
    say: (line) => say(`${String(now).padStart(6)} ${line}`),
    run: (untilMillis, done) => {
      running = true
      const release = trap()
      try {
        return loop(untilMillis, done)
      } finally {
        release()
        running = false
      }
    },
    turns: () => turns
  }
}

/** Replaces what must not be used while a simulation runs. Returns what puts it back. */
const trap = () => {
  const put: Array<() => void> = []
  const replace = (owner: object, name: string) => {
    const before = Object.getOwnPropertyDescriptor(owner, name)
    const forbidden = () => {
      throw new Error(`the simulated world reached for the real ${name}`)
    }
    Object.defineProperty(owner, name, { configurable: true, writable: true, value: forbidden })
    put.push(() =>
      before === undefined ? Reflect.deleteProperty(owner, name) : Object.defineProperty(owner, name, before)
    )
  }
  for (const name of ["setTimeout", "setInterval", "setImmediate", "queueMicrotask", "fetch"]) replace(globalThis, name)
  replace(Math, "random")
  replace(Date, "now")
  replace(performance, "now")
  replace(process, "nextTick")
  for (const name of ["getRandomValues", "randomUUID"]) replace(crypto, name)
  return () => {
    for (const back of put) back()
  }
}

// --- a binary heap of timers

const before = (one: Timer, other: Timer) => one.at < other.at || (one.at === other.at && one.serial < other.serial)

const push = (heap: Array<Timer>, timer: Timer) => {
  let index = heap.length
  heap.push(timer)
  while (index > 0) {
    const parent = (index - 1) >> 1
    const above = heap[parent]
    if (above === undefined || !before(timer, above)) break
    heap[index] = above
    index = parent
  }
  heap[index] = timer
}

const pop = (heap: Array<Timer>) => {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let index = 0
  while (true) {
    const left = 2 * index + 1
    const one = heap[left]
    if (one === undefined) break
    const other = heap[left + 1]
    const [child, at] = other !== undefined && before(other, one) ? [other, left + 1] : [one, left]
    if (!before(child, last)) break
    heap[index] = child
    index = at
  }
  heap[index] = last
}
