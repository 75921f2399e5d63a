/** What an isolated behaviour can do to its node: everything that it may, and nothing else. */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { expect, layer } from "@effect/vitest"
import { Cause, type Duration, Effect, Exit, Fiber, Logger, Metric, type Schema } from "effect"
import { AttemptLost, BehaviourFailure } from "../../actors/Behaviour.ts"
import { LargeDataLimits } from "../../actors/LargeData.ts"
import type { Isolation } from "../../protocol/Agent.ts"
import { SignalName, TaskId } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { TaskProgress } from "../../protocol/Task.ts"
import * as IsolatedBehaviour from "../../src/isolation/IsolatedBehaviour.ts"
import { attemptOf, services } from "../actors/behaviours/attempts.ts"

const module = new URL("./poison.ts", import.meta.url).href

/** Compiled sources are kept, as `npm start` does. */
const environment = {
  HOME: "/nowhere",
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../node_modules/.cache/compile", import.meta.url))
}
const host = IsolatedBehaviour.makeHost({ processesMax: 8, environment })
const poison = IsolatedBehaviour.make(host, module, {
  ...{ type: "poison", description: "d", capabilities: [] },
  isolated: true
})

const open = (isolation: Isolation = {}, settings: Schema.Json = {}) =>
  Effect.map(
    poison.open(settings, isolation),
    (run) =>
      (payload: Schema.Json, given = {}) =>
        Effect.scoped(run(attemptOf(poison, payload, given)))
  )

/** How an attempt ended that did not succeed. */
const endOf = <A>(exit: Exit.Exit<A, BehaviourFailure>) => {
  if (Exit.isSuccess(exit)) return { success: exit.value }
  const error = Cause.squash(exit.cause)
  return error instanceof AttemptLost || error instanceof BehaviourFailure
    ? { lost: error instanceof AttemptLost, code: error.code, message: error.message, details: error.details }
    : { error }
}

const until = (condition: () => boolean) =>
  Effect.gen(function* () {
    for (let look = 0; look < 200 && !condition(); look++) yield* Effect.sleep("25 millis")
    return condition()
  })

const isAlive = (pid: number) => existsSync(`/proc/${pid}`)

