/** A behaviour that does what it is told, to its process, to its node, or to the memory of its machine. */
import { spawn } from "node:child_process"
import { writeSync } from "node:fs"
import { Duration, Effect, Stream } from "effect"
import { type Attempt, type Behaviour, BehaviourFailure, SettingsInvalid } from "../../actors/Behaviour.ts"
import { ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { ArtifactId, Namespace, TaskType } from "../../protocol/Ids.ts"

let served = 0
const kept: Array<unknown> = []

const spin = () => {
  for (;;) kept.length = 0
}

const field = (payload: unknown, name: string): any =>
  payload !== null && typeof payload === "object" ? Reflect.get(payload, name) : undefined

const deeds: Readonly<Record<string, (attempt: Attempt) => Effect.Effect<any, BehaviourFailure, any>>> = {
  serve: () => Effect.sync(() => ({ pid: process.pid, served })),
  throw: () =>
    Effect.sync(() => {
      throw new TypeError("poison")
    }),
  fail: () =>
    Effect.fail(
      new BehaviourFailure({ code: "tired", message: "no", retryable: true, retryAfterMillis: 7, details: { a: 1 } })
    ),
  later: () =>
    Effect.callback(() => {
      setImmediate(() => {
        throw new Error("nobody waits for this")
      })
    }),
  hang: () => Effect.never,
  exit: () => Effect.sync(() => process.exit(3)),
  abort: () => Effect.sync(() => process.abort()),
  spin: () => Effect.sync(spin),
  large: ({ payload }) => Effect.sync(() => "x".repeat(field(payload, "bytes"))),
  raw: () =>
    Effect.andThen(
      Effect.sync(() => writeSync(3, Buffer.from([127, 255, 255, 255, 0, 1]))),
      Effect.never
    ),
  noise: () =>
    Effect.andThen(
      Effect.sync(() => writeSync(3, Buffer.from([0, 0, 0, 2, 0, 123, 125]))),
      Effect.never
    ),
  heap: () =>
    Effect.sync(() => {
      for (;;) kept.push(Array.from({ length: 10_000 }, (_, index) => ({ index })))
    }),
  native: () =>
    Effect.forever(
      Effect.andThen(
        Effect.sync(() => kept.push(Buffer.alloc(4 << 20, 1))),
        Effect.sleep("1 millis")
      )
    ),
  environment: () => Effect.sync(() => Object.keys(process.env)),
  family: () =>
    Effect.sync(() => {
      const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" })
      child.on("error", () => {})
      return { pid: process.pid, child: child.pid }
    }),
  print: () =>
    Effect.gen(function* () {
      console.log("printed plainly")
      yield* Effect.logWarning("logged with care").pipe(Effect.annotateLogs({ part: "one" }))
      return null
    }),
  clean: ({ payload }) =>
    Effect.onInterrupt(
      Effect.tryPromise({
        try: (signal) =>
          new Promise<null>((resolve) => {
            signal.addEventListener("abort", () => resolve(null))
          }),
        catch: () => new BehaviourFailure({ code: "no", message: "no", retryable: false })
      }),
      () => Effect.sleep(Duration.millis(field(payload, "for")))
    ),
  talk: (attempt) =>
    Effect.gen(function* () {
      yield* attempt.progress({ percentage: 50, current_step: "half" })
      yield* attempt.emit("log", { chunk: 1 })
      const refused = yield* Effect.flip(attempt.emit("no such name!", 1) as Effect.Effect<never, BehaviourFailure>)
      const signal = yield* attempt.signal("go", {
        timeout: "2 minutes",
        hold: "3 seconds",
        shape: { type: "object", required: ["a"] },
        message: "go?"
      })
      const ids = yield* attempt.submit("one", [{ type: TaskType.make("echo"), payload: { n: 1 } }])
      const ends = yield* attempt.awaitChildren(ids, { hold: "1 second" })
      const { number, idempotencyKey, namespace, name, type, taskId } = attempt
      const facts = {
        number,
        idempotencyKey,
        namespace,
        name,
        type,
        taskId,
        timeout: Duration.toMillis(attempt.timeout)
      }
      return { facts, signal, ids, ends: ends.map((end) => ({ ...end })), refused: refused.code }
    }),
  many: (attempt) =>
    Effect.forEach(
      Array.from({ length: 500 }, (_, index) => index),
      (index) => attempt.emit("log", index),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.as(null)),
  huge: (attempt) => attempt.emit("log", "x".repeat(9 << 20)),
  artifacts: (attempt) =>
    Effect.gen(function* () {
      const store = yield* ArtifactStore
      const content = Stream.fromIterable([new Uint8Array(3 << 20).fill(7), new Uint8Array([1, 2, 3])])
      const about = { namespace: attempt.namespace, name: "a.bin", contentType: "application/octet-stream" }
      const put = yield* store.put({ ...about, content })
      const read = yield* Stream.runFold(
        store.read(attempt.namespace, put.id),
        () => 0,
        (sum, piece) => sum + piece.length
      )
      const info = yield* store.info(attempt.namespace, put.id)
      const elsewhere = yield* Effect.flip(store.info(Namespace.make("elsewhere"), put.id))
      const nothing = yield* Effect.flip(
        Stream.runDrain(store.read(attempt.namespace, ArtifactId.make("01890a5d-ac96-774b-bcce-b302099a8059")))
      )
      return { read, sizeBytes: info.sizeBytes, elsewhere: elsewhere.reason, nothing: nothing.reason }
    }).pipe(Effect.orDie)
}

export const behaviour: Behaviour = {
  type: "poison",
  description: "Does what it is told, also to itself.",
  capabilities: [{ name: "poison" }],
  check: (settings) => {
    if (field(settings, "check") === "spin") spin()
    if (field(settings, "check") === "exit") process.exit(9)
    return field(settings, "wrong") === true
      ? Effect.fail(new SettingsInvalid({ message: "wrong is wrong" }))
      : Effect.void
  },
  open: (settings) =>
    Effect.suspend(() => {
      if (field(settings, "open") === "wrong") return Effect.fail(new SettingsInvalid({ message: "it does not open" }))
      if (field(settings, "open") === "exit") process.exit(8)
      return Effect.succeed((attempt: Attempt) => {
        served++
        return deeds[field(attempt.payload, "do")]?.(attempt) ?? Effect.succeed({ echo: attempt.payload })
      })
    })
}
