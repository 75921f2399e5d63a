/**
 * Decides, as pure functions, which limits apply to a task and which keys it has for them.
 */
import { Predicate, type Schema } from "effect"
import type { AgentId } from "../protocol/Ids.ts"
import { everyTask } from "../protocol/Limit.ts"
import * as Limits from "../protocol/Limits.ts"
import type { InvalidField } from "../protocol/Problem.ts"
import type { SubmitTask } from "../protocol/Task.ts"
import type { TaskLimit } from "./ports/Ledger.ts"
import type { LimitRecord } from "./ports/LimitStore.ts"
import { typeName } from "./Routing.ts"

/** What a limit looks at. */
export interface LimitedTask {
  readonly agentId: AgentId | undefined
  readonly type: string
  readonly labels: SubmitTask["labels"]
  readonly payload: Schema.Json | undefined
}

/** The limits of a task, with its keys; or what is wrong with a key. None is undefined, so that most tasks carry nothing. */
export const limitsOf = (
  limits: ReadonlyArray<LimitRecord>,
  task: LimitedTask
): { readonly limits: ReadonlyArray<TaskLimit> | undefined; readonly problems: ReadonlyArray<InvalidField> } => {
  if (limits.length === 0) return nothing
  const found: Array<TaskLimit> = []
  const problems: Array<InvalidField> = []
  for (const limit of limits) {
    if (!applies(limit, task)) continue
    const key = keyOf(limit.key, task)
    if (key === undefined) continue
    const fair = limit.fairBy === undefined ? "" : (keyOf(limit.fairBy, task) ?? "")
    problems.push(...tooLong(limit, limit.key, key), ...tooLong(limit, limit.fairBy ?? "", fair))
    found.push({ limitId: limit.id, key, fair })
  }
  return { limits: found.length === 0 ? undefined : found, problems }
}

const nothing = { limits: undefined, problems: [] }

const applies = (limit: LimitRecord, task: LimitedTask): boolean =>
  (limit.agentId === undefined || limit.agentId === task.agentId) &&
  (limit.type === undefined ||
    limit.type === task.type ||
    (!limit.type.includes("@") && limit.type === typeName(task.type)))

/** The value of an expression: texts, numbers and truth values as they are written. Undefined for all others, and for none. */
export const keyOf = (expression: string, task: Pick<LimitedTask, "labels" | "payload">): string | undefined => {
  if (expression === everyTask) return everyTask
  if (expression.startsWith("labels.")) {
    const name = expression.slice("labels.".length)
    return task.labels !== undefined && Object.hasOwn(task.labels, name) ? task.labels[name] : undefined
  }
  const value = pointed(task.payload, expression.slice("payload.".length))
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : undefined
}

/** What a JSON Pointer (RFC 6901) points to. */
const pointed = (document: Schema.Json | undefined, pointer: string): unknown => {
  let value: unknown = document
  for (const token of pointer.split("/").slice(1)) {
    const name = token.replaceAll("~1", "/").replaceAll("~0", "~")
    if (!Predicate.isObjectOrArray(value) || !Object.hasOwn(value, name)) return undefined
    if (Array.isArray(value) && !/^(0|[1-9]\d{0,8})$/u.test(name)) return undefined
    value = Reflect.get(value, name)
  }
  return value
}

const tooLong = (limit: LimitRecord, expression: string, value: string): ReadonlyArray<InvalidField> =>
  value.length <= Limits.limitKeyCharactersMax && !value.includes("\u0000") && value.isWellFormed()
    ? []
    : [
        {
          field: expression.replace(/^payload\./u, "payload"),
          message: `is a key of the limit "${limit.name}": at most ${Limits.limitKeyCharactersMax} characters, none of them U+0000 or half of one`,
          limit: Limits.limitKeyCharactersMax
        }
      ]
