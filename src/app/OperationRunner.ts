/**
 * Carries operations out: one step of one operation after the other, on one node of the cluster.
 *
 *   pick the one that waited longest --> look at a stretch of tasks --> change what was found, and record it --> again
 *
 * What a step changes and where the operation then stands are one transaction, so a crash between steps loses nothing and
 * a step that is taken twice changes nothing. A retry is accepted first, under an idempotency key of the operation and the
 * task, and recorded then: taken twice, it finds the task that it made.
 */
import { Context, Duration, Effect, Layer, Result } from "effect"
import { type AgentRecord, AgentStore } from "../../actors/ports/AgentStore.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { type Control, Ledger } from "../../actors/ports/Ledger.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import { canDo } from "../../actors/Routing.ts"
import { AgentId, type TaskId } from "../../protocol/Ids.ts"
import { Principal } from "../../protocol/Permission.ts"
import { type OpenOperation, OperationStore } from "../ledger/OperationStore.ts"
import { type FoundTask, TaskReader } from "../ledger/TaskReader.ts"
import { Replays } from "./Replays.ts"
import { permissionOf } from "./TaskControl.ts"

export const OperationLimits = Context.Reference<{
  /** Most tasks of one step. */
  readonly tasks: number
  /** Most events of the tasks that one step deletes. */
  readonly events: number
  /** Retries that one step submits at a time. */
  readonly retries: number
  /** How often it is looked for operations when there are none. */
  readonly every: Duration.Duration
}>("datamcp/app/OperationLimits", {
  defaultValue: () => ({ tasks: 500, events: 20_000, retries: 32, every: Duration.millis(500) })
})

/** What became of the tasks of a step that are not changed by the step itself. */
interface Elsewhere {
  readonly done: number
  readonly errors: ReadonlyArray<{ readonly task_id: TaskId; readonly detail: string }>
}

