/** Attempts as an instance would make them, for tests of one behaviour. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { Duration, Effect, Layer, type Schema } from "effect"
import { type Attempt, type Behaviour, BehaviourFailure } from "../../../actors/Behaviour.ts"
import { Namespace, TaskId } from "../../../protocol/Ids.ts"
import type { TaskProgress } from "../../../protocol/Task.ts"
import * as MemoryArtifactStore from "../../support/MemoryArtifactStore.ts"

export const namespace = Namespace.make("default")
const taskId = TaskId.make("01890a5d-ac96-774b-bcce-b302099a8057")

/** What every behaviour may use. */
export const services = Layer.mergeAll(MemoryArtifactStore.layer, NodeFileSystem.layer, NodePath.layer)

export const attemptOf = (behaviour: Behaviour, payload: Schema.Json, given: Partial<Attempt> = {}): Attempt => ({
  taskId,
  namespace,
  graphId: undefined,
  name: "a task",
  type: behaviour.capabilities[0]?.name ?? behaviour.type,
  number: 1,
  payload,
  idempotencyKey: taskId,
  timeout: Duration.minutes(1),
  progress: () => Effect.void,
  signal: () => Effect.never,
  emit: () => Effect.void,
  submit: () => Effect.die(new Error("this behaviour is not to submit tasks")),
  awaitChildren: () => Effect.never,
  ...given
})

/** Opens the behaviour for one attempt and runs it. */
export const perform = (
  behaviour: Behaviour,
  payload: Schema.Json,
  given: Partial<Attempt> & { readonly settings?: Schema.Json } = {}
) =>
  Effect.scoped(
    Effect.flatMap(behaviour.open(given.settings ?? {}), (run) => run(attemptOf(behaviour, payload, given)))
  )

/** The failure of an attempt that must fail. */
export const failureOf = (
  behaviour: Behaviour,
  payload: Schema.Json,
  given: Partial<Attempt> & { readonly settings?: Schema.Json } = {}
) =>
  perform(behaviour, payload, given).pipe(
    Effect.flip,
    Effect.flatMap((failure) => (failure instanceof BehaviourFailure ? Effect.succeed(failure) : Effect.die(failure)))
  )

/** Collects what an attempt reports. */
export const recordProgress = () => {
  const reports: Array<TaskProgress> = []
  return { reports, progress: (report: TaskProgress) => Effect.sync(() => void reports.push(report)) }
}
