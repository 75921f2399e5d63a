/**
 * Decides, as pure functions, whether tasks that name each other form a graph that can run, and in which shape they are
 * handed to the ledger.
 */
import { Result } from "effect"
import type { TaskId } from "../protocol/Ids.ts"
import type { InvalidField } from "../protocol/Problem.ts"
import type { GraphTask, SubmitGraph, SubmitTask } from "../protocol/Task.ts"
import * as Routing from "./Routing.ts"

export interface Edge {
  readonly parent: string
  readonly on: "completed" | "ended"
  readonly required: boolean
}

/** The parents of a task of a graph, by key, with what is left unsaid filled in. */
export const edgesOf = (task: GraphTask): ReadonlyArray<Edge> =>
  (task.dependencies ?? []).map((dependency) =>
    typeof dependency === "string"
      ? { parent: dependency, on: "completed", required: true }
      : { parent: dependency.task, on: dependency.on ?? "completed", required: dependency.required ?? true }
  )

/**
 * What is wrong with the shape of a graph: unknown names, a task that depends on itself or names a parent twice, and
 * cycles, each with the path that shows it. Linear in tasks and edges.
 */
export const problemsOf = (graph: SubmitGraph): ReadonlyArray<InvalidField> => {
  const problems: Array<InvalidField> = []
  const parents = new Map<string, ReadonlyArray<string>>()
  for (const [key, task] of Object.entries(graph.tasks)) {
    const seen = new Set<string>()
    for (const { parent } of edgesOf(task)) {
      const field = `tasks.${key}.dependencies`
      if (parent === key) problems.push({ field, message: "a task cannot depend on itself" })
      else if (!Object.hasOwn(graph.tasks, parent))
        problems.push({ field, message: `names "${parent}", which is not in the graph` })
      else if (seen.has(parent)) problems.push({ field, message: `names "${parent}" twice` })
      seen.add(parent)
    }
    parents.set(key, [...seen])
  }
  if (problems.length > 0) return problems
  const cycle = findCycle(parents)
  return cycle === undefined ? [] : [{ field: "tasks", message: `form a cycle: ${cycle.join(" -> ")}` }]
}

/** A cycle as the keys along it, first and last alike; undefined when there is none. Iterative: graphs may be deep. */
const findCycle = (parents: ReadonlyMap<string, ReadonlyArray<string>>): ReadonlyArray<string> | undefined => {
  const done = new Set<string>()
  for (const start of parents.keys()) {
    if (done.has(start)) continue
    const path: Array<string> = []
    const onPath = new Set<string>()
    const stack: Array<{ readonly key: string; next: number }> = [{ key: start, next: 0 }]
    path.push(start)
    onPath.add(start)
    while (stack.length > 0) {
      const top = stack[stack.length - 1]
      if (top === undefined) break
      const parent = parents.get(top.key)?.[top.next]
      if (parent === undefined) {
        done.add(top.key)
        onPath.delete(top.key)
        path.pop()
        stack.pop()
        continue
      }
      top.next++
      if (onPath.has(parent)) return [...path.slice(path.indexOf(parent)), parent].reverse()
      if (done.has(parent)) continue
      path.push(parent)
      onPath.add(parent)
      stack.push({ key: parent, next: 0 })
    }
  }
  return undefined
}

/**
 * A task of a graph as a command of its own: keys become ids, in its dependencies and in the `$result` references of its
 * payload. A reference to a key that is not one of its dependencies is refused.
 */
export const toSubmitTask = (
  task: GraphTask,
  graph: {
    readonly key: string
    readonly taskIds: ReadonlyMap<string, TaskId>
    readonly labels: SubmitTask["labels"] | undefined
  }
): Result.Result<SubmitTask, ReadonlyArray<InvalidField>> => {
  const { dependencies: _, ...rest } = task
  const edges = edgesOf(task)
  const problems: Array<InvalidField> = []
  const dependencies = edges.flatMap(({ on, parent, required }) => {
    const id = graph.taskIds.get(parent)
    return id === undefined ? [] : [{ task_id: id, on, required }]
  })
  const parents = new Set(edges.map(({ parent }) => parent))
  const payload =
    task.payload === undefined
      ? undefined
      : Routing.replaceReferences(task.payload, ({ id, path }) => {
          const taskId = parents.has(id) ? graph.taskIds.get(id) : undefined
          if (taskId === undefined) {
            problems.push({
              field: `tasks.${graph.key}.payload`,
              message: `refers to the result of "${id}", which is not one of its dependencies`
            })
            return null
          }
          return path === "" ? { $result: taskId } : { $result: taskId, path }
        })
  if (problems.length > 0) return Result.fail(problems)
  const labels = graph.labels === undefined ? task.labels : { ...graph.labels, ...task.labels }
  return Result.succeed({
    ...rest,
    name: task.name ?? graph.key,
    dependencies,
    ...(payload !== undefined && { payload }),
    ...(labels !== undefined && { labels })
  })
}
