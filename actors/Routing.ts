/**
 * Decides, as pure functions, what a submitted task becomes: which agent does it, with which limits, and what is wrong
 * with it. No clock, random or I/O: time and ids come in with the input.
 */
import { type Schema } from "effect"
import type { TaskId, TaskType } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import { noMoment, utcMoment } from "../protocol/Moment.ts"
import type { InvalidField } from "../protocol/Problem.ts"
import type { SubmitTask, TaskConfiguration, TaskPriority } from "../protocol/Task.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"
import * as Rollout from "./Rollout.ts"

/** What holds when neither task nor agent says otherwise. */
export const defaults = {
  maxAttempts: 5,
  delayMillis: 1_000,
  factor: 2,
  delayMaxMillis: 300_000,
  jitter: 0.2,
  timeoutMillis: 300_000,
  concurrentTasks: 10
} as const

/** A task type without its version: `http.fetch@1` is `http.fetch`. */
export const typeName = (type: string): string => {
  const at = type.indexOf("@")
  return at < 0 ? type : type.slice(0, at)
}

/** Whether an agent can do a type: an enabled capability of that name, and of that version when one is asked for. */
export const canDo = (agent: AgentRecord, type: string): boolean =>
  agent.capabilities.some((capability) => does(capability, type))

/** Whether a capability is what a type asks for. */
export const does = (capability: AgentRecord["capabilities"][number], type: string): boolean => {
  const at = type.indexOf("@")
  const name = at < 0 ? type : type.slice(0, at)
  const version = at < 0 ? undefined : type.slice(at + 1)
  return (
    capability.enabled !== false &&
    typeName(capability.name) === name &&
    (version === undefined || capabilityVersion(capability) === version)
  )
}

/** True of a task that asks for a version that its agent does not offer any more: nothing else of it may run it. */
export const asksForWhatIsGone = (agent: AgentRecord, type: TaskType): boolean =>
  type.includes("@") && !canDo(agent, type)

const capabilityVersion = (capability: AgentRecord["capabilities"][number]): string | undefined => {
  const at = capability.name.indexOf("@")
  return at < 0 ? capability.version : capability.name.slice(at + 1)
}

/** Takes new tasks: not on its way out. A paused or quarantined agent still takes them; they wait for it. */
export const takesTasks = (agent: AgentRecord): boolean => agent.status !== "terminated" && !agent.draining

/** The agent for a task among those that can do it: one that runs before one that is stopped, in turn by `turn`. */
export const choose = (able: ReadonlyArray<AgentRecord>, turn: number): AgentRecord | undefined => {
  const taking = able.filter(takesTasks)
  const active = taking.filter((agent) => agent.status === "active")
  const among = active.length > 0 ? active : taking
  return among[turn % Math.max(1, among.length)]
}

/** The same, but one that takes the payload before one that does not; some that do not are asked no further. */
export const chooseTaking = (
  able: ReadonlyArray<AgentRecord>,
  turn: number,
  takes: (agent: AgentRecord) => boolean
): AgentRecord | undefined => {
  const inTurn = choose(able, turn)
  if (inTurn === undefined || takes(inTurn)) return inTurn
  const others = able
    .filter((agent) => agent !== inTurn && takesTasks(agent))
    .slice(0, Limits.payloadAgentsAskedMax - 1)
  return choose(others.filter(takes), turn) ?? inTurn
}

/** A task's type: what it says, else the only thing its agent can do. */
export const typeOf = (command: SubmitTask, agent: AgentRecord | undefined): TaskType | InvalidField => {
  if (command.type !== undefined) {
    return agent === undefined || canDo(agent, command.type)
      ? command.type
      : {
          field: "type",
          message: `agent "${agent.name}" cannot do "${command.type}"; it can do: ${able(agent)}`
        }
  }
  if (agent === undefined) return { field: "type", message: "is required when no agent is named" }
  const enabled = agent.capabilities.filter((capability) => capability.enabled !== false)
  const only = enabled[0]
  return only !== undefined && enabled.length === 1
    ? only.name
    : { field: "type", message: `is required: agent "${agent.name}" can do: ${able(agent)}` }
}

const able = (agent: AgentRecord) =>
  agent.capabilities
    .filter((capability) => capability.enabled !== false)
    .map((capability) => capability.name)
    .join(", ") || "nothing"

/** The limits a task runs under: its own over its agent's over the defaults. Fixed when it is accepted. */
export const effectiveConfiguration = (
  command: SubmitTask,
  agent: AgentRecord | undefined,
  id: TaskId
): TaskConfiguration => {
  const own = command.configuration
  const its = agent === undefined ? undefined : Rollout.configurationFor(agent, id)
  const retry = own?.retry ?? its?.retry
  const timeout = own?.timeout_ms ?? its?.timeout_ms
  return {
    ...(timeout !== undefined && { timeout_ms: timeout }),
    ...(own?.queue_timeout_ms !== undefined && { queue_timeout_ms: own.queue_timeout_ms }),
    ...(retry !== undefined && { retry }),
    ...(own?.delivery !== undefined && { delivery: own.delivery }),
    ...(own?.result_ttl_ms !== undefined && { result_ttl_ms: own.result_ttl_ms })
  }
}

export const maxAttempts = ({ retry }: TaskConfiguration): number =>
  retry?.max_attempts ?? attemptsOfList(retry) ?? defaults.maxAttempts

/** A list of delays says how many attempts there are: one before the first delay, one after each. */
const attemptsOfList = (retry: TaskConfiguration["retry"]): number | undefined =>
  retry?.delays_ms === undefined ? undefined : Math.min(retry.delays_ms.length + 1, Limits.attemptsMax)

