/**
 * What simulated tasks do, told by their payloads, and a log of every run of it: the effects of a task as the world outside
 * would see them, recorded or not.
 */
import { Effect, type Schema } from "effect"
import { type Behaviour, BehaviourFailure, Behaviours } from "../../actors/Behaviour.ts"
import type { Machine, Process } from "./Machine.ts"

export interface Act {
  readonly does: "return" | "fail" | "refuse" | "crash" | "hang"
  /** How long it takes, in milliseconds. */
  readonly millis: number
  /** Attempts that do it; later ones return. */
  readonly times: number
  readonly reports: number
  /** Time that its clean-up takes when it is interrupted. */
  readonly cleanUpMillis: number
}

export interface Run {
  readonly taskId: string
  readonly number: number
  readonly node: string
  readonly idempotent: boolean
  readonly began: number
  ended: number | undefined
  how: "returned" | "failed" | "crashed" | "interrupted" | undefined
}

export interface Work {
  readonly runs: ReadonlyArray<Run>
  readonly of: (process: Process) => Behaviours["Service"]
}

export const make = (machine: Machine, onRun: (run: Run) => void): Work => {
  const runs: Array<Run> = []

  const behaviour = (process: Process, type: string, idempotent: boolean): Behaviour => ({
    type,
    description: "Does what it is told",
    capabilities: [{ name: `${type}.act` }],
    idempotent,
    check: () => Effect.void,
    open: () =>
      Effect.succeed((attempt) =>
        Effect.suspend(() => {
          const { number, taskId } = attempt
          const run: Run = {
            ...{ taskId, number, node: process.name, idempotent, began: machine.now() },
            ...{ ended: undefined, how: undefined }
          }
          runs.push(run)
          machine.say(`${process.name} runs ${short(taskId)} attempt ${number}`)
          onRun(run)
          const act = actOf(attempt.payload)
          const does = number <= act.times ? act.does : "return"
          const work = Effect.gen(function* () {
            for (let report = 1; report <= act.reports; report++) {
              yield* Effect.sleep(act.millis / act.reports)
              yield* attempt.progress({ percentage: (100 * report) / (act.reports + 1) })
            }
            if (act.reports === 0) yield* Effect.sleep(act.millis)
            if (does === "crash") return yield* Effect.die(new Error("it crashed"))
            if (does === "hang") return yield* Effect.never
            if (does !== "return") {
              return yield* new BehaviourFailure({ code: "told", message: "as told", retryable: does === "fail" })
            }
            return number
          })
          return work.pipe(
            Effect.onInterrupt(() => Effect.sleep(act.cleanUpMillis)),
            Effect.onExit((exit) =>
              Effect.sync(() => {
                const reason = exit._tag === "Failure" ? exit.cause.reasons[0]?._tag : undefined
                run.ended = machine.now()
                run.how =
                  reason === undefined
                    ? "returned"
                    : reason === "Fail"
                      ? "failed"
                      : reason === "Die"
                        ? "crashed"
                        : "interrupted"
              })
            )
          )
        })
      )
  })

  return {
    runs,
    of: (process) => {
      const worker = behaviour(process, "worker", false)
      const pure = behaviour(process, "pure", true)
      return Behaviours.of({
        get: (type) => (type === "worker" ? worker : type === "pure" ? pure : undefined),
        types: ["worker", "pure"],
        builtIn: new Set()
      })
    }
  }
}

export const payloadOf = (act: Act): Schema.Json => ({ ...act })

const actOf = (payload: Schema.Json): Act => payload as unknown as Act

/** The part of an id in which those of a simulation differ. */
export const short = (id: string) => id.slice(9)
