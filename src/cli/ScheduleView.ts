/**
 * How a schedule, its due times and its runs look. Pure.
 */
import type {
  DueTimes,
  RunOutcome,
  Schedule,
  ScheduleRun,
  ScheduleStatus,
  StartedRun
} from "../../protocol/Schedule.ts"
import * as Ink from "./Ink.ts"
import { acceptedLine } from "./submitTask.ts"

export const list = (schedules: ReadonlyArray<Schedule>, ink: Ink.Ink): string =>
  Ink.table(
    ["NAME", "STATUS", "WHEN", "NEXT RUN", "LAST RUN", "OUTCOME"],
    schedules.map((schedule) => [
      schedule.name,
      statusInk(schedule.status, ink)(schedule.status),
      when(schedule),
      moment(schedule.next_run_at),
      moment(schedule.last_run_at),
      outcome(schedule.last_outcome, ink)
    ]),
    ink
  )

/** One line: what it is called and how it is. */
export const line = (schedule: Schedule, ink: Ink.Ink): string =>
  [
    schedule.name,
    statusInk(schedule.status, ink)(schedule.status),
    schedule.next_run_at === null ? "" : `next run ${Ink.time(schedule.next_run_at)}`,
    `version ${schedule.version}`
  ]
    .filter((part) => part !== "")
    .join("  ")

export const details = (schedule: Schedule, ink: Ink.Ink): string => {
  const template = schedule.task ?? schedule.graph
  return [
    Ink.facts(
      [
        ["name", schedule.name],
        ["id", schedule.id],
        ["description", Ink.printable(schedule.description ?? "")],
        ["status", statusInk(schedule.status, ink)(schedule.status)],
        ["when", when(schedule)],
        ["jitter", schedule.jitter_ms === 0 ? null : `up to ${Ink.duration(schedule.jitter_ms)}`],
        ["from", schedule.starts_at && Ink.time(schedule.starts_at)],
        ["until", schedule.ends_at && Ink.time(schedule.ends_at)],
        ["catch up", schedule.catch_up],
        ["overlap", schedule.overlap],
        ["runs for", Ink.printable(schedule.owner)],
        ["next run", schedule.next_run_at && Ink.time(schedule.next_run_at)],
        ["last run", schedule.last_run_at && Ink.time(schedule.last_run_at)],
        ["outcome", outcome(schedule.last_outcome, ink)],
        ["because", Ink.printable(schedule.last_reason ?? "")],
        ["last task", schedule.last_task_id],
        ["last graph", schedule.last_graph_id],
        [
          "labels",
          Ink.printable(
            Object.entries(schedule.labels)
              .map(([key, value]) => `${key}=${value}`)
              .join(" ")
          )
        ],
        ["updated", Ink.time(schedule.updated_at)],
        ["version", String(schedule.version)]
      ],
      ink
    ),
    ...(template === undefined
      ? []
      : [
          `${ink.dim(schedule.task === undefined ? "graph" : "task")}\n${Ink.printableLines(JSON.stringify(template, null, 2))}`
        ])
  ].join("\n")
}

export const dueTimes = ({ data, time_zone }: DueTimes, ink: Ink.Ink): string =>
  data.length === 0
    ? "It is not due any more."
    : Ink.table(
        ["DUE (UTC)", `IN ${time_zone}`],
        data.map(({ due, local }) => [Ink.time(due), local.replace(/^(.{10})T(.{8})\.\d{3}/u, "$1 $2 ")]),
        ink
      )

export const runs = (all: ReadonlyArray<ScheduleRun>, ink: Ink.Ink): string =>
  Ink.table(
    ["DUE", "OUTCOME", "TASK OR GRAPH", "STATUS", "BECAUSE"],
    all.map((run) => [
      run.due === null ? "asked for" : Ink.time(run.due),
      outcome(run.outcome, ink),
      run.task_id ?? run.graph_id ?? "",
      run.task_status ?? "",
      Ink.printable(run.reason ?? "")
    ]),
    ink
  )

export const started = ({ graph, task }: StartedRun): string =>
  task === undefined ? `graph ${graph?.id ?? ""}` : acceptedLine(task)

const when = (schedule: Schedule) =>
  schedule.cron === null
    ? `every ${Ink.duration(schedule.every_ms ?? 0)}`
    : `${Ink.printable(schedule.cron)} (${schedule.time_zone})`

const moment = (timestamp: string | null) => (timestamp === null ? "" : Ink.time(timestamp))

const statusInk = (status: ScheduleStatus, ink: Ink.Ink) => {
  if (status === "paused") return ink.yellow
  return status === "ended" ? ink.dim : ink.green
}

const outcome = (of: RunOutcome | null, ink: Ink.Ink) => {
  if (of === "refused") return ink.red(of)
  if (of === "skipped") return ink.yellow(of)
  return of ?? ""
}