layer(services, { excludeTestServices: true, timeout: 60_000 })("an isolated behaviour", (it) => {
  it.effect("says what it is without running in the node", () =>
    Effect.gen(function* () {
      expect(yield* IsolatedBehaviour.describe(host, module)).toEqual({
        type: "poison",
        description: "Does what it is told, also to itself.",
        capabilities: [{ name: "poison" }]
      })
      expect(Reflect.get(globalThis, "poisoned")).toBeUndefined()
      expect(host.alive.size).toBe(0)
    })
  )

  it.effect("reaches its node as any other does: progress, streams, signals, children, artifacts", () =>
    Effect.gen(function* () {
      const run = yield* open()
      const reports: Array<TaskProgress> = []
      const chunks: Array<Schema.Json> = []
      const awaited: Array<unknown> = []
      const child = TaskId.make("01890a5d-ac96-774b-bcce-b302099a8058")
      const result = yield* run(
        { do: "talk" },
        {
          number: 3,
          progress: (report: TaskProgress) => Effect.sync(() => void reports.push(report)),
          emit: (stream: string, chunk: Schema.Json) =>
            stream === "log"
              ? Effect.sync(() => void chunks.push(chunk))
              : Effect.fail(new BehaviourFailure({ code: "name_invalid", message: "no", retryable: false })),
          signal: (name: string, options: unknown) =>
            Effect.sync(() => {
              awaited.push(options)
              return {
                number: 1,
                name: SignalName.make(name),
                payload: { a: 1 },
                actor: "key:x",
                at: "2026-11-23T10:00:00Z"
              }
            }),
          submit: (step: string, commands: unknown) =>
            Effect.sync(() => {
              expect([step, commands]).toEqual(["one", [{ type: "echo", payload: { n: 1 } }]])
              return [child]
            }),
          awaitChildren: (children: ReadonlyArray<TaskId> | undefined, options: unknown) =>
            Effect.sync(() => {
              expect([children, options]).toEqual([[child], { hold: 1_000 }])
              return [
                { id: child, status: "completed", data: { n: 1 } } as const,
                { id: child, status: "completed", left_out: true } as const,
                { id: child, status: "failed", error: { code: "no", message: "no", details: [1] } } as const
              ]
            })
        }
      )
      expect(result).toEqual({
        facts: {
          number: 3,
          idempotencyKey: "01890a5d-ac96-774b-bcce-b302099a8057",
          namespace: "default",
          name: "a task",
          type: "poison",
          taskId: "01890a5d-ac96-774b-bcce-b302099a8057",
          timeout: 60_000
        },
        signal: { number: 1, name: "go", payload: { a: 1 }, actor: "key:x", at: "2026-11-23T10:00:00Z" },
        ids: [child],
        ends: [
          { id: child, status: "completed", data: { n: 1 } },
          { id: child, status: "completed", left_out: true },
          { id: child, status: "failed", error: { code: "no", message: "no", details: [1] } }
        ],
        refused: "name_invalid"
      })
      expect(reports).toEqual([{ percentage: 50, current_step: "half" }])
      expect(chunks).toEqual([{ chunk: 1 }])
      expect(awaited).toEqual([
        { timeout: 120_000, hold: 3_000, shape: { type: "object", required: ["a"] }, message: "go?" }
      ])
      expect(yield* run({ do: "artifacts" })).toEqual({
        read: 3 * 1024 * 1024 + 3,
        sizeBytes: 3 * 1024 * 1024 + 3,
        elsewhere: "not-found",
        nothing: "not-found"
      })
      let now = 0
      let most = 0
      const slowly = () =>
        Effect.sync(() => (most = Math.max(most, ++now))).pipe(
          Effect.andThen(Effect.sleep("2 millis")),
          Effect.ensuring(Effect.sync(() => now--)),
          Effect.asVoid
        )
      expect(yield* run({ do: "many" }, { emit: slowly })).toBeNull()
      expect(most).toBe(32)
      expect(endOf(yield* Effect.exit(run({ do: "huge" })))).toMatchObject({ lost: false, code: "message_too_large" })
    }).pipe(Effect.scoped)
  )

  it.effect("keeps its process between attempts that end in order, and never after a crash", () =>
    Effect.gen(function* () {
      const run = yield* open()
      const first = yield* run({ do: "serve" })
      expect(first).toEqual({ pid: expect.any(Number), served: 1 })
      expect(endOf(yield* Effect.exit(run({ do: "fail" })))).toEqual({
        ...{ lost: false, code: "tired", message: "no", details: { a: 1 } }
      })
      expect(yield* run({ do: "serve" })).toEqual({ ...(first as object), served: 3 })
      const crash = endOf(yield* Effect.exit(run({ do: "throw" })))
      expect(crash).toMatchObject({ lost: true, code: "crashed", message: "TypeError: poison" })
      expect(JSON.stringify(crash)).toContain("isolation/poison.ts")
      const next = yield* run({ do: "serve" })
      expect(next).toMatchObject({ served: 1 })
      const late = endOf(yield* Effect.exit(run({ do: "later" })))
      expect(late).toMatchObject({ lost: true, code: "crashed", message: "Error: nobody waits for this" })
      expect(host.alive.size).toBe(0)
    }).pipe(Effect.scoped)
  )

  it.effect("loses an attempt, with a reason that is counted, when its process does not survive it", () =>
    Effect.gen(function* () {
      const run = yield* open({ memory_mb: 256, unresponsive_ms: 1_500 })
      const killed = (reason: string) =>
        Effect.map(Metric.value(Metrics.isolatedKills({ reason })), ({ count }) => Number(count))
      const before = yield* Effect.forEach(["memory_limit", "process_exited", "unresponsive", "message_limit"], killed)
      const ends = yield* Effect.forEach(
        ["exit", "abort", "spin", "raw", "noise", "heap", "native"],
        (deed) => Effect.map(Effect.exit(run({ do: deed })), (exit) => [deed, endOf(exit)] as const),
        { concurrency: 2 }
      )
      const lost = (code: string, message: RegExp) =>
        expect.objectContaining({ lost: true, code, message: expect.stringMatching(message) })
      expect(Object.fromEntries(ends)).toEqual({
        exit: lost("process_exited", /^its process ended \(exit code 3\)/u),
        abort: lost("process_exited", /^its process ended \(SIGABRT\)/u),
        spin: lost("unresponsive", /stood still for more than 1500 ms/u),
        raw: lost("message_limit", /a message of 2147483647 bytes; the limit is 8388608/u),
        noise: lost("message_limit", /no message/u),
        heap: lost("memory_limit", /more than 256 MiB/u),
        native: lost("memory_limit", /more than 256 MiB/u)
      })
      const after = yield* Effect.forEach(["memory_limit", "process_exited", "unresponsive", "message_limit"], killed)
      expect(after.map((count, index) => count - (before[index] ?? 0))).toEqual([2, 2, 1, 2])
      // The next attempt has a process that knows nothing of it.
      expect(yield* run({ do: "serve" })).toMatchObject({ served: 1 })
    }).pipe(Effect.scoped)
  )

  it.effect("fails with a result that is too large, and goes on", () =>
    Effect.gen(function* () {
      const run = yield* open()
      expect(endOf(yield* Effect.exit(run({ do: "large", bytes: 1_000_000 })))).toMatchObject({
        ...{ lost: false, code: "result_too_large" },
        message: "the result has 1000002 bytes; at most 262144 are kept, save larger data as an artifact"
      })
      expect(yield* run({ do: "large", bytes: 200_000 })).toHaveLength(200_000)
    }).pipe(Effect.scoped, Effect.provideService(LargeDataLimits, { bytesMax: 262_144 }))
  )

  it.effect("is told of a cancel at once and may clean up; a process that does not notice is ended", () =>
    Effect.gen(function* () {
      const run = yield* open()
      const cancel = (payload: Schema.Json, after: Duration.Input = "100 millis") =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(run(payload))
          yield* Effect.sleep(after)
          const began = performance.now()
          yield* Fiber.interrupt(fiber)
          return performance.now() - began
        })
      const { pid } = (yield* run({ do: "serve" })) as { pid: number }
      expect(yield* cancel({ do: "hang" })).toBeLessThan(1_000)
      expect(yield* cancel({ do: "clean", for: 300 })).toBeGreaterThan(290)
      expect(yield* run({ do: "serve" })).toMatchObject({ pid })
      expect(yield* cancel({ do: "spin" }, "300 millis")).toBeLessThan(3_000)
      expect(isAlive(pid)).toBe(false)
    }).pipe(Effect.scoped)
  )

  it.effect("knows nothing of the node's environment but what it is given", () =>
    Effect.gen(function* () {
      const run = yield* open()
      const names = yield* run({ do: "environment" })
      expect(names).toEqual(expect.arrayContaining(["HOME"]))
      expect((names as Array<string>).filter((name) => !["HOME", "NODE_COMPILE_CACHE"].includes(name))).toEqual([])
    }).pipe(Effect.scoped)
  )

  it.effect("ends with its instance, and what it has started ends with it", () =>
    Effect.gen(function* () {
      const family = (yield* Effect.scoped(Effect.flatMap(open(), (run) => run({ do: "family" })))) as {
        pid: number
        child: number
      }
      expect(yield* until(() => !isAlive(family.pid) && !isAlive(family.child))).toBe(true)
      expect(host.alive.size).toBe(0)
    })
  )

  it.effect("prints and logs through its node", () => {
    const said: Array<string> = []
    const collect = Logger.make(({ logLevel, message }) => void said.push(`${logLevel} ${String(message)}`))
    return Effect.gen(function* () {
      const run = yield* open()
      yield* run({ do: "print" })
      expect(
        yield* until(
          () =>
            said.includes("Warn logged with care") &&
            said.some((line) => line.startsWith("Info") && line.includes("printed plainly"))
        )
      ).toBe(true)
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([collect])))
  })

  it.effect("is asked about settings, and opened, within bounds", () =>
    Effect.gen(function* () {
      yield* poison.check({})
      const message = (settings: Schema.Json) =>
        Effect.map(Effect.flip(poison.check(settings)), (error) => error.message)
      expect(yield* message({ wrong: true })).toBe("wrong is wrong")
      expect(yield* message({ check: "exit" })).toMatch(/^its process ended \(exit code 9\)/u)
      const opening = (settings: Schema.Json) => Effect.scoped(Effect.flip(poison.open(settings)))
      expect(yield* opening({ open: "wrong" })).toMatchObject({ _tag: "SettingsInvalid", message: "it does not open" })
      expect(yield* opening({ open: "exit" })).toMatchObject({ _tag: "BehaviourFailure", code: "open_failed" })
      expect(host.alive.size).toBe(0)
    })
  )
})
