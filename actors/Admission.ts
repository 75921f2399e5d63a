/**
 * Decides, as pure functions, how a routed command is handed to the ledger, why it is refused, and what its submitter is
 * answered.
 */
import { Result, type Schema } from "effect"
import { freightBytesMax, type TaskOrder } from "../protocol/Dispatch.ts"
import { type GraphId, TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import { utcMoment } from "../protocol/Moment.ts"
import type { Principal } from "../protocol/Permission.ts"
import {
  CoalesceMismatch,
  IdempotencyMismatch,
  type InvalidField,
  InvalidInput,
  invalidField,
  TooLarge,
  Unavailable,
  UniqueKeyHeld
} from "../protocol/Problem.ts"
import type { AcceptedTask, SubmitTask } from "../protocol/Task.ts"
import * as Coalescing from "./Coalescing.ts"
import type { GraphStep } from "./GraphStep.ts"
import * as PayloadFit from "./PayloadFit.ts"
import * as PayloadSchema from "./PayloadSchema.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"
import type { AcceptOutcome, NewTask } from "./ports/Ledger.ts"
import type { LimitRecord } from "./ports/LimitStore.ts"
import * as Routing from "./Routing.ts"
import { limitsOf } from "./TaskLimits.ts"

/** Why one command was refused. The others of its batch are not concerned. */
export type Refusal = InvalidInput | TooLarge | IdempotencyMismatch | UniqueKeyHeld | CoalesceMismatch

/** What stands between a command and the ledger: everything but its outcome. */
export interface Routed {
  readonly task: NewTask
  readonly order: TaskOrder
}

/** Who submits, and as part of what. */
export interface Origin {
  readonly id: TaskId
  readonly principal: Principal["Service"]
  readonly trace: string | undefined
  readonly retryOf: TaskId | undefined
  readonly graph:
    | {
        readonly id: GraphId
        readonly key: string
        readonly step?: GraphStep | undefined
        readonly failsGraph?: boolean
      }
    | undefined
}

/** A command and its agent as the ledger takes it, or why not. */
export const admit = (
  command: SubmitTask,
  agent: AgentRecord | undefined,
  origin: Origin,
  nowMillis: number,
  limits: ReadonlyArray<LimitRecord> = []
): Result.Result<Routed, Refusal> => {
  const type = typeOrProblems(command, agent, { id: origin.id, nowMillis })
  if (typeof type !== "string") return Result.fail(invalid(type))
  const unfit = unfitFields(command, agent, { type, origin })
  if (unfit.length > 0) return Result.fail(invalid(unfit))
  const payload = command.payload === undefined ? undefined : JSON.stringify(command.payload)
  const payloadBytes = payload === undefined ? 0 : utf8Bytes(payload)
  const unjoinable = Coalescing.tooLargeToJoin(command, payloadBytes)
  if (unjoinable !== undefined) return Result.fail(unjoinable)
  if (payloadBytes > Limits.payloadBytesMax) {
    return Result.fail(
      new TooLarge({
        field: "payload",
        limit: Limits.payloadBytesMax,
        unit: "bytes",
        detail: `payload: has ${payloadBytes} bytes as JSON; at most ${Limits.payloadBytesMax} fit inline`
      })
    )
  }
  const { labels } = command
  const limited = limitsOf(limits, { agentId: agent?.id, type, labels, payload: command.payload })
  if (limited.problems.length > 0) return Result.fail(invalid(limited.problems))
  return Result.succeed(routed(command, { ...origin, agent, type, payload, payloadBytes, limits: limited.limits }))
}

/** Whether an agent takes the payload of a command that names a type only. All that are asked share the steps of one check. */
export const takesPayloadOf = (command: SubmitTask, origin: Origin) => {
  const budget = PayloadSchema.wholeBudget()
  return (agent: AgentRecord) =>
    command.type === undefined || unfitFields(command, agent, { type: command.type, origin, budget }).length === 0
}

/** Whether a command was refused only because its payload does not fit into its row: it can be kept as an artifact. */
export const isForArtifact = (refusal: Refusal): boolean =>
  refusal._tag === "TooLarge" && refusal.field === "payload" && refusal.limit === Limits.payloadBytesMax

/** The payload as the text that is kept, or why it is too large even for that. */
export const largePayload = (payload: Schema.Json | undefined, bytesMax: number): Result.Result<string, TooLarge> => {
  const text = JSON.stringify(payload ?? null)
  const payloadBytes = utf8Bytes(text)
  if (payloadBytes <= bytesMax) return Result.succeed(text)
  const detail = `payload: has ${payloadBytes} bytes as JSON; the limit is ${bytesMax}`
  return Result.fail(new TooLarge({ field: "payload", limit: bytesMax, unit: "bytes", detail }))
}

/** The type a command is routed as, or everything that is wrong with it. */
const typeOrProblems = (
  command: SubmitTask,
  agent: AgentRecord | undefined,
  input: { readonly id: TaskId; readonly nowMillis: number }
): NewTask["type"] | ReadonlyArray<InvalidField> => {
  const problems: Array<InvalidField> = [...Routing.problemsOf(command, input), ...Coalescing.problemsOf(command)]
  if (command.agent !== undefined && agent === undefined) {
    problems.push({ field: "agent", message: `there is no agent "${command.agent}" in this namespace` })
    return problems
  }
  if (agent !== undefined && !Routing.takesTasks(agent)) {
    problems.push({ field: "agent", message: `agent "${agent.name}" is being deleted and takes nothing new` })
  }
  const type = Routing.typeOf(command, agent)
  if (typeof type !== "string") problems.push(type)
  return problems.length > 0 || typeof type !== "string" ? problems : type
}

/** What the payload breaks of the agent's schema. A map is not started: its elements are checked when they are. */
const unfitFields = (
  command: SubmitTask,
  agent: AgentRecord | undefined,
  {
    budget,
    origin,
    type
  }: { readonly origin: Origin; readonly type: NewTask["type"]; readonly budget?: PayloadSchema.Budget }
): ReadonlyArray<InvalidField> =>
  agent === undefined || origin.graph?.step?.map !== undefined
    ? []
    : PayloadFit.violationsAtAccept(agent, type, command.payload, budget).map(({ field, message, rule }) => ({
        field,
        message: `${message} (${rule} of the payload_schema of agent "${agent.name}")`
      }))

const routed = (
  command: SubmitTask,
  input: Origin & {
    readonly agent: AgentRecord | undefined
    readonly type: NewTask["type"]
    readonly payload: string | undefined
    readonly payloadBytes: number
    readonly limits: NonNullable<NewTask["limits"]> | undefined
  }
): Routed => {
  const configuration = Routing.effectiveConfiguration(command, input.agent, input.id)
  const lane = Routing.laneOf(command)
  const name = command.name ?? input.type
  const maxAttempts = Routing.maxAttempts(configuration)
  const atMostOnce = configuration.delivery === "at_most_once"
  const deadline = command.deadline === undefined ? undefined : utcMoment(command.deadline)
  const behind = input.payloadBytes > freightBytesMax
  const { namespace } = input.principal
  const conditions = Coalescing.conditionsOf(command, input.agent, configuration)
  return {
    task: {
      id: input.id,
      namespace,
      name,
      type: input.type,
      description: command.description,
      agentId: input.agent?.id,
      lane,
      payload: input.payload,
      configuration: Object.keys(configuration).length === 0 ? undefined : JSON.stringify(configuration),
      maxAttempts,
      atMostOnce,
      labels: command.labels === undefined ? undefined : JSON.stringify(command.labels),
      metadata: command.metadata === undefined ? undefined : JSON.stringify(command.metadata),
      parentId: command.parent_id,
      graphId: input.graph?.id,
      graphKey: input.graph?.key,
      retryOf: input.retryOf,
      runAt: command.run_at === undefined ? undefined : utcMoment(command.run_at),
      deadline,
      actor: input.principal.actor,
      trace: input.trace,
      dependencies: command.dependencies ?? [],
      idempotency: undefined,
      ...(input.limits !== undefined && { limits: input.limits }),
      step: input.graph?.step === undefined ? undefined : JSON.stringify(input.graph.step),
      failsGraph: input.graph?.failsGraph === true,
      ...(conditions !== undefined && { conditions })
    },
    order: {
      id: input.id,
      namespace,
      name,
      type: input.type,
      lane,
      max_attempts: maxAttempts,
      ...(command.payload !== undefined && !behind && { payload: command.payload }),
      ...(behind && { payload_behind: true }),
      ...(input.graph !== undefined && { graph_id: input.graph.id }),
      ...(configuration.timeout_ms !== undefined && { timeout_ms: configuration.timeout_ms }),
      ...(configuration.retry !== undefined && { retry: configuration.retry }),
      ...(atMostOnce && { at_most_once: true }),
      ...(deadline !== undefined && { deadline }),
      ...(input.trace !== undefined && { trace: input.trace }),
      ...(input.limits !== undefined && { limited: true })
    }
  }
}

type Existing = Extract<AcceptOutcome, { readonly _tag: "Existing" }>

/**
 * What the submitter is told; undefined when nothing is wrong with this task and another one of its batch, which is all or
 * none, was refused.
 */
export const answerOf = (routed: Routed, outcome: AcceptOutcome): Result.Result<AcceptedTask, Refusal> | undefined => {
  const { task } = routed
  switch (outcome._tag) {
    case "Accepted":
      return Result.succeed({
        id: task.id,
        namespace: task.namespace,
        name: task.name,
        type: task.type,
        agent_id: task.agentId ?? null,
        priority: task.lane,
        status: outcome.status,
        waiting_for: outcome.waitingFor ?? null,
        created_at: outcome.createdAt,
        duplicate: false
      })
    case "Existing":
      return earlierAnswer(outcome, {
        namespace: task.namespace,
        priority: task.lane,
        key: task.idempotency?.key ?? "",
        otherwise: { name: task.name, type: task.type, agentId: task.agentId }
      })
    case "Held": {
      const unique = task.conditions?.unique
      return outcome.id === undefined || unique?.onConflict !== "existing"
        ? Result.fail(held(unique?.key ?? "", outcome.id))
        : Result.succeed(asItStands(outcome.id, outcome, task))
    }
    case "Coalesced":
      return Result.succeed({ ...asItStands(outcome.id, outcome, task), duplicate: false, coalesced: true })
    case "Unlike":
      return Result.fail(unlike(task.conditions?.coalesce?.key ?? "", outcome))
    case "UnknownTask":
      return Result.fail(invalidField(outcome.field, `there is no task ${outcome.id} in this namespace`))
    case "Refused":
      return Result.fail(invalidField("", `the task cannot be stored: ${outcome.message}`))
    case "Undone":
      return undefined
  }
}

/** What the submitter of a command is told that was accepted before, though it could not be routed now. */
export const repeated = (existing: Existing, command: SubmitTask, origin: Origin) =>
  earlierAnswer(existing, {
    namespace: origin.principal.namespace,
    priority: Routing.laneOf(command),
    key: command.idempotency_key ?? "",
    otherwise: { name: command.name ?? "", type: command.type ?? "", agentId: undefined }
  })

/** The answer of the first time: meanwhile the same command might go to another agent. */
const earlierAnswer = (
  existing: Existing,
  command: {
    readonly namespace: NewTask["namespace"]
    readonly priority: NewTask["lane"]
    readonly key: string
    readonly otherwise: NonNullable<Existing["routed"]>
  }
): Result.Result<AcceptedTask, Refusal> => {
  if (!existing.same) return Result.fail(mismatch(command.key))
  const { agentId, name, type } = existing.routed ?? command.otherwise
  return Result.succeed(
    asItStands(existing.id, existing, { namespace: command.namespace, name, type, agentId, lane: command.priority })
  )
}

/** A task that answers for a submission that made none. */
const asItStands = (
  id: string,
  stands: Pick<Existing, "status" | "waitingFor" | "createdAt" | "routed">,
  otherwise: Pick<NewTask, "namespace" | "name" | "type" | "agentId" | "lane">
): AcceptedTask => {
  const { agentId, name, type } = stands.routed ?? otherwise
  return {
    id: TaskId.make(id),
    namespace: otherwise.namespace,
    name,
    type,
    agent_id: agentId ?? null,
    priority: otherwise.lane,
    status: stands.status,
    waiting_for: stands.waitingFor ?? null,
    created_at: stands.createdAt,
    duplicate: true
  }
}

const held = (key: string, id: string | undefined) =>
  new UniqueKeyHeld({
    key,
    field: "unique",
    task_id: id ?? null,
    detail: `unique: ${id === undefined ? "another task" : `task ${id}`} has the key "${key}" and has not ended`
  })

const unlike = (key: string, { field, id }: Extract<AcceptOutcome, { readonly _tag: "Unlike" }>) =>
  new CoalesceMismatch({
    key,
    field,
    task_id: id,
    detail: `${field}: is not that of task ${id}, which waits under the key "${key}"`
  })

export const mismatch = (key: string) =>
  new IdempotencyMismatch({ key, detail: `the idempotency key "${key}" was used before with another body` })

/** What Postgres itself said belongs into the log, not to callers. */
export const unavailable = () =>
  new Unavailable({
    detail: "Postgres cannot be reached or did not answer in time; whether the task was accepted is not known",
    retry_after_seconds: 1
  })

export const invalid = (errors: ReadonlyArray<InvalidField>) =>
  new InvalidInput({ detail: errors.map(({ field, message }) => `${field}: ${message}`).join("; "), errors })

/** A refusal with its fields named from further out. */
export const within = (prefix: string, refusal: Refusal): Refusal => {
  const outer = (field: string) => (field === "" ? prefix : `${prefix}.${field}`)
  switch (refusal._tag) {
    case "InvalidInput":
      return invalid(refusal.errors.map((error) => ({ ...error, field: outer(error.field) })))
    case "TooLarge": {
      const { detail, field, limit, unit } = refusal
      return new TooLarge({ field: outer(field), limit, unit, ...(detail !== undefined && { detail: outer(detail) }) })
    }
    case "UniqueKeyHeld": {
      const { detail = "", field, key, task_id } = refusal
      return new UniqueKeyHeld({ key, field: outer(field), task_id, detail: outer(detail) })
    }
    case "CoalesceMismatch": {
      const { detail = "", field, key, task_id } = refusal
      return new CoalesceMismatch({ key, field: outer(field), task_id, detail: outer(detail) })
    }
    case "IdempotencyMismatch":
      return refusal
  }
}

const encoder = new TextEncoder()

/** Bytes of a text in UTF-8; short ones are not worth an exact count. */
const utf8Bytes = (text: string): number =>
  text.length <= freightBytesMax / 3 ? text.length : encoder.encode(text).length
