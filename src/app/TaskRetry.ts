/**
 * Decides, as a pure function, the command that starts an ended task anew.
 *
 * The new task is the old one once more: same work, same input, same limits. Not repeated are `run_at` and a `deadline`
 * that has passed, its place in a graph, and its dependencies: their time is over, and who retries a task whose parent
 * failed wants it run. Its unique key is taken again, or the retry is refused. What it gathered stays its payload. Two kinds of dependencies do come along: those whose parent has not ended yet, and those whose
 * result the payload refers to.
 */
import type { AgentRecord } from "../../actors/ports/AgentStore.ts"
import { references, takesTasks } from "../../actors/Routing.ts"
import { utcMoment } from "../../protocol/Moment.ts"
import type { Dependency, SubmitTask, Task } from "../../protocol/Task.ts"

export const retryCommand = (
  task: Task,
  now: {
    /** RFC 3339, UTC. */
    readonly at: string
    /** Dependencies whose parents have not ended. */
    readonly open: ReadonlyArray<Dependency>
    /** Its agent as it is today: one that takes nothing new gives way to any that can do the type. */
    readonly agent: AgentRecord | undefined
  }
): SubmitTask => {
  const open = new Set(now.open.map(({ task_id }) => task_id))
  const referred = references(task.payload)
  const dependencies = (task.dependencies ?? []).filter(({ task_id }) => open.has(task_id) || referred.has(task_id))
  const agent = now.agent !== undefined && takesTasks(now.agent) ? now.agent.id : undefined
  return {
    name: task.name,
    type: task.type,
    priority: task.priority,
    configuration: task.configuration,
    labels: task.labels,
    metadata: task.metadata,
    ...(task.description !== undefined && { description: task.description }),
    ...(agent !== undefined && { agent }),
    ...(task.unique_key !== undefined && { unique: { key: task.unique_key } }),
    ...(task.payload !== undefined && { payload: task.payload }),
    ...(task.parent_id !== null && { parent_id: task.parent_id }),
    ...(task.deadline !== null && (utcMoment(task.deadline) ?? "") > now.at && { deadline: task.deadline }),
    ...(dependencies.length > 0 && { dependencies })
  }
}
