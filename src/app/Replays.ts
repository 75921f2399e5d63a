/**
 * Starts ended tasks anew, as tasks of their own that link back: as they are, or with what an edit changes. What a retry
 * repeats is decided by `TaskRetry`.
 */
import { Context, DateTime, Effect, Layer } from "effect"
import { referenceOf } from "../../actors/LargeData.ts"
import { AgentStore } from "../../actors/ports/AgentStore.ts"
import { ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import { Principal } from "../../protocol/Permission.ts"
import { Conflict, type SubmitProblem, TaskNotFound } from "../../protocol/Problem.ts"
import { type AcceptedTask, isTerminal, type SubmitTask, type Task } from "../../protocol/Task.ts"
import type { ReplayTask } from "../../protocol/TaskAction.ts"
import { GraphReader } from "../ledger/GraphReader.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { orUnavailable, unavailable } from "./outage.ts"
import { retryCommand } from "./TaskRetry.ts"

export class Replays extends Context.Service<
  Replays,
  {
    /** Permissions were checked. With an idempotency key a repetition gives the same task. */
    readonly replay: (
      id: TaskId,
      edit: ReplayTask,
      idempotencyKey?: string
    ) => Effect.Effect<AcceptedTask, SubmitProblem | TaskNotFound | Conflict, Principal>
  }
>()("datamcp/app/Replays") {
  static readonly layer = Layer.effect(
    Replays,
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const graphs = yield* GraphReader
      const scheduler = yield* Scheduler
      const agents = yield* AgentStore
      const artifacts = yield* ArtifactStore

      const replay: Replays["Service"]["replay"] = Effect.fn("Replays.replay")(function* (id, edit, idempotencyKey) {
        const { namespace } = yield* Principal
        const task = yield* reader.get(namespace, id)
        if (task === undefined) {
          return yield* new TaskNotFound({ task_id: id, detail: `There is no task ${id} in this namespace.` })
        }
        if (!isTerminal(task.status)) return yield* notReplayed(task, "has not ended; cancel it first")
        if (task.status === "completed") return yield* notReplayed(task, "completed; submit it again to repeat it")
        if (task.graph_id !== null && (yield* graphs.isMap(namespace, id))) {
          return yield* notReplayed(task, `is a map; retry its graph ${task.graph_id}`)
        }
        const open = yield* reader.openDependencies(namespace, id)
        const agent = task.agent_id === null ? undefined : yield* agents.byId(task.agent_id)
        const at = DateTime.formatIso(yield* DateTime.now)
        // Two tasks will share it: it stays when the first of them goes.
        const shared = referenceOf(task.payload)
        if (shared !== undefined) yield* Effect.mapError(artifacts.release(namespace, shared.$artifact), unavailable)
        const command = editedCommand(task, edit, { at, open, agent })
        return yield* scheduler.submitOne(
          idempotencyKey === undefined ? command : { ...command, idempotency_key: idempotencyKey },
          id
        )
      }, orUnavailable)

      return Replays.of({ replay })
    })
  )
}

/**
 * The command that starts a task anew with what the edit changes. The new payload takes the old one's place before it is
 * decided which dependencies come along: those it refers to, not those that only the old one did.
 */
export const editedCommand = (
  task: Task,
  { agent, configuration, payload }: ReplayTask,
  now: Parameters<typeof retryCommand>[1]
): SubmitTask => {
  const command = retryCommand(payload === undefined ? task : { ...task, payload }, now)
  return {
    ...command,
    ...(agent !== undefined && { agent }),
    ...(configuration !== undefined && { configuration: { ...command.configuration, ...configuration } })
  }
}

const notReplayed = (task: Task, why: string) =>
  Effect.fail(new Conflict({ detail: `Task ${task.id} ${why}.`, reason: "state", current_version: task.version }))
