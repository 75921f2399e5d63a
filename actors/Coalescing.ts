/**
 * Decides, as pure functions, what the conditions of a command are to the ledger, and which of them contradict each other
 * or the rest of it.
 *
 * A command that joins a waiting task brings its payload and nothing else, so what would make it a task of another kind, or
 * one that starts at a time of its own, cannot be said beside `coalesce`.
 */
import * as Limits from "../protocol/Limits.ts"
import { type InvalidField, TooLarge } from "../protocol/Problem.ts"
import type { SubmitTask, TaskConfiguration } from "../protocol/Task.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"
import type { Conditions } from "./ports/Ledger.ts"

export const problemsOf = ({ coalesce, dependencies, run_at, unique }: SubmitTask): ReadonlyArray<InvalidField> => {
  const problems: Array<InvalidField> = []
  const refuse = (field: string, message: string) => problems.push({ field, message })
  if (unique?.key.includes("\u0000") === true) refuse("unique.key", noNul)
  if (coalesce === undefined) return problems
  if (coalesce.key.includes("\u0000")) refuse("coalesce.key", noNul)
  if (unique !== undefined) refuse("unique", "cannot be combined with coalesce: at most one task waits under its key")
  if (run_at !== undefined) refuse("run_at", "cannot be combined with coalesce, which says when the task starts")
  if (dependencies !== undefined) refuse("dependencies", "cannot be combined with coalesce")
  if (coalesce.quiet_ms === undefined && coalesce.max_wait_ms === undefined) {
    refuse("coalesce", "needs quiet_ms, max_wait_ms, or both: it says when the task starts")
  }
  if ((coalesce.quiet_ms ?? 0) > (coalesce.max_wait_ms ?? Limits.coalesceMillisMax)) {
    refuse("coalesce.quiet_ms", "must be at most max_wait_ms")
  }
  if (coalesce.max_items !== undefined && coalesce.keep !== "all") {
    refuse("coalesce.max_items", 'is for keep "all": "latest" keeps one')
  }
  return problems
}

const noNul = "must not contain the character U+0000"

/** The conditions of a command for the ledger; undefined for most. */
export const conditionsOf = (
  { agent: named, coalesce, unique }: SubmitTask,
  agent: AgentRecord | undefined,
  { queue_timeout_ms }: TaskConfiguration
): Conditions | undefined =>
  coalesce === undefined && unique === undefined && queue_timeout_ms === undefined
    ? undefined
    : {
        unique: unique === undefined ? undefined : { key: unique.key, onConflict: unique.on_conflict ?? "refuse" },
        coalesce:
          coalesce === undefined
            ? undefined
            : {
                key: coalesce.key,
                keep: coalesce.keep,
                quietMillis: coalesce.quiet_ms,
                waitMillisMax: coalesce.max_wait_ms ?? Limits.coalesceMillisMax,
                itemsMax: coalesce.max_items ?? Limits.coalescedItemsMax,
                agentId: named === undefined ? undefined : agent?.id
              },
        queueTimeoutMillis: queue_timeout_ms
      }

/** What a list adds to its only item, in bytes. */
const bracketsBytes = 2

/** Why a payload of so many bytes cannot be joined with others, if so: what waits is kept inline. */
export const tooLargeToJoin = ({ coalesce }: SubmitTask, payloadBytes: number): TooLarge | undefined => {
  const limit = Limits.payloadBytesMax - (coalesce?.keep === "all" ? bracketsBytes : 0)
  return coalesce === undefined || payloadBytes <= limit
    ? undefined
    : new TooLarge({
        field: "payload",
        limit,
        unit: "bytes",
        detail: `payload: has ${payloadBytes} bytes as JSON; with coalesce at most ${limit} are taken. Submit an artifact and its id`
      })
}
