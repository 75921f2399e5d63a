/**
 * Says what crashed in the words of the supervision tree, bounded and storable: class, message, innermost frames.
 */
import { Cause, Predicate } from "effect"
import type { TaskId } from "../protocol/Ids.ts"
import { storable } from "../protocol/Storable.ts"
import type { Crash } from "../protocol/Supervision.ts"
import { stackOf } from "./CrashStack.ts"

/** Longest message of a crash that is kept, in characters. */
const messageCharactersMax = 500
/** Longest name of a class that is kept, in characters. */
const classCharactersMax = 100
/** Frames that are kept. */
const framesKept = 8

/** Of an instance. `at` is when, as milliseconds since 1970. */
export const ofInstance = (cause: Cause.Cause<unknown>, at: number): Crash => {
  const error = Cause.squash(cause)
  const name = Predicate.hasProperty(error, "_tag") ? String(error._tag) : error instanceof Error ? error.name : "Error"
  const message = error instanceof Error ? error.message : String(error)
  return crash({ at, name, message, stack: stackOf(error), taskId: null })
}

/** Of a task's behaviour, whose message begins with the name of its class where it has one. */
export const ofTask = (
  end: { readonly message: string; readonly stack?: string | undefined },
  taskId: TaskId,
  at: number
): Crash => {
  const [head, name] = /^([A-Za-z_$][\w$.]{0,99}): /u.exec(end.message) ?? []
  const message = end.message.slice(head?.length ?? 0)
  return crash({ at, name: name ?? "Error", message, stack: end.stack, taskId })
}

const crash = (of: {
  readonly at: number
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly taskId: TaskId | null
}): Crash => ({
  at: new Date(of.at).toISOString(),
  class: storable(of.name.slice(0, classCharactersMax)),
  message: storable(of.message.slice(0, messageCharactersMax)),
  stack: of.stack === undefined ? null : of.stack.split("\n").slice(0, framesKept).join("\n"),
  task_id: of.taskId
})
