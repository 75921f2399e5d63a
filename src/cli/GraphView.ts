/**
 * How a graph looks while it runs and when it has ended. Pure: from what the server said to lines of text.
 *
 * Every line fits the given width, and no more lines are given than fit the height: of a large graph those tasks are
 * shown that need a look (running, failed, next), the others are counted.
 */
import { CliOutput } from "effect/cli"
import { type Graph, type GraphSummary, isTerminal } from "../../protocol/Task.ts"
import * as Ink from "./Ink.ts"
import type { Size } from "./Screen.ts"

export type GraphTask = Graph["tasks"][number]

/** A graph with what its reader knows besides: names of agents, and how long each running attempt has been seen. */
export interface GraphSeen {
  readonly graph: Graph
  readonly agentNames: ReadonlyMap<string, string>
  readonly runningMillis: ReadonlyMap<string, number>
}

/** Parents before children, level by level, otherwise in the graph's order. */
export const inOrder = (graph: Graph): ReadonlyArray<GraphTask> => {
  const keys = new Set<string>(graph.tasks.map((task) => task.key))
  const open = new Map<string, number>()
  const children = new Map<string, Array<GraphTask>>()
  for (const task of graph.tasks) {
    const parents = task.dependencies.filter((key) => keys.has(key))
    open.set(task.key, parents.length)
    for (const parent of parents) append(children, parent, task)
  }
  const ordered: Array<GraphTask> = []
  let level = graph.tasks.filter((task) => open.get(task.key) === 0)
  while (level.length > 0) {
    ordered.push(...level)
    level = level.flatMap((parent) =>
      (children.get(parent.key) ?? []).filter((child) => {
        const left = (open.get(child.key) ?? 0) - 1
        open.set(child.key, left)
        return left === 0
      })
    )
  }
  return ordered
}

const append = <A>(lists: Map<string, Array<A>>, key: string, entry: A) => {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [entry])
  else list.push(entry)
}

/** Lines of a frame of the live area: a title, a line for each task that fits, and a sum. */
export const frame = (seen: GraphSeen, size: Size, ink: Ink.Ink): ReadonlyArray<string> => {
  const width = Math.max(20, size.columns - 1)
  const tasks = inOrder(seen.graph)
  const room = Math.max(1, size.rows - 4)
  const shown = tasks.length <= room ? tasks : worthALook(tasks, room - 1)
  const columns = columnsFor(shown, seen, width)
  const rest = tasks.length - shown.length
  return [
    ink.bold(Ink.fit(title(seen.graph), width, ink).trimEnd()),
    ...shown.map((task) => line(task, seen, columns, ink)),
    ...(rest > 0 ? [ink.dim(Ink.fit(`  ${ink.more} and ${rest} more`, width, ink).trimEnd())] : []),
    Ink.fit(sum(seen.graph), width, ink).trimEnd()
  ]
}

export const title = (graph: Graph) =>
  graph.name === null ? `graph ${graph.id}` : `graph ${Ink.printable(graph.name)} (${graph.id})`

/** Not run because its condition did not hold, or because a parent was not. */
export const isSkipped = (task: GraphTask) => task.status === "cancelled" && task.error?.code === "skipped"

const statusOf = (task: GraphTask) => (isSkipped(task) ? "skipped" : task.status)

const statusOrder = ["failed", "timeout", "cancelled", "completed", "skipped", "running", "queued", "pending", "paused"]

/** `3 completed, 2 running, 4 pending`, without those of which there are none. */
const countsOf = (counts: { readonly [status: string]: number }): string =>
  statusOrder.flatMap((status) => (counts[status] === undefined ? [] : [`${counts[status]} ${status}`])).join(", ")

/** `3 completed, 2 running, 4 pending of 9`; elements of maps are not counted. */
export const sum = (graph: Graph): string => {
  const counts: Record<string, number> = {}
  for (const task of graph.tasks) counts[statusOf(task)] = (counts[statusOf(task)] ?? 0) + 1
  return `${countsOf(counts)} of ${graph.tasks.length}`
}

