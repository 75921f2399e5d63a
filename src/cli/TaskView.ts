/**
 * How a task, its events and its progress look. Pure: from what the server said to lines of text.
 */
import { Predicate, type Schema } from "effect"
import { CliOutput } from "effect/cli"
import type { Event } from "../../protocol/Event.ts"
import { type AwaitedChildren, isTerminal, type Task, type TaskStatus, type WaitingOn } from "../../protocol/Task.ts"
import * as Ink from "./Ink.ts"
import type { Size } from "./Screen.ts"

/** A task with all that is known of it. */
export const details = (task: Task, ink: Ink.Ink): string => {
  const head = Ink.facts(
    [
      ["id", task.id],
      ["name", Ink.printable(task.name)],
      ["type", task.type],
      ["status", statusWords(task, ink)],
      ["agent", task.agent_id],
      ["priority", task.priority],
      ["waits for", task.waiting_on && placeOf(task.waiting_on)],
      ["children", task.awaited_children && openOf(task.awaited_children)],
      ["attempt", `${task.attempt} of ${task.max_attempts}`],
      ["graph", task.graph_id === null ? null : `${task.graph_id} (${task.graph_key})`],
      ["parent", task.parent_id],
      ["retry of", task.retry_of],
      ["run at", task.run_at && Ink.time(task.run_at)],
      ["deadline", task.deadline && Ink.time(task.deadline)],
      ["labels", Ink.printable(pairs(task.labels))],
      ["created", Ink.time(task.created_at)],
      ["started", task.started_at && Ink.time(task.started_at)],
      ["ended", task.completed_at && Ink.time(task.completed_at)],
      ["took", task.result?.execution_time_ms === undefined ? null : Ink.duration(task.result.execution_time_ms)],
      ["error", task.result?.error && errorLine(task.result.error)]
    ],
    ink
  )
  return [head, block("payload", task.payload, ink), block("result", task.result?.data, ink)]
    .filter((part) => part !== "")
    .join("\n")
}

const placeOf = ({ estimate_ms, key, limit, limit_id, position }: WaitingOn) =>
  Ink.printable(`limit ${limit ?? limit_id}, key ${key}: place ${position}`) +
  (estimate_ms === null ? "" : `, about ${Ink.duration(estimate_ms)}`)

const openOf = ({ open, tasks, total }: AwaitedChildren) =>
  `${open} of ${total} have not ended: ${tasks.join(" ")}${tasks.length < open ? " ..." : ""}`

const block = (title: string, value: Schema.Json | undefined, ink: Ink.Ink) =>
  value === undefined ? "" : `${ink.dim(title)}\n${Ink.printableLines(JSON.stringify(value, null, 2))}`

const pairs = (record: Readonly<Record<string, string>>) =>
  Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(" ")

const errorLine = (error: { readonly code: string; readonly message: string }) =>
  Ink.printable(`${error.code}: ${error.message}`)

export const statusInk = (status: TaskStatus, ink: Ink.Ink) => {
  if (status === "completed") return ink.green
  if (status === "failed" || status === "timeout") return ink.red
  if (status === "cancelled") return ink.yellow
  return status === "running" ? ink.cyan : ink.dim
}

const statusWords = (task: Pick<Task, "status" | "waiting_for">, ink: Ink.Ink) =>
  statusInk(task.status, ink)(task.status) + (task.waiting_for === null ? "" : ` (waits for ${task.waiting_for})`)

export const list = (tasks: ReadonlyArray<Task>, ink: Ink.Ink): string =>
  Ink.table(
    ["ID", "STATUS", "TYPE", "NAME", "ATTEMPT", "CREATED"],
    tasks.map((task) => [
      task.id,
      statusWords(task, ink),
      task.type,
      Ink.printable(task.name),
      String(task.attempt),
      Ink.time(task.created_at)
    ]),
    ink
  )

/** What a watcher of one task knows of it. */
export interface TaskSeen {
  readonly name: string
  readonly status: TaskStatus
  readonly attempt: number
  readonly percentage: number
  readonly step: string
  /** When it came into being, or its present attempt began; RFC 3339. */
  readonly since: string
}

