/**
 * The use cases of finding and changing many tasks: counts, attempts, moving and deleting, actions by filter, dead letters.
 *
 * Each method checks the principal's permissions first and then sees its namespace only. An action on many is stored as an
 * operation and carried out by `OperationRunner`, with what its principal was permitted when it was asked for.
 */
import { Context, Effect, Layer } from "effect"
import { type AgentRecord, AgentStore } from "../../actors/ports/AgentStore.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { canDo, takesTasks } from "../../actors/Routing.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { ListDeadLetters, ReplayDeadLetters } from "../../protocol/api/ControlApi.ts"
import { type AgentRef, type Namespace, OperationId, type TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Permission, Principal } from "../../protocol/Permission.ts"
import {
  AgentNotFound,
  Conflict,
  type Forbidden,
  type InvalidInput,
  invalidField,
  OperationNotFound,
  Overloaded,
  type SubmitProblem,
  TaskNotFound,
  type TooLarge,
  type Unavailable
} from "../../protocol/Problem.ts"
import { type AcceptedTask, isTerminal, type Task, type TaskPriority } from "../../protocol/Task.ts"
import {
  type ActOnTasks,
  actsOn,
  type CountTasks,
  type DeadLetter,
  type DeletedTask,
  type DryRun,
  type Operation,
  type ReplayTask,
  type TaskActionName,
  type TaskAttempt,
  type TaskCounts
} from "../../protocol/TaskAction.ts"
import type { TaskFilter } from "../../protocol/TaskFilter.ts"
import { AttemptReader, type DeadLetterFacts } from "../ledger/AttemptReader.ts"
import { type OperationParameters, OperationStore, openMax } from "../ledger/OperationStore.ts"
import { TaskCounter } from "../ledger/TaskCounter.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"
import { Replays } from "./Replays.ts"
import { attemptsOf } from "./TaskAttempts.ts"
import { checkedFilter } from "./TaskFilters.ts"

/** What an action needs. */
export const permissionOf: { readonly [A in TaskActionName]: Permission } = {
  cancel: "task:cancel",
  retry: "task:retry",
  delete: "task:delete",
  prioritise: "task:update",
  reroute: "task:update",
  acknowledge: "task:update"
}

