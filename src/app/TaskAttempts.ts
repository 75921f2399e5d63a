/**
 * Decides, as a pure function, which attempts a task's events tell of.
 *
 * An attempt begins with `TaskStarted` and ends with the next event that says how. One that was released or lost its
 * instance is shown as well: it ran, though the first kind does not count, and its number comes again.
 */
import { Option, Schema } from "effect"
import { isEnd } from "../../protocol/Event.ts"
import { NodeName } from "../../protocol/Ids.ts"
import { TaskError } from "../../protocol/Task.ts"
import type { TaskAttempt } from "../../protocol/TaskAction.ts"
import type { AttemptEvent } from "../ledger/AttemptReader.ts"

/** Attempts in the order they began. `instance` had the last one. */
export const attemptsOf = (
  events: ReadonlyArray<AttemptEvent>,
  instance: number | null
): ReadonlyArray<TaskAttempt> => {
  const attempts: Array<TaskAttempt> = []
  for (const event of events) {
    const last = attempts.at(-1)
    if (event.type === "TaskStarted") {
      attempts.push({
        attempt: event.attempt ?? attempts.length + 1,
        outcome: "running",
        started_at: event.at,
        ended_at: null,
        execution_time_ms: null,
        error: null,
        retry_delay_ms: null,
        node: nodeOf(event.actor),
        instance: null
      })
    } else if (last?.outcome === "running") {
      attempts[attempts.length - 1] = endedBy(last, event)
    }
  }
  const last = attempts.at(-1)
  return last === undefined ? attempts : [...attempts.slice(0, -1), { ...last, instance }]
}

const endedBy = (attempt: TaskAttempt, event: AttemptEvent): TaskAttempt => {
  const data = Option.getOrElse(decodeData(event.data), (): EndData => ({}))
  const outcome = outcomeOf(event, data)
  if (outcome === undefined) return attempt
  return {
    ...attempt,
    outcome,
    ended_at: event.at,
    execution_time_ms: data.execution_time_ms ?? null,
    error: data.error ?? null,
    retry_delay_ms: data.delay_ms ?? null
  }
}

const outcomeOf = (event: AttemptEvent, data: EndData): TaskAttempt["outcome"] | undefined => {
  if (event.type === "TaskRetried") return "retried"
  if (event.type === "TaskQueued") return data.instance_lost === true ? "instance_lost" : "released"
  return isEnd(event.type) ? ends[event.type] : undefined
}

const ends: { readonly [type: string]: TaskAttempt["outcome"] } = {
  TaskCompleted: "completed",
  TaskFailed: "failed",
  TaskTimedOut: "timeout",
  TaskCancelled: "cancelled"
}

const EndData = Schema.Struct({
  execution_time_ms: Schema.optionalKey(Schema.Finite),
  error: Schema.optionalKey(TaskError),
  delay_ms: Schema.optionalKey(Schema.Finite),
  instance_lost: Schema.optionalKey(Schema.Boolean)
})
type EndData = typeof EndData.Type
const decodeData = Schema.decodeUnknownOption(EndData)

const decodeNode = Schema.decodeUnknownOption(NodeName)

/** `node:<name>`: who records that an attempt began is who runs it. */
const nodeOf = (actor: string | null) =>
  actor?.startsWith("node:") === true ? Option.getOrNull(decodeNode(actor.slice("node:".length))) : null