export const laneOf = (command: SubmitTask): TaskPriority => command.priority ?? "normal"

/** A field with a character that Postgres does not store, if there is one. */
const nul = (field: string, text: string | undefined): ReadonlyArray<InvalidField> =>
  text?.includes("\u0000") === true ? [{ field, message: "must not contain the character U+0000" }] : []

/**
 * What is wrong with a decoded command beyond its schema. `nowMillis` is the time of its arrival, `payloadBytes` the
 * size of its payload as JSON.
 */
export const problemsOf = (
  command: SubmitTask,
  input: { readonly nowMillis: number; readonly id: TaskId }
): ReadonlyArray<InvalidField> => {
  const problems: Array<InvalidField> = [...nul("name", command.name), ...nul("description", command.description)]
  for (const [key, value] of Object.entries(command.labels ?? {})) {
    problems.push(...nul("labels", key), ...nul(`labels.${key}`, value))
  }
  for (const field of ["run_at", "deadline"] as const) {
    const text = command[field]
    if (text === undefined) continue
    const moment = utcMoment(text)
    const millis = Date.parse(moment ?? text)
    if (moment === undefined) {
      problems.push({ field, message: noMoment })
    } else if (millis - input.nowMillis > Limits.scheduleAheadMillisMax) {
      problems.push({
        field,
        message: `must be at most ${Limits.scheduleAheadMillisMax / 86_400_000} days ahead`,
        limit: Limits.scheduleAheadMillisMax
      })
    } else if (field === "deadline" && millis <= input.nowMillis) {
      problems.push({ field, message: "has passed already" })
    }
  }
  const parents = new Set<string>()
  for (const [index, dependency] of (command.dependencies ?? []).entries()) {
    const field = `dependencies.${index}.task_id`
    if (dependency.task_id === input.id) problems.push({ field, message: "a task cannot depend on itself" })
    if (parents.has(dependency.task_id)) problems.push({ field, message: "is named twice" })
    parents.add(dependency.task_id)
  }
  for (const id of references(command.payload)) {
    if (!parents.has(id)) {
      problems.push({
        field: "payload",
        message: `refers to the result of "${id}", which is not one of its dependencies`
      })
    }
  }
  return problems
}

/** Tasks whose results a payload refers to: every `{"$result": id}` in it. Depth is bounded by the body's. */
export const references = (payload: Schema.Json | undefined): ReadonlySet<string> => {
  const found = new Set<string>()
  const visit = (value: Schema.Json | undefined): void => {
    if (value === undefined || value === null || typeof value !== "object") return
    if (Array.isArray(value)) {
      for (const entry of value) visit(entry)
      return
    }
    if (literalOf(value) !== undefined) return
    const reference = resultReference(value)
    if (reference !== undefined) found.add(reference.id)
    else for (const entry of Object.values(value)) visit(entry)
  }
  visit(payload)
  return found
}

/** Whether something in a value would be replaced when a task starts. */
export const hasMeaning = (value: Schema.Json): boolean => {
  if (value === null || typeof value !== "object") return false
  if (Array.isArray(value)) return value.some(hasMeaning)
  return literalOf(value) !== undefined || resultReference(value) !== undefined || Object.values(value).some(hasMeaning)
}

/** A reference to a result: the value at `path` of a task's result data, or `otherwise` where there is nothing. */
export interface Reference {
  readonly id: string
  readonly path: string
  readonly otherwise: Schema.Json | undefined
}

/** `{"$result": id, "path": pointer, "default": value}` as a reference; undefined for any other value. */
export const resultReference = (value: Schema.Json): Reference | undefined => {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return undefined
  const id = Object.hasOwn(value, "$result") ? Reflect.get(value, "$result") : undefined
  const path = Object.hasOwn(value, "path") ? Reflect.get(value, "path") : ""
  if (typeof id !== "string" || typeof path !== "string") return undefined
  return { id, path, otherwise: Object.hasOwn(value, "default") ? Reflect.get(value, "default") : undefined }
}

/** `{"$literal": value}`: passed on as it is, whatever is in it. */
const literalOf = (value: object): { readonly value: Schema.Json } | undefined =>
  Object.hasOwn(value, "$literal") && Object.keys(value).length === 1
    ? { value: Reflect.get(value, "$literal") }
    : undefined

/** A payload with every reference replaced by what `resolve` gives for it, and literals taken out of their wrapping. */
export const replaceReferences = (
  payload: Schema.Json,
  resolve: (reference: Reference) => Schema.Json,
  literal: (value: Schema.Json) => Schema.Json = (value) => value
): Schema.Json => {
  if (payload === null || typeof payload !== "object") return payload
  if (Array.isArray(payload)) return payload.map((entry) => replaceReferences(entry, resolve, literal))
  const wrapped = literalOf(payload)
  if (wrapped !== undefined) return literal(wrapped.value)
  const reference = resultReference(payload)
  if (reference !== undefined) return resolve(reference)
  return Object.fromEntries(
    Object.entries(payload).map(([key, value]) => [key, replaceReferences(value, resolve, literal)])
  )
}

/** A payload whose references name the tasks that `rename` gives, or the same where it gives none. */
export const renameReferences = (payload: Schema.Json, rename: (id: string) => string | undefined): Schema.Json =>
  replaceReferences(
    payload,
    ({ id, otherwise, path }) => ({
      $result: rename(id) ?? id,
      ...(path !== "" && { path }),
      ...(otherwise !== undefined && { default: otherwise })
    }),
    (value) => ({ $literal: value })
  )