export class TaskControl extends Context.Service<
  TaskControl,
  {
    readonly counts: (
      query: CountTasks
    ) => Effect.Effect<TaskCounts, AgentNotFound | Forbidden | Unavailable, Principal>
    /** The first one first, at most the last `Limits.attemptsShownMax`. */
    readonly attempts: (
      id: TaskId
    ) => Effect.Effect<ReadonlyArray<TaskAttempt>, TaskNotFound | Forbidden | Unavailable, Principal>
    /** Moves a task that waits to another lane. `Conflict` when it runs or has ended. */
    readonly prioritise: (
      id: TaskId,
      priority: TaskPriority
    ) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
    /** Gives a task that waits to another agent, which can do its type. `Conflict` when it runs or has ended. */
    readonly reroute: (
      id: TaskId,
      agent: AgentRef
    ) => Effect.Effect<Task, TaskNotFound | Conflict | InvalidInput | Forbidden | Unavailable, Principal>
    /** Deletes an ended task. `Conflict` while it lives, or while a task that depends on it does. */
    readonly remove: (
      id: TaskId
    ) => Effect.Effect<DeletedTask, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
    /** Begins an operation; with `dry_run` only looks. `Overloaded` when the namespace has as many running as it may. */
    readonly act: (
      command: ActOnTasks
    ) => Effect.Effect<Operation | DryRun, InvalidInput | Overloaded | Forbidden | Unavailable, Principal>
    readonly operation: (
      id: OperationId
    ) => Effect.Effect<Operation, OperationNotFound | Forbidden | Unavailable, Principal>
    /** Stops an operation after the step under way; needs what its action needs. `Conflict` when it has ended. */
    readonly stopOperation: (
      id: OperationId
    ) => Effect.Effect<Operation, OperationNotFound | Conflict | Forbidden | Unavailable, Principal>
    readonly deadLetters: (
      query: ListDeadLetters
    ) => Effect.Effect<Page<DeadLetter>, InvalidInput | Forbidden | Unavailable, Principal>
    /** A task that failed or timed out, dealt with or not. */
    readonly deadLetter: (id: TaskId) => Effect.Effect<DeadLetter, TaskNotFound | Forbidden | Unavailable, Principal>
    /** Marks a dead letter as dealt with; once it is, nothing changes. */
    readonly acknowledge: (
      id: TaskId,
      note: string | undefined
    ) => Effect.Effect<DeadLetter, TaskNotFound | Forbidden | Unavailable, Principal>
    /** Starts an ended task anew, with what the edit changes. */
    readonly replay: (
      id: TaskId,
      edit: ReplayTask
    ) => Effect.Effect<AcceptedTask, SubmitProblem | TaskNotFound | Conflict, Principal>
    readonly replayMany: (
      command: ReplayDeadLetters
    ) => Effect.Effect<Operation, InvalidInput | TooLarge | Overloaded | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/TaskControl") {
  static readonly layerNoDeps = Layer.effect(
    TaskControl,
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const attemptReader = yield* AttemptReader
      const counter = yield* TaskCounter
      const operations = yield* OperationStore
      const agents = yield* AgentStore
      const ledger = yield* Ledger
      const replays = yield* Replays
      const ids = yield* UuidV7

      const counts: TaskControl["Service"]["counts"] = Effect.fn("TaskControl.counts")(function* ({ agent: ref, by }) {
        const { namespace } = yield* authorize("task:read")
        if (ref !== undefined) {
          const agent = yield* agents.find(namespace, ref)
          if (agent === undefined) return yield* agentNotFound(ref)
          const counted = yield* counter.countOf(namespace, agent.id)
          const own = { agent_id: agent.id, name: agent.name, ...counted }
          return { namespace, ...counted, ...(by === "agent" && { agents: [own] }) }
        }
        const { agents: each, ...counted } = yield* counter.count(namespace)
        const busy = each.filter((agent) => Object.values(agent.counts).some((count) => count > 0))
        return { namespace, ...counted, ...(by === "agent" && { agents: busy }) }
      }, orUnavailable)

      const attempts: TaskControl["Service"]["attempts"] = Effect.fn("TaskControl.attempts")(function* (id) {
        const { namespace } = yield* authorize("task:read")
        const last = (yield* attemptReader.last(namespace, id)) ?? (yield* taskNotFound(id))
        // Each attempt has two events.
        const events = yield* attemptReader.events(namespace, [id], 2 * Limits.attemptsShownMax)
        return attemptsOf(events, last.instance)
      }, orUnavailable)

      /** The task as it then is; `Conflict` when it does not wait and so was left alone. */
      const moved = Effect.fnUntraced(function* (namespace: Namespace, id: TaskId, isThere: (task: Task) => boolean) {
        const task = (yield* reader.get(namespace, id)) ?? (yield* taskNotFound(id))
        return isThere(task) && actsOn.prioritise.includes(task.status)
          ? task
          : yield* inState(task, isTerminal(task.status) ? `has ended as ${task.status}` : `is ${task.status} already`)
      })

      const prioritise: TaskControl["Service"]["prioritise"] = Effect.fn("TaskControl.prioritise")(function* (
        id,
        priority
      ) {
        const { actor, namespace } = yield* authorize("task:update")
        yield* ledger.control(namespace, [id], { _tag: "Move", priority, agentId: undefined }, { actor })
        return yield* moved(namespace, id, (task) => task.priority === priority)
      }, orUnavailable)

      const reroute: TaskControl["Service"]["reroute"] = Effect.fn("TaskControl.reroute")(function* (id, ref) {
        const { actor, namespace } = yield* authorize("task:update")
        const task = (yield* reader.get(namespace, id)) ?? (yield* taskNotFound(id))
        const agent = yield* receiver(namespace, ref, "agent")
        if (!canDo(agent, task.type)) {
          return yield* invalidField("agent", `agent "${agent.name}" cannot do "${task.type}"`)
        }
        yield* ledger.control(namespace, [id], { _tag: "Move", priority: undefined, agentId: agent.id }, { actor })
        return yield* moved(namespace, id, ({ agent_id }) => agent_id === agent.id)
      }, orUnavailable)

      /** An agent that takes tasks. */
      const receiver = Effect.fnUntraced(function* (namespace: Namespace, ref: AgentRef, field: string) {
        const agent: AgentRecord | undefined = yield* agents.find(namespace, ref)
        if (agent === undefined) return yield* invalidField(field, `there is no agent "${ref}" in this namespace`)
        return takesTasks(agent)
          ? agent
          : yield* invalidField(field, `agent "${agent.name}" is being deleted and takes nothing new`)
      })

      const remove: TaskControl["Service"]["remove"] = Effect.fn("TaskControl.remove")(function* (id) {
        const { actor, namespace } = yield* authorize("task:delete")
        const { done } = yield* ledger.control(namespace, [id], { _tag: "Delete", keepKeyed: false }, { actor })
        if (done.length > 0) return { id, deleted: true as const }
        const task = (yield* reader.get(namespace, id)) ?? (yield* taskNotFound(id))
        return yield* inState(
          task,
          isTerminal(task.status)
            ? "is still needed: a task that depends on it, or awaited it, has not ended"
            : "has not ended; cancel it first"
        )
      }, orUnavailable)

      const act: TaskControl["Service"]["act"] = Effect.fn("TaskControl.act")(function* (command) {
        const principal = yield* authorize(permissionOf[command.action], ...(command.dry_run === true ? readToo : []))
        const { namespace } = principal
        const filter = yield* checkedFilter(command.filter, "filter.")
        if (Object.keys(filter).length === 0) {
          return yield* invalidField("filter", 'must say which tasks; {"created_before": "<now>"} means all')
        }
        const parameters = yield* parametersOf(namespace, command)
        const narrowed = yield* narrowedTo(command.action, filter)
        if (command.dry_run === true) return yield* lookedAt(namespace, command.action, narrowed)
        return yield* begin(principal, command.action, narrowed, parameters)
      }, orUnavailable)

      const begin = Effect.fnUntraced(function* (
        { actor, namespace, role }: Principal["Service"],
        action: TaskActionName,
        filter: TaskFilter,
        parameters: OperationParameters
      ) {
        const id = OperationId.make(ids.next())
        const created = yield* operations.create({ id, namespace, action, filter, parameters, actor, role })
        if (created !== undefined) return created
        return yield* new Overloaded({
          detail: `This namespace has ${openMax} operations running; begin another one when one has ended.`,
          retry_after_seconds: 5
        })
      })

      /** What of the command the action uses; the rest is refused, so that nobody believes it did something. */
      const parametersOf = Effect.fnUntraced(function* (namespace: Namespace, command: ActOnTasks) {
        const { action: _, dry_run: __, filter: ___, ...given } = command
        const used: { readonly [A in TaskActionName]: ReadonlyArray<keyof OperationParameters> } = {
          cancel: ["reason"],
          retry: ["agent", "payload", "configuration"],
          delete: [],
          prioritise: ["priority"],
          reroute: ["agent"],
          acknowledge: ["note"]
        }
        for (const name of Object.keys(given)) {
          if (!used[command.action].some((field) => field === name)) {
            return yield* invalidField(name, `means nothing to ${command.action}`)
          }
        }
        if (command.action === "prioritise" && given.priority === undefined) {
          return yield* invalidField("priority", "is missing")
        }
        if (command.action === "reroute" && given.agent === undefined) return yield* invalidField("agent", "is missing")
        if (given.agent === undefined) return given
        const { id } = yield* receiver(namespace, given.agent, "agent")
        return { ...given, agent: id }
      })

      const lookedAt = Effect.fnUntraced(function* (namespace: Namespace, action: TaskActionName, filter: TaskFilter) {
        const { next, tasks } = yield* reader.matching(namespace, filter, {
          below: lastId,
          limit: Limits.dryRunCountMax
        })
        return {
          dry_run: true as const,
          action,
          matched: tasks.length,
          complete: next === undefined,
          sample: tasks.slice(0, sampleMax).map(({ id }) => id)
        }
      })

      const operation: TaskControl["Service"]["operation"] = Effect.fn("TaskControl.operation")(function* (id) {
        const { namespace } = yield* authorize("task:read")
        return (yield* operations.get(namespace, id)) ?? (yield* operationNotFound(id))
      }, orUnavailable)

      const stopOperation: TaskControl["Service"]["stopOperation"] = Effect.fn("TaskControl.stopOperation")(function* (
        id
      ) {
        const { namespace } = yield* authorize("task:read")
        const found = (yield* operations.get(namespace, id)) ?? (yield* operationNotFound(id))
        yield* authorize(permissionOf[found.action])
        const isStopped = yield* operations.end(namespace, id, { status: "cancelled" })
        const now = (yield* operations.get(namespace, id)) ?? (yield* operationNotFound(id))
        return isStopped
          ? now
          : yield* new Conflict({ reason: "state", detail: `Operation ${id} has ended as ${now.status}.` })
      }, orUnavailable)

      const deadLetters: TaskControl["Service"]["deadLetters"] = Effect.fn("TaskControl.deadLetters")(function* (
        query
      ) {
        const { namespace } = yield* authorize("task:read")
        const { limit = Math.min(Limits.pageEntriesDefault, Limits.deadLettersPageMax), ...filter } =
          yield* checkedFilter(query)
        const page = yield* reader.list(namespace, { ...filter, limit, dead_letter: true })
        const found = yield* lettersOf(
          namespace,
          page.data.map(({ id }) => id),
          attemptsInList
        )
        return { data: page.data.flatMap(({ id }) => found.get(id) ?? []), next_cursor: page.next_cursor }
      }, orUnavailable)

      const lettersOf = Effect.fnUntraced(function* (
        namespace: Namespace,
        taskIds: ReadonlyArray<TaskId>,
        attemptsMax: number
      ) {
        if (taskIds.length === 0) return new Map<TaskId, DeadLetter>()
        const [facts, events] = yield* Effect.all([
          attemptReader.deadLetters(namespace, taskIds),
          attemptReader.events(namespace, taskIds, 2 * attemptsMax)
        ])
        const byTask = Map.groupBy(events, ({ aggregate }) => aggregate)
        return new Map(
          facts.map(({ instance, ...letter }: DeadLetterFacts) => [
            letter.task.id,
            { ...letter, attempts: attemptsOf(byTask.get(letter.task.id) ?? [], instance) }
          ])
        )
      })

      const letterOf = Effect.fnUntraced(function* (namespace: Namespace, id: TaskId) {
        const found = (yield* lettersOf(namespace, [id], Limits.attemptsShownMax)).get(id)
        return found ?? (yield* taskNotFound(id, "that failed or timed out "))
      })

      const deadLetter: TaskControl["Service"]["deadLetter"] = Effect.fn("TaskControl.deadLetter")(function* (id) {
        const { namespace } = yield* authorize("task:read")
        return yield* letterOf(namespace, id)
      }, orUnavailable)

      const acknowledge: TaskControl["Service"]["acknowledge"] = Effect.fn("TaskControl.acknowledge")(function* (
        id,
        note
      ) {
        const { actor, namespace } = yield* authorize("task:update")
        yield* letterOf(namespace, id)
        yield* ledger.control(namespace, [id], { _tag: "Acknowledge", note }, { actor })
        return yield* letterOf(namespace, id)
      }, orUnavailable)

      const replay: TaskControl["Service"]["replay"] = Effect.fn("TaskControl.replay")(function* (id, edit) {
        yield* authorize("task:retry")
        return yield* replays.replay(id, edit)
      })

      const replayMany: TaskControl["Service"]["replayMany"] = Effect.fn("TaskControl.replayMany")(function* ({
        filter: given,
        ...edit
      }) {
        const principal = yield* authorize("task:retry")
        const filter = yield* checkedFilter(given, "filter.")
        const parameters = yield* parametersOf(principal.namespace, { action: "retry", filter, ...edit })
        const narrowed = yield* narrowedTo("retry", { ...filter, dead_letter: true })
        return yield* begin(principal, "retry", narrowed, parameters)
      }, orUnavailable)

      return TaskControl.of({
        counts,
        attempts,
        prioritise,
        reroute,
        remove,
        act,
        operation,
        stopOperation,
        deadLetters,
        deadLetter,
        acknowledge,
        replay,
        replayMany
      })
    })
  )

  /** On the ports of the actors and Postgres. */
  static readonly layer = TaskControl.layerNoDeps.pipe(Layer.provide(Replays.layer))
}

