/**
 * What `datamcp prove` is asked, and what it answers: work that was submitted while servers died, what became of each task of it, and which
 * promises held.
 *
 * Owns the bounds of a proof. What a broken promise looks like is decided in `src/prove/Verdict.ts`.
 */
import { Schema } from "effect"
import { Namespace } from "./Ids.ts"
import { CheckOutcome, Verification } from "./Verification.ts"

/** Most tasks of one proof. */
export const proofTasksMax = 1_000_000
/** Most nodes that a proof starts. */
export const proofNodesMax = 16
/** Fastest submission, in tasks per second. */
export const proofRateMax = 5_000
/** Shortest and longest mean time between two faults, in milliseconds. */
export const proofKillMillisMin = 500
export const proofKillMillisMax = 3_600_000
/** Longest time in which work is submitted, in seconds (24 hours). */
export const proofSecondsMax = 86_400
/** Largest seed. */
export const proofSeedMax = 2 ** 32 - 1
/** Most ids that are named of a broken promise. */
export const proofNamedMax = 10

/** What is killed. */
export const FaultKind = Schema.Literals(["nodes", "nats", "postgres"])
export type FaultKind = typeof FaultKind.Type

const count = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

export const ProofPlan = Schema.Struct({
  tasks: count(1, proofTasksMax),
  nodes: count(1, proofNodesMax),
  /** Mean time between two faults. */
  kill_every_ms: count(proofKillMillisMin, proofKillMillisMax),
  kill: Schema.Array(FaultKind).check(Schema.isBetweenLength(1, FaultKind.literals.length)),
  /** Tasks per second. */
  rate: count(1, proofRateMax),
  /** Decides moments and victims of faults, and what each task does. */
  seed: count(0, proofSeedMax),
  /** No new task is submitted after this time. */
  seconds: count(1, proofSecondsMax),
  /** On servers of the proof's own, or on those that the environment names. */
  servers: Schema.Literals(["own", "named"]),
  /** Address of this machine at which nodes elsewhere reach the effects' counter. */
  sink_host: Schema.String.check(Schema.isBetweenLength(1, 253))
}).annotate({ identifier: "ProofPlan" })
export type ProofPlan = typeof ProofPlan.Type

/** How a promise fared: as a check of `datamcp verify`, with the tasks at which it is broken, at most `proofNamedMax`. */
export const PromiseOutcome = Schema.Struct({ ...CheckOutcome.fields, tasks: Schema.Array(Schema.String) })
export type PromiseOutcome = typeof PromiseOutcome.Type

const Quantiles = Schema.Struct({ count: Schema.Int, p50_ms: Schema.Int, p99_ms: Schema.Int, max_ms: Schema.Int })

/** How long work stood still by one kind of fault. */
export const Recovery = Schema.Struct({
  fault: FaultKind,
  kills: Schema.Int,
  /** Per kill: until the first task that was accepted after it has ended. */
  service: Schema.NullOr(Quantiles),
  /** Per task that ran on a killed node: until it runs again; null where no task is cut short. */
  resumed: Schema.NullOr(Quantiles),
  /** The same until it has ended. */
  ended: Schema.NullOr(Quantiles)
})
export type Recovery = typeof Recovery.Type

export const ProofReport = Schema.Struct({
  /** `holds`; `broken`: a promise is; `void`: nothing was shown, because nothing died while work was under way. */
  verdict: Schema.Literals(["holds", "broken", "void"]),
  seed: Schema.Int,
  namespace: Namespace,
  seconds: Schema.Finite,
  submitted: Schema.Int,
  accepted: Schema.Int,
  /** Accepted tasks that were submitted once more with the same key. */
  resubmitted: Schema.Int,
  /** Submissions that were not answered, or by 429 or 503, and were tried again. */
  submissions_retried: Schema.Int,
  ended: Schema.Struct({
    completed: Schema.Int,
    failed: Schema.Int,
    cancelled: Schema.Int,
    timeout: Schema.Int
  }),
  lost: Schema.Int,
  effects: Schema.Struct({
    /** Completed tasks with their effect in the record. */
    recorded: Schema.Int,
    recorded_twice: Schema.Int,
    /** Calls that came in at the counter, and how many of them were for a task that had called before. */
    calls: Schema.Int,
    repeated: Schema.Int
  }),
  attempts: Schema.Struct({
    started: Schema.Int,
    /** Cut short by the loss of their instance, and begun again. */
    cut_short: Schema.Int,
    /** Ends that came too late and were refused, as far as nodes could tell before they died. */
    fenced: Schema.Int,
    /** After a failure. */
    retried: Schema.Int
  }),
  kills: Schema.Struct({ nodes: Schema.Int, nats: Schema.Int, postgres: Schema.Int }),
  recovery: Schema.Array(Recovery),
  promises: Schema.Array(PromiseOutcome),
  verification: Verification,
  /** Where logs and data were left to be looked at; null when they were removed. */
  folder: Schema.NullOr(Schema.String)
}).annotate({ identifier: "ProofReport" })
export type ProofReport = typeof ProofReport.Type

/** What is known while a proof runs. */
export interface ProofProgress {
  readonly phase: "starting" | "working" | "healing" | "checking"
  readonly accepted: number
  readonly ended: number
  readonly calls: number
  readonly nodesUp: number
  readonly kills: Readonly<Record<FaultKind, number>>
  readonly seconds: number
}

/** Where a proof tells how it is going. */
export interface ProofWatch {
  /** Often. */
  readonly progress: (progress: ProofProgress) => void
  /** Each fault, and what else is worth a line. */
  readonly event: (line: string) => void
}
