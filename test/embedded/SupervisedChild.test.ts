/** How a server process is watched: what a death leads to, and when enough is enough. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Logger, Option, Queue, References } from "effect"
import { TestClock } from "effect/testing"
import type { CommandLine } from "../../src/embedded/OsUser.ts"
import { superviseChild } from "../../src/embedded/SupervisedChild.ts"

const shell = (script: string) => ["sh", ["-c", script]] as const

/** A child that is ready at once. */
const child = (script: string) =>
  superviseChild({
    name: "the child",
    command: shell(script),
    stopSignal: "SIGTERM",
    prepare: Effect.void,
    ready: Effect.void
  })

/** A child that dies before it is ready. */
const failing = (command: CommandLine) =>
  superviseChild({ name: "the child", command, stopSignal: "SIGTERM", prepare: Effect.void, ready: Effect.never })

describe("a supervised child", () => {
  it.effect("whose first start fails ends the start with its last words", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(failing(shell("echo could not bind >&2; exit 1")))
      expect(problem).toMatchObject({ reason: "StartFailed" })
      expect(problem.what).toContain("the child did not start")
      expect(problem.what).toContain("could not bind")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("that finds the disk full says so", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(
        failing(shell("echo 'FATAL: could not write: No space left on device'; exit 1"))
      )
      expect(problem).toMatchObject({ reason: "DiskFull" })
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("that cannot be run at all is a failed start, not a crash of ours", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(failing(["/nowhere/nats-server", []]))
      expect(problem.what).toContain("/nowhere/nats-server")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("that keeps dying is started again with growing pauses, and given up after 20 deaths", () =>
    Effect.gen(function* () {
      const pauses: Array<number> = []
      const pausing = yield* Queue.unbounded<void>()
      const logger = Logger.make(({ fiber }) => {
        pauses.push(Number(fiber.getRef(References.CurrentLogAnnotations)["pauseMillis"]))
        Queue.offerUnsafe(pausing, undefined)
      })
      const supervised = yield* child("exec sleep 0.01").pipe(Effect.provide(Logger.layer([logger])))
      for (let death = 1; death < 20; death++) {
        yield* Queue.take(pausing)
        yield* TestClock.adjust("10 seconds")
      }
      const problem = yield* Effect.flip(supervised.gaveUp)
      expect(problem.reason).toBe("KeepsCrashing")
      expect(yield* supervised.restarts).toBe(19)
      expect(pauses.slice(0, 9)).toEqual([100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is gone when the scope has closed, even if it ignores the polite signal", () =>
    Effect.gen(function* () {
      const pid = yield* Effect.scoped(
        Effect.gen(function* () {
          const supervised = yield* superviseChild({
            name: "the child",
            command: shell("trap '' TERM; sleep 600 & wait; sleep 600"),
            stopSignal: "SIGTERM",
            prepare: Effect.void,
            ready: Effect.void,
            endsWithin: "100 millis"
          })
          return Option.getOrThrow(yield* supervised.pid)
        })
      )
      expect(() => process.kill(pid, 0)).toThrow("ESRCH")
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
