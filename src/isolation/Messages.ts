/**
 * Owns what is said between a node and an isolated process. What the node hears is decoded: code that has gone wrong, or
 * bad, may say anything. What the process hears comes from its node and is trusted.
 *
 *   node                        process
 *     | <- Loaded | Unloadable -- |   once, when its module is there
 *     | -- Check, Open ---------> |
 *     | <- Checked, Opened ------ |
 *     | -- Begin ---------------> |   one attempt at a time
 *     | <- Call ----------------- |   what the attempt wants of its node, each with a number
 *     | -- Answer --------------> |
 *     | <- Noted ---------------- |   progress and logs, which nobody answers
 *     | -- Stop ----------------> |   cancel: `Stopping` comes at once, `Ended` when it has cleaned up
 *     | <- Stopping, Ended ------ |   a result comes just before, as a frame of its own
 *     | -- Close ---------------> |   release what was opened, and exit
 */
import { Schema } from "effect"
import { Traits } from "../BehaviourModule.ts"

/** What a process is started with, as its first argument. */
export interface Start {
  /** As `import` takes it. */
  readonly module: string
  /** Longest result that it may send, in bytes of JSON. */
  readonly resultBytesMax: number
  /** Most resident memory, in bytes. */
  readonly residentBytesMax: number
  /** How long its event loop may stand still; for ever when absent. */
  readonly unresponsiveMillis?: number | undefined
}

/** An attempt without its functions. */
export interface AttemptFacts {
  readonly taskId: string
  readonly namespace: string
  readonly graphId: string | undefined
  readonly name: string
  readonly type: string
  readonly number: number
  readonly payload: Schema.Json
  readonly idempotencyKey: string
  readonly timeoutMillis: number
}

export type ToProcess =
  | { readonly _tag: "Check"; readonly settings: Schema.Json }
  | { readonly _tag: "Open"; readonly settings: Schema.Json }
  | { readonly _tag: "Begin"; readonly attempt: AttemptFacts; readonly logLevel: LogLevelName }
  | { readonly _tag: "Answer"; readonly call: number; readonly value: Schema.Json }
  | { readonly _tag: "Refusal"; readonly call: number; readonly failure: typeof Failure.Type | typeof Fault.Type }
  | { readonly _tag: "Stop" }
  | { readonly _tag: "Close" }

const logLevels = ["All", "Fatal", "Error", "Warn", "Info", "Debug", "Trace", "None"] as const
export type LogLevelName = (typeof logLevels)[number]

/** A `BehaviourFailure` on its way. */
export const Failure = Schema.TaggedStruct("Failure", {
  code: Schema.String,
  message: Schema.String,
  retryable: Schema.Boolean,
  retryAfterMillis: Schema.optionalKey(Schema.Int),
  details: Schema.optionalKey(Schema.Json)
})

/** An `ArtifactError` on its way. */
export const Fault = Schema.TaggedStruct("Fault", {
  reason: Schema.Literals(["not-found", "too-large", "unavailable"]),
  message: Schema.String
})

const SettingsFault = Schema.TaggedStruct("SettingsFault", { message: Schema.String })
const Crash = Schema.TaggedStruct("Crash", { message: Schema.String, stack: Schema.optionalKey(Schema.String) })

/** What the attempt wants: one of the methods that `AttemptServer.ts` serves. */
export const Call = Schema.TaggedStruct("Call", {
  call: Schema.Int,
  method: Schema.String,
  argument: Schema.Json
})
export type Call = typeof Call.Type

export const FromProcess = Schema.Union([
  Schema.TaggedStruct("Loaded", { traits: Traits }),
  Schema.TaggedStruct("Unloadable", { mistakes: Schema.Array(Schema.String) }),
  Schema.TaggedStruct("Checked", { fault: Schema.NullOr(Schema.Union([SettingsFault, Crash])) }),
  Schema.TaggedStruct("Opened", { fault: Schema.NullOr(Schema.Union([SettingsFault, Failure, Crash])) }),
  Call,
  Schema.TaggedStruct("Progress", { progress: Schema.Json }),
  Schema.TaggedStruct("Log", {
    level: Schema.Literals(logLevels),
    message: Schema.String,
    annotations: Schema.Record(Schema.String, Schema.String)
  }),
  Schema.TaggedStruct("Stopping", {}),
  Schema.TaggedStruct("Ended", {
    end: Schema.Union([
      /** The frame before this one is the result. */
      Schema.TaggedStruct("Returned", {}),
      Schema.TaggedStruct("ReturnedTooMuch", { bytes: Schema.Int }),
      Failure,
      Crash,
      Schema.TaggedStruct("Interrupted", {})
    ]),
    /** Memory that the process still holds. */
    residentBytes: Schema.Int
  })
])
export type FromProcess = typeof FromProcess.Type