/** The filter, of tasks that the action can do something to. */
const narrowedTo = (action: TaskActionName, filter: TaskFilter): Effect.Effect<TaskFilter, InvalidInput> => {
  const status = (filter.status ?? actsOn[action]).filter((one) => actsOn[action].includes(one))
  if (status.length === 0) {
    return Effect.fail(
      invalidField("filter.status", `${action} finds tasks only among those that are ${actsOn[action].join(", ")}`)
    )
  }
  return Effect.succeed({ ...filter, status, ...(action === "acknowledge" && { dead_letter: true }) })
}

/** Above every id. */
const lastId = "ffffffff-ffff-ffff-ffff-ffffffffffff"

const sampleMax = 20

/** Attempts of each dead letter that a list shows: the last ones. */
const attemptsInList = 10

const readToo: ReadonlyArray<Permission> = ["task:read"]

const taskNotFound = (id: TaskId, which = "") =>
  Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id} ${which}in this namespace.` }))

const agentNotFound = (ref: AgentRef) =>
  Effect.fail(new AgentNotFound({ agent: ref, detail: `There is no agent "${ref}" in this namespace.` }))

const operationNotFound = (id: OperationId) =>
  Effect.fail(new OperationNotFound({ operation_id: id, detail: `There is no operation ${id} in this namespace.` }))

const inState = (task: Task, why: string) =>
  Effect.fail(new Conflict({ detail: `Task ${task.id} ${why}.`, reason: "state", current_version: task.version }))
