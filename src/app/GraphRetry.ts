/**
 * Decides, as a pure function, what is left to run of a graph that has ended: every task that did not complete, once more,
 * with its dependencies, condition and map. Completed tasks stand as they are: those that run again depend on them and read
 * their results. A map whose list is the same runs only the elements that did not complete.
 */
import type { GraphStep } from "../../actors/GraphStep.ts"
import type { AgentRecord } from "../../actors/ports/AgentStore.ts"
import { renameReferences } from "../../actors/Routing.ts"
import type { GraphAgain } from "../../actors/Scheduler.ts"
import { renamed } from "../../protocol/Condition.ts"
import type { GraphId, TaskId } from "../../protocol/Ids.ts"
import type { Dependency } from "../../protocol/Task.ts"
import type { StoredEdge, StoredGraph } from "../ledger/GraphReader.ts"
import { retryCommand } from "./TaskRetry.ts"

export const graphAgain = (
  graph: StoredGraph,
  now: {
    /** RFC 3339, UTC. */
    readonly at: string
    readonly agents: ReadonlyMap<string, AgentRecord>
    readonly id: GraphId
    readonly nextTaskId: () => TaskId
    readonly idempotencyKey: string | undefined
  }
): GraphAgain => {
  const left = graph.tasks.filter(({ task }) => task.status !== "completed")
  const newIds = new Map<string, TaskId>(left.map(({ task }) => [task.id, now.nextTaskId()]))
  const idOf = (id: string) => newIds.get(id) ?? id
  const edges = Map.groupBy(graph.edges, ({ child_id }) => child_id)
  return {
    id: now.id,
    name: graph.name ?? undefined,
    onFailure: graph.on_failure,
    retryOf: graph.id,
    idempotencyKey: now.idempotencyKey,
    tasks: left.flatMap(({ failsGraph, key, step, task }) => {
      const id = newIds.get(task.id)
      if (id === undefined) return []
      const agent = task.agent_id === null ? undefined : now.agents.get(task.agent_id)
      const { dependencies: _, payload, ...command } = retryCommand(task, { at: now.at, open: [], agent })
      const dependencies = (edges.get(task.id) ?? []).map((edge) => dependencyOf(edge, newIds))
      return [
        {
          ...{
            id,
            key,
            failsGraph,
            retryOf: task.id,
            step: step === undefined ? undefined : stepAgain(step, task.id, newIds)
          },
          command: {
            ...command,
            ...(dependencies.length > 0 && { dependencies }),
            ...(payload !== undefined && { payload: renameReferences(payload, idOf) })
          }
        }
      ]
    }),
    references: [
      ...graph.references,
      ...graph.tasks.flatMap(({ key, task }) => (task.status === "completed" ? [{ key, id: task.id }] : []))
    ]
  }
}

const dependencyOf = (edge: StoredEdge, newIds: ReadonlyMap<string, TaskId>): Dependency => ({
  task_id: newIds.get(edge.parent_id) ?? edge.parent_id,
  on: edge.on_ended ? "ended" : "completed",
  required: edge.required,
  ...(edge.runs_if_skipped === true && { if_skipped: "run" })
})

const stepAgain = ({ map, when }: GraphStep, id: TaskId, newIds: ReadonlyMap<string, TaskId>): GraphStep => {
  const idOf = (parent: string) => newIds.get(parent) ?? parent
  // A list that is made anew may be another one: then nothing can be taken over.
  const { elements_of: _, ...rest } = map ?? { over: { $result: "" } }
  const sameList = map !== undefined && !newIds.has(map.over.$result)
  return {
    ...(when !== undefined && { when: renamed(when, idOf) }),
    ...(map !== undefined && {
      map: {
        ...rest,
        over: { ...map.over, $result: idOf(map.over.$result) },
        ...(sameList && { elements_of: id })
      }
    })
  }
}
