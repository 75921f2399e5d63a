/** Graphs: what forms one and what does not, against a naive model, and how keys become ids. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as TaskGraph from "../../actors/TaskGraph.ts"
import { TaskId } from "../../protocol/Ids.ts"
import type { GraphTask, SubmitGraph } from "../../protocol/Task.ts"

const keys = ["a", "b", "c", "d", "e", "f", "g", "h"] as const
const Key = Schema.Literals(keys)

/** A graph from edges [child, parent]. */
const graphOf = (edges: Iterable<readonly [string, string]>, names: Iterable<string> = keys): SubmitGraph => {
  const tasks: Record<string, GraphTask> = Object.fromEntries([...names].map((key) => [key, {}]))
  for (const [child, parent] of edges) {
    tasks[child] = { ...tasks[child], dependencies: [...(tasks[child]?.dependencies ?? []), parent] }
  }
  return { tasks }
}

const distinct = (edges: ReadonlyArray<readonly [string, string]>) =>
  new Map(edges.filter(([child, parent]) => child !== parent).map((edge) => [edge.join(), edge])).values().toArray()

/** Takes away tasks without parents until none is left: what remains lies on or behind a cycle. */
const hasCycle = (edges: ReadonlyArray<readonly [string, string]>): boolean => {
  let left = edges
  while (left.length > 0) {
    const children = new Set(left.map(([child]) => child))
    const next = left.filter(([, parent]) => children.has(parent))
    if (next.length === left.length) return true
    left = next
  }
  return false
}

describe("the shape of a graph", () => {
  it.prop(
    "is refused for a cycle exactly when there is one, and the cycle told is one",
    { edges: Schema.Array(Schema.Tuple([Key, Key])).check(Schema.isMaxLength(20)) },
    ({ edges }) => {
      const all = distinct(edges)
      const problems = TaskGraph.problemsOf(graphOf(all))
      expect(problems.length > 0).toBe(hasCycle(all))
      for (const { field, message } of problems) {
        expect(field).toBe("tasks")
        const path = message.replace("form a cycle: ", "").split(" -> ")
        expect(path.at(0)).toBe(path.at(-1))
        expect(path.length).toBeGreaterThanOrEqual(3)
        for (const [index, key] of path.slice(1).entries()) {
          expect(all).toContainEqual([key, path[index]])
        }
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it("is refused for an unknown name, itself, and a name given twice, each at its task", () => {
    const problems = TaskGraph.problemsOf({
      tasks: {
        a: { dependencies: ["nobody"] },
        b: { dependencies: ["b"] },
        c: { dependencies: ["a", { task: "a", on: "ended" }] },
        d: {}
      }
    })
    expect(problems).toEqual([
      { field: "tasks.a.dependencies", message: 'names "nobody", which is not in the graph' },
      { field: "tasks.b.dependencies", message: "a task cannot depend on itself" },
      { field: "tasks.c.dependencies", message: 'names "a" twice' }
    ])
  })

  it("knows no names but its own", () => {
    for (const name of ["constructor", "__proto__", "toString"]) {
      expect(TaskGraph.problemsOf({ tasks: { a: { dependencies: [name] } } })).toHaveLength(1)
    }
  })

  it("may be as deep or as wide as a graph may be", () => {
    const names = Array.from({ length: 10_000 }, (_, index) => `t${index}`)
    const chain = names.slice(1).map((name, index) => [name, names[index] ?? ""] as const)
    expect(TaskGraph.problemsOf(graphOf(chain, names))).toEqual([])
    const circle = TaskGraph.problemsOf(graphOf([...chain, ["t0", "t9999"]], names))
    expect(circle).toHaveLength(1)
    const fan = names.slice(1, 1_001).map((name) => ["t0", name] as const)
    expect(TaskGraph.problemsOf(graphOf(fan, names))).toEqual([])
  })
})

describe("a task of a graph as a command", () => {
  const ids = new Map(
    keys.map((key, index) => [key as string, TaskId.make(`01a20a42-4a11-7003-b0b9-a4786c45f7b${index}`)])
  )
  const named = (task: GraphTask, labels?: Record<string, string>) =>
    TaskGraph.toSubmitTask(task, { key: "c", taskIds: ids, labels })

  it("has ids for keys, in its dependencies and in its references", () => {
    const result = named({
      dependencies: ["a", { task: "b", on: "ended", required: false }],
      payload: { x: [{ $result: "a" }, { $result: "b", path: "/rows/0" }], y: { $other: "a" } }
    })
    expect(Result.getOrThrow(result)).toEqual({
      name: "c",
      dependencies: [
        { task_id: ids.get("a"), on: "completed", required: true },
        { task_id: ids.get("b"), on: "ended", required: false }
      ],
      payload: { x: [{ $result: ids.get("a") }, { $result: ids.get("b"), path: "/rows/0" }], y: { $other: "a" } }
    })
  })

  it("keeps its own name and labels over the graph's", () => {
    const result = named({ name: "mine", labels: { team: "x" } }, { team: "y", run: "1" })
    expect(Result.getOrThrow(result)).toMatchObject({ name: "mine", labels: { team: "x", run: "1" } })
  })

  it("refuses references to what it does not depend on, each by name", () => {
    const result = named({ dependencies: ["a"], payload: [{ $result: "b" }, { $result: "nobody" }] })
    expect(Result.getOrThrow(Result.flip(result))).toEqual(
      ["b", "nobody"].map((key) => ({
        field: "tasks.c.payload",
        message: `refers to the result of "${key}", which is not one of its dependencies`
      }))
    )
  })
})