/** Takes one step of the operation that waited longest. False when there is none. */
export const makeStep = Effect.gen(function* () {
  const store = yield* OperationStore
  const reader = yield* TaskReader
  const ledger = yield* Ledger
  const agents = yield* AgentStore
  const replays = yield* Replays
  const bus = yield* Bus
  const limits = yield* OperationLimits

  const step = Effect.fn("OperationRunner.step")(function* (operation: OpenOperation) {
    const { action, filter, namespace, position } = operation
    const found = yield* reader.matching(namespace, filter, { below: position, limit: limits.tasks })
    const tasks = action === "delete" ? firstOf(found.tasks, limits.events) : found.tasks
    // Where fewer were taken than were found, the next step goes on after the last one.
    const next = tasks.length < found.tasks.length ? tasks.at(-1)?.id : found.next
    const { control, ids, elsewhere } = yield* workOf(operation, tasks)
    const { ran } = yield* ledger.control(namespace, ids, control, {
      actor: operation.actor,
      step: {
        operation: operation.id,
        from: position,
        next,
        matched: tasks.length,
        done: elsewhere.done,
        failed: elsewhere.errors.length,
        errors: elsewhere.errors.slice(0, errorsKept)
      }
    })
    for (const [agent, own] of Map.groupBy(ran, ({ agentId }) => agentId)) {
      yield* bus.notify({ _tag: "Interrupt", agent, tasks: own.map(({ id }) => id) })
    }
  })

  const workOf = Effect.fnUntraced(function* (operation: OpenOperation, tasks: ReadonlyArray<FoundTask>) {
    const { parameters } = operation
    const ids = tasks.map(({ id }) => id)
    const all = (control: Control) => ({ control, ids, elsewhere: nothing })
    switch (operation.action) {
      case "cancel":
        return all({ _tag: "Cancel", reason: parameters.reason })
      case "delete":
        return all({ _tag: "Delete", keepKeyed: false })
      case "acknowledge":
        return all({ _tag: "Acknowledge", note: parameters.note })
      case "prioritise":
        return all({ _tag: "Move", priority: parameters.priority, agentId: undefined })
      case "reroute":
        return yield* rerouted(operation, tasks)
      case "retry":
        return { control: { _tag: "Record" } as const, ids: [], elsewhere: yield* retried(operation, ids) }
    }
  })

  const rerouted = Effect.fnUntraced(function* (operation: OpenOperation, tasks: ReadonlyArray<FoundTask>) {
    const agentId = AgentId.make(operation.parameters.agent ?? "")
    const agent: AgentRecord | undefined = yield* agents.byId(agentId)
    const unable = tasks.filter(({ type }) => agent === undefined || !canDo(agent, type))
    return {
      control: { _tag: "Move", priority: undefined, agentId } as const,
      ids: tasks.filter((task) => !unable.includes(task)).map(({ id }) => id),
      elsewhere: {
        done: 0,
        errors: unable.map(({ id, type }) => ({ task_id: id, detail: `the agent cannot do "${type}"` }))
      }
    }
  })

  const retried = Effect.fnUntraced(function* (operation: OpenOperation, ids: ReadonlyArray<TaskId>) {
    const { agent, configuration, payload } = operation.parameters
    const edit = {
      ...(agent !== undefined && { agent }),
      ...(payload !== undefined && { payload }),
      ...(configuration !== undefined && { configuration })
    }
    const outcomes = yield* Effect.forEach(
      ids,
      (id) =>
        Effect.result(replays.replay(id, edit, `operation/${operation.id}/${id}`)).pipe(
          // Not its fault: the step is taken again.
          Effect.flatMap((outcome) =>
            Result.isFailure(outcome) &&
            (outcome.failure._tag === "Unavailable" || outcome.failure._tag === "Overloaded")
              ? Effect.fail(outcome.failure)
              : Effect.succeed({ id, outcome })
          )
        ),
      { concurrency: limits.retries }
    )
    const errors = outcomes.flatMap(({ id, outcome }) =>
      Result.isFailure(outcome) ? [{ task_id: id, detail: outcome.failure.detail ?? outcome.failure.title }] : []
    )
    return { done: outcomes.length - errors.length, errors } satisfies Elsewhere
  })

  /** Acts as who asked for it, with the one permission that was checked then. */
  const as = ({ action, actor, namespace, role }: OpenOperation) =>
    Effect.provideService(
      Principal,
      Principal.of({ actor, namespace, role, permissions: new Set([permissionOf[action]]) })
    )

  return Effect.gen(function* () {
    const operation = yield* store.next
    if (operation === undefined) return false
    yield* step(operation).pipe(
      as(operation),
      // What cannot be done at all must not keep others waiting for ever.
      Effect.catchDefect((defect) =>
        Effect.logError("an operation failed", defect).pipe(
          Effect.annotateLogs({ operation: operation.id }),
          Effect.andThen(
            store.end(operation.namespace, operation.id, { status: "failed", detail: "the server erred; see its log" })
          )
        )
      )
    )
    return true
  })
})

/** Runs for as long as its scope; on other nodes it waits to take over. */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const placement = yield* Placement
    const { every } = yield* OperationLimits
    const step = yield* makeStep
    yield* placement.singleton(
      "operations",
      step.pipe(
        Effect.catchCause((cause) => Effect.as(Effect.logDebug("an operation could not go on", cause), false)),
        Effect.flatMap((didSomething) => (didSomething ? Effect.yieldNow : Effect.sleep(every))),
        Effect.forever
      )
    )
  })
).pipe(Layer.provide(Replays.layer))

/** The first of them, as many as have `eventsMax` events together; at least one. */
export const firstOf = <T extends { readonly version: number }>(
  tasks: ReadonlyArray<T>,
  eventsMax: number
): ReadonlyArray<T> => {
  let events = 0
  const end = tasks.findIndex((task, index) => {
    events += task.version
    return index > 0 && events > eventsMax
  })
  return end < 0 ? tasks : tasks.slice(0, end)
}

const nothing: Elsewhere = { done: 0, errors: [] }

/** Failures that one step keeps as evidence. */
const errorsKept = 20