export const list = (graphs: ReadonlyArray<GraphSummary>, ink: Ink.Ink): string =>
  Ink.table(
    ["ID", "NAME", "TASKS", "CREATED"],
    graphs.map((graph) => [
      graph.id,
      Ink.printable(graph.name ?? ""),
      countsOf(graph.counts),
      graph.created_at.slice(0, 19).replace("T", " ")
    ]),
    ink
  )

const worthALook = (tasks: ReadonlyArray<GraphTask>, room: number): ReadonlyArray<GraphTask> => {
  const rank = (task: GraphTask) => {
    if (task.status === "running" || hasElements(task)) return 0
    if (task.status === "failed" || task.status === "timeout") return 1
    if (task.status === "queued") return 2
    return isTerminal(task.status) ? 4 : 3
  }
  const chosen = new Set([...tasks].sort((a, b) => rank(a) - rank(b)).slice(0, Math.max(0, room)))
  return tasks.filter((task) => chosen.has(task))
}

interface Columns {
  readonly key: number
  readonly agent: number
  readonly bar: number
  readonly note: number
}

const percentageWidth = 5

/** What is narrow loses the agent first, then the note, then the bar; the key stays. */
const columnsFor = (tasks: ReadonlyArray<GraphTask>, seen: GraphSeen, width: number): Columns => {
  const widest = (texts: ReadonlyArray<string>, most: number) =>
    Math.min(most, Math.max(0, ...texts.map(CliOutput.displayWidth)))
  const key = Math.min(
    widest(
      tasks.map((task) => task.key),
      32
    ),
    Math.max(8, width - 20)
  )
  const agent =
    width < 70
      ? 0
      : widest(
          tasks.map((task) => agentOf(task, seen)),
          20
        )
  const left = width - 2 - key - 2 - (agent === 0 ? 0 : agent + 2) - percentageWidth
  const bar = left < 6 ? 0 : Math.min(24, left < 40 ? left : Math.floor(left / 2))
  return { key, agent, bar, note: Math.max(0, left - bar - 2) }
}

const agentOf = (task: GraphTask, seen: GraphSeen) =>
  task.agent_id === null ? "" : (seen.agentNames.get(task.agent_id) ?? "")

const line = (task: GraphTask, seen: GraphSeen, columns: Columns, ink: Ink.Ink): string => {
  const percentage = percentageOf(task)
  const cells = [
    sign(task, ink),
    " ",
    Ink.fit(task.key, columns.key, ink),
    "  ",
    columns.agent === 0 ? "" : `${ink.dim(Ink.fit(agentOf(task, seen), columns.agent, ink))}  `,
    columns.bar === 0 ? "" : colour(task, ink)(Ink.bar(percentage, columns.bar, ink)),
    Ink.fit(`${Math.floor(percentage)}%`, percentageWidth, ink, "right"),
    columns.note < 4 ? "" : `  ${ink.dim(Ink.fit(note(task, seen), columns.note, ink).trimEnd())}`
  ]
  return cells.join("").trimEnd()
}

const percentageOf = (task: GraphTask): number => {
  if (task.status === "completed") return 100
  if (task.map === undefined) return task.progress?.percentage ?? 0
  const total = task.map.total ?? 0
  return total === 0 ? 0 : (100 * endedElements(task.map)) / total
}

const endedElements = ({ counts }: NonNullable<GraphTask["map"]>): number =>
  (["completed", "failed", "timeout", "cancelled"] as const).reduce((sum, status) => sum + (counts[status] ?? 0), 0)

/** `12 of 40, 1 failed`: elements that have ended, and those among them that did not complete. */
const elementsOf = (task: GraphTask): string => {
  const { map } = task
  if (map === undefined || map.total === null) return ""
  const { completed: _, pending: _pending, queued: _queued, running: _running, paused: _paused, ...others } = map.counts
  const not = countsOf(others)
  return `${endedElements(map)} of ${map.total}${not === "" ? "" : `, ${not}`}`
}