/** The one line of a task that is being watched. */
export const progressLine = (seen: TaskSeen, nowMillis: number, size: Size, ink: Ink.Ink): string => {
  const width = Math.max(20, size.columns - 1)
  const name = Ink.fit(Ink.printable(seen.name), Math.min(28, Math.max(8, Math.floor(width / 4))), ink).trimEnd()
  const percentage = seen.status === "completed" ? 100 : seen.percentage
  const barWidth = Math.min(30, Math.max(6, Math.floor(width / 3)))
  const paint = statusInk(seen.status, ink)
  const rest = width - CliOutput.displayWidth(name) - barWidth - 9
  const note = [
    seen.status,
    seen.attempt > 1 ? `attempt ${seen.attempt}` : "",
    Ink.duration(Math.max(0, nowMillis - Date.parse(seen.since))),
    isTerminal(seen.status) ? "" : Ink.printable(seen.step)
  ]
  return [
    ink.bold(name),
    "  ",
    paint(Ink.bar(percentage, barWidth, ink)),
    Ink.fit(`${Math.floor(percentage)}%`, 5, ink, "right"),
    rest < 4 ? "" : `  ${ink.dim(Ink.fit(note.filter((part) => part !== "").join("  "), rest, ink).trimEnd())}`
  ].join("")
}

const statusAfter: { readonly [type: string]: TaskStatus } = {
  TaskCreated: "pending",
  TaskQueued: "queued",
  TaskStarted: "running",
  TaskProgressed: "running",
  TaskPaused: "paused",
  TaskResumed: "queued",
  TaskRetried: "pending",
  TaskCompleted: "completed",
  TaskFailed: "failed",
  TaskTimedOut: "timeout",
  TaskCancelled: "cancelled"
}

/** What a watcher knows after an event. */
export const afterEvent = (seen: TaskSeen, event: Event): TaskSeen => ({
  ...seen,
  status: statusAfter[event.type] ?? seen.status,
  attempt: event.type === "TaskStarted" ? seen.attempt + 1 : seen.attempt,
  since: event.type === "TaskStarted" ? event.at : seen.since,
  percentage: event.type === "TaskStarted" ? 0 : (numberIn(event.data, "percentage") ?? seen.percentage),
  step: event.type === "TaskStarted" ? "" : (stringIn(event.data, "current_step") ?? seen.step)
})

/** `12:00:01.123  #4  TaskRetried  http_status: 503 from ...  next attempt in 1.0 s` */
export const eventLine = (event: Event, ink: Ink.Ink): string => {
  const after = statusAfter[event.type]
  const name = after === undefined ? event.type : statusInk(after, ink)(event.type)
  return [ink.dim(event.at.slice(11, 23)), ink.dim(`#${event.number}`), name, eventWords(event.data)]
    .filter((part) => part !== "")
    .join("  ")
}

const eventWords = (data: Schema.Json): string => {
  const error = Predicate.hasProperty(data, "error") ? data.error : undefined
  const took = numberIn(data, "execution_time_ms")
  const delay = numberIn(data, "delay_ms")
  const percentage = numberIn(data, "percentage")
  const waitsFor = stringIn(data, "waiting_for")
  const words = [
    percentage === undefined ? "" : `${Math.floor(percentage)}%`,
    stringIn(data, "current_step") ?? "",
    stringIn(data, "signal") ?? "",
    stringIn(data, "message") ?? "",
    waitsFor === undefined ? "" : `waits for ${waitsFor}`,
    took === undefined ? "" : `after ${Ink.duration(took)}`,
    error === undefined ? "" : `${stringIn(error, "code") ?? "error"}: ${stringIn(error, "message") ?? ""}`,
    delay === undefined ? "" : `next attempt in ${Ink.duration(delay)}`,
    stringIn(data, "reason") ?? ""
  ]
  return Ink.printable(words.filter((word) => word !== "").join("  "))
}

const numberIn = (value: unknown, key: string): number | undefined =>
  Predicate.hasProperty(value, key) && Predicate.isNumber(value[key]) ? value[key] : undefined

const stringIn = (value: unknown, key: string): string | undefined =>
  Predicate.hasProperty(value, key) && Predicate.isString(value[key]) ? value[key] : undefined
