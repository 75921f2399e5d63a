/**
 * Decides, as pure functions, whether tasks that name each other form a graph that can run, and in which shape they are
 * handed to the ledger.
 */
import { Result } from "effect"
import { comparisonsOf, renamed } from "../protocol/Condition.ts"
import type { TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import type { InvalidField } from "../protocol/Problem.ts"
import type { GraphTask, IfSkipped, SubmitGraph, SubmitTask } from "../protocol/Task.ts"
import type { GraphStep } from "./GraphStep.ts"
import * as MapElements from "./MapElements.ts"
import * as Routing from "./Routing.ts"

export interface Edge {
  readonly parent: string
  readonly on: "completed" | "ended"
  readonly required: boolean
  readonly ifSkipped: IfSkipped
}

/** The parents of a task of a graph, by key, with what is left unsaid filled in. */
export const edgesOf = (task: GraphTask): ReadonlyArray<Edge> =>
  (task.dependencies ?? []).map((dependency) =>
    typeof dependency === "string"
      ? { parent: dependency, on: "completed", required: true, ifSkipped: "skip" }
      : {
          parent: dependency.task,
          on: dependency.on ?? "completed",
          required: dependency.required ?? true,
          ifSkipped: dependency.if_skipped ?? "skip"
        }
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
    problems.push(...problemsOfStep(key, task, seen))
    parents.set(key, [...seen])
  }
  if (problems.length > 0) return problems
  const cycle = findCycle(parents)
  return cycle === undefined ? [] : [{ field: "tasks", message: `form a cycle: ${cycle.join(" -> ")}` }]
}

/** What is wrong with the condition and the map of a task. */
const problemsOfStep = (key: string, task: GraphTask, parents: ReadonlySet<string>): ReadonlyArray<InvalidField> => {
  const problems: Array<InvalidField> = []
  const needsParent = (field: string, parent: string) => {
    if (parents.has(parent)) return
    problems.push({ field, message: `refers to the result of "${parent}", which is not one of its dependencies` })
  }
  if (task.when !== undefined) {
    const field = `tasks.${key}.when`
    const comparisons = comparisonsOf(task.when)
    const limit = Limits.conditionTermsMax
    if (comparisons.length === 0) problems.push({ field, message: "compares nothing" })
    if (comparisons.length > limit) problems.push({ field, message: `has more than ${limit} comparisons`, limit })
    for (const parent of new Set(comparisons.map(({ $result }) => $result))) needsParent(field, parent)
  }
  if (task.map !== undefined) {
    if (task.configuration?.queue_timeout_ms !== undefined) {
      const field = `tasks.${key}.configuration.queue_timeout_ms`
      problems.push({ field, message: "cannot be combined with map: a map is not started, its elements are" })
    }
    needsParent(`tasks.${key}.map.over`, task.map.over.$result)
    for (const pointer of MapElements.badPointers(task.payload)) {
      problems.push({ field: `tasks.${key}.payload`, message: `"$item": "${pointer}" is not a JSON Pointer` })
    }
  }
  return problems
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
  const { dependencies: _, map: _map, when: _when, ...rest } = task
  const edges = edgesOf(task)
  const problems: Array<InvalidField> = []
  const dependencies = edges.flatMap(({ ifSkipped, on, parent, required }) => {
    const id = graph.taskIds.get(parent)
    if (id === undefined) return []
    return [{ task_id: id, on, required, ...(ifSkipped === "run" && { if_skipped: ifSkipped }) }]
  })
  const parents = new Set(edges.map(({ parent }) => parent))
  const payload =
    task.payload === undefined
      ? undefined
      : Routing.renameReferences(task.payload, (id) => {
          const taskId = parents.has(id) ? graph.taskIds.get(id) : undefined
          if (taskId === undefined) {
            problems.push({
              field: `tasks.${graph.key}.payload`,
              message: `refers to the result of "${id}", which is not one of its dependencies`
            })
          }
          return taskId
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

/** What is decided about a task when its parents have ended, with ids for keys; undefined for one that simply runs. */
export const stepOf = (task: GraphTask, taskIds: ReadonlyMap<string, TaskId>): GraphStep | undefined => {
  const { map, when } = task
  if (map === undefined && when === undefined) return undefined
  const idOf = (key: string) => taskIds.get(key) ?? key
  return {
    ...(when !== undefined && { when: renamed(when, idOf) }),
    ...(map !== undefined && { map: { ...map, over: { ...map.over, $result: idOf(map.over.$result) } } })
  }
}

/**
 * Tasks whose failure ends a graph that fails fast: all but those whose dependents, of which there are some, all make do
 * with it.
 */
export const requiredKeys = (tasks: SubmitGraph["tasks"]): ReadonlySet<string> => {
  const needed = new Set<string>()
  const depended = new Set<string>()
  for (const task of Object.values(tasks)) {
    for (const { on, parent, required } of edgesOf(task)) {
      depended.add(parent)
      if (on === "completed" && required) needed.add(parent)
    }
  }
  return new Set(Object.keys(tasks).filter((key) => needed.has(key) || !depended.has(key)))
}