/** What else is worth saying in the line: the error, the present step, the time, what it waits for. */
export const note = (task: GraphTask, seen: GraphSeen): string => {
  const parts = [
    task.taken_over === true ? "taken over" : "",
    elementsOf(task),
    task.attempt > 1 ? `attempt ${task.attempt}` : "",
    task.execution_time_ms !== null ? Ink.duration(task.execution_time_ms) : runningTime(task, seen),
    task.error !== null ? Ink.printable(task.error.message) : "",
    task.status === "running" ? Ink.printable(task.progress?.current_step ?? "") : "",
    task.status === "pending" && (task.map === undefined || task.map.total === null) ? waiting(task, seen.graph) : "",
    task.status === "queued" ? "queued" : ""
  ]
  return parts.filter((part) => part !== "").join("  ")
}

/** Nothing in the first second: a time that is always new says little. */
const runningTime = (task: GraphTask, seen: GraphSeen): string => {
  const millis = seen.runningMillis.get(task.key) ?? 0
  return task.status === "running" && millis >= 1000 ? Ink.duration(millis) : ""
}

const waiting = (task: GraphTask, graph: Graph): string => {
  if (task.waiting_for !== "dependencies") return `waits for ${task.waiting_for ?? "its turn"}`
  const open = new Set<string>(graph.tasks.filter((other) => !isTerminal(other.status)).map((other) => other.key))
  return `waits for ${task.dependencies.filter((key) => open.has(key)).join(", ")}`
}

const colour = (task: GraphTask, ink: Ink.Ink) => {
  if (task.status === "completed") return ink.green
  if (task.status === "failed" || task.status === "timeout") return ink.red
  return task.status === "running" || hasElements(task) ? ink.cyan : ink.dim
}

/** A map whose elements are under way. */
const hasElements = (task: GraphTask) => task.status === "pending" && task.map !== undefined && task.map.total !== null

const sign = (task: GraphTask, ink: Ink.Ink) => {
  if (task.status === "completed") return ink.green(ink.ok)
  if (task.status === "failed" || task.status === "timeout") return ink.red(ink.bad)
  if (isSkipped(task)) return ink.dim("-")
  if (task.status === "cancelled") return ink.yellow(ink.bad)
  return task.status === "running" || hasElements(task) ? ink.cyan(">") : ink.dim(".")
}

/** A plain line for each task whose state is not the one in `before`: for output that nobody watches. */
export const changes = (before: Graph | undefined, seen: GraphSeen): ReadonlyArray<string> => {
  const old = new Map(before?.tasks.map((task) => [task.key, stateOf(task)]))
  return inOrder(seen.graph).flatMap((task) => {
    if (old.get(task.key) === stateOf(task)) return []
    const words = [task.key, statusOf(task), agentOf(task, seen), note(task, seen)]
    return [words.filter((word) => word !== "").join("  ")]
  })
}

/** What is told when it changes. Of a map also each tenth of its elements. */
const stateOf = (task: GraphTask) =>
  `${task.status} ${task.attempt} ${hasElements(task) ? Math.floor(percentageOf(task) / 10) : ""}`

/** The table that a finished graph ends with. */
export const outcome = (seen: GraphSeen, ink: Ink.Ink): string =>
  Ink.table(
    ["TASK", "STATUS", "AGENT", "ATTEMPT", "TIME", "NOTE"],
    inOrder(seen.graph).map((task) => [
      task.key,
      colour(task, ink)(statusOf(task)),
      agentOf(task, seen),
      String(task.attempt),
      task.execution_time_ms === null ? "" : Ink.duration(task.execution_time_ms),
      [
        task.taken_over === true ? "taken over" : "",
        elementsOf(task),
        task.error === null ? "" : Ink.printable(`${task.error.code}: ${task.error.message}`)
      ]
        .filter((part) => part !== "")
        .join("  ")
    ]),
    ink
  )
