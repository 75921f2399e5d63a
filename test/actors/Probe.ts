/**
 * A behaviour that does what its payload tells it and keeps a log of every attempt it was asked to make, recorded or not:
 * the effects of a task, as the world outside would see them.
 */
import { Context, Effect, Latch, Layer, type Schema } from "effect"
import {
  type Behaviour,
  BehaviourFailure,
  Behaviours,
  type ChildTask,
  SettingsInvalid
} from "../../actors/Behaviour.ts"

export interface Act {
  /** What the attempt does; it returns at once when absent. */
  readonly do?: "fail" | "refuse" | "crash" | "hang" | "wait" | "report" | "clean-up" | "interrupt" | "submit"
  /** The gate that `wait` waits for. */
  readonly gate?: string
  /** Attempts that do it; later ones return at once. */
  readonly times?: number
  /** What `submit` submits, at a step of that name; then its first attempt fails. */
  readonly children?: ReadonlyArray<ChildTask>
  readonly step?: string
  /** Submitted instead from the second attempt on. */
  readonly otherwise?: ReadonlyArray<ChildTask>
  /** Reports of progress that `report` makes. */
  readonly reports?: number
}

export interface Made {
  readonly taskId: string
  readonly number: number
  /** From the settings that the behaviour was opened with. */
  readonly tag: string | undefined
  /** Undefined while it runs. */
  how: "returned" | "failed" | "crashed" | "interrupted" | undefined
}

export class Probe extends Context.Service<
  Probe,
  {
    /** Every attempt, in the order in which they began. */
    readonly made: ReadonlyArray<Made>
    readonly of: (taskId: string) => ReadonlyArray<Made>
    readonly running: () => number
    /** Most that ran at the same time. */
    readonly peak: () => number
    readonly gate: (name: string) => Latch.Latch
    /** Behaviours that are open now, and how many ever were. */
    readonly open: () => { readonly now: number; readonly ever: number }
  }
>()("datamcp/test/Probe") {}

const field = (value: Schema.Json, name: string): unknown =>
  value !== null && typeof value === "object" && !Array.isArray(value) ? Reflect.get(value, name) : undefined

export const layer = Layer.effectContext(
  Effect.sync(() => {
    const made: Array<Made> = []
    const gates = new Map<string, Latch.Latch>()
    let running = 0
    let peak = 0
    let open = { now: 0, ever: 0 }
    const opens = new Map<unknown, number>()

    const gate = (name: string) => {
      const known = gates.get(name)
      if (known !== undefined) return known
      const latch = Latch.makeUnsafe(false)
      gates.set(name, latch)
      return latch
    }

    const probe: Behaviour = {
      type: "probe",
      description: "Does what it is told",
      capabilities: [{ name: "probe.act" }],
      check: () => Effect.void,
      open: (settings) =>
        Effect.gen(function* () {
          const broken = field(settings, "broken")
          if (broken === "settings") return yield* new SettingsInvalid({ message: "they are broken" })
          if (broken === "open") return yield* Effect.die(new Error("cannot open"))
          // Those of the numbers, among all that were made under this tag.
          if (Array.isArray(broken)) {
            const number = (opens.get(field(settings, "tag")) ?? 0) + 1
            opens.set(field(settings, "tag"), number)
            if (broken.includes(number)) return yield* Effect.die(new Error(`cannot open: ${number}`))
          }
          const opening = field(settings, "opening")
          if (typeof opening === "string") yield* gate(opening).await
          yield* Effect.acquireRelease(
            Effect.sync(() => {
              open = { now: open.now + 1, ever: open.ever + 1 }
            }),
            () =>
              Effect.sync(() => {
                open = { ...open, now: open.now - 1 }
              })
          )
          const tag = field(settings, "tag")
          return (attempt) =>
            Effect.suspend(() => {
              const entry: Made = {
                taskId: attempt.taskId,
                number: attempt.number,
                tag: typeof tag === "string" ? tag : undefined,
                how: undefined
              }
              made.push(entry)
              running++
              peak = Math.max(peak, running)
              const act = (attempt.payload ?? {}) as Act
              const does = attempt.number <= (act.times ?? Number.POSITIVE_INFINITY) ? act.do : undefined
              const work = Effect.gen(function* () {
                switch (does) {
                  case "crash":
                    return yield* Effect.die(new Error("it crashed"))
                  case "fail":
                  case "refuse":
                    return yield* new BehaviourFailure({ code: "told", message: "as told", retryable: does === "fail" })
                  case "interrupt":
                    return yield* Effect.interrupt
                  case "hang":
                    return yield* Effect.never
                  case "clean-up":
                    return yield* Effect.onInterrupt(Effect.never, () => gate(act.gate ?? "").await)
                  case "submit": {
                    const children = (attempt.number > 1 ? act.otherwise : undefined) ?? act.children ?? []
                    const ids = yield* attempt.submit(act.step ?? "step", children)
                    if (attempt.number > 1) return ids
                    return yield* new BehaviourFailure({ code: "told", message: "after submitting", retryable: true })
                  }
                  case "wait":
                    yield* gate(act.gate ?? "").await
                    break
                  case "report":
                    for (let index = 0; index < (act.reports ?? 1); index++) {
                      yield* attempt.progress({
                        percentage: (100 * index) / (act.reports ?? 1),
                        completed_steps: index
                      })
                    }
                    yield* gate(act.gate ?? "").await
                    break
                  case undefined:
                    break
                }
                return { tag: entry.tag ?? null, payload: attempt.payload }
              })
              return work.pipe(
                Effect.onExit((exit) =>
                  Effect.sync(() => {
                    running--
                    const reason = exit._tag === "Failure" ? exit.cause.reasons[0]?._tag : undefined
                    entry.how =
                      reason === "Die"
                        ? "crashed"
                        : reason === "Fail"
                          ? "failed"
                          : reason === "Interrupt"
                            ? "interrupted"
                            : "returned"
                  })
                )
              )
            })
        })
    }

    /** The same, said to be idempotent. */
    const pure: Behaviour = { ...probe, type: "pure", idempotent: true }

    return Context.make(
      Probe,
      Probe.of({
        made,
        of: (taskId) => made.filter((entry) => entry.taskId === taskId),
        running: () => running,
        peak: () => peak,
        gate,
        open: () => open
      })
    ).pipe(
      Context.add(
        Behaviours,
        Behaviours.of({
          get: (type) => (type === "probe" ? probe : type === "pure" ? pure : undefined),
          types: ["probe", "pure"],
          builtIn: new Set()
        })
      )
    )
  })
)
