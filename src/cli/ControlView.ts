/**
 * How counts, attempts, operations, dead letters and retention look. Pure: from what the server said to lines of text.
 */
import type { Retention } from "../../protocol/Retention.ts"
import { TaskStatus } from "../../protocol/Task.ts"
import type { DeadLetter, DryRun, Operation, TaskAttempt, TaskCounts } from "../../protocol/TaskAction.ts"
import * as Ink from "./Ink.ts"

export const counts = (counted: TaskCounts, ink: Ink.Ink): string => {
  const figure = (of: Pick<TaskCounts, "counts" | "at_least">, status: TaskStatus) =>
    `${of.at_least.includes(status) ? ">= " : ""}${of.counts[status]}`
  const rows = [
    ["all", ...TaskStatus.literals.map((status) => figure(counted, status))],
    ...(counted.agents ?? []).map((agent) => [
      agent.name,
      ...TaskStatus.literals.map((status) => figure(agent, status))
    ])
  ]
  return Ink.table(["AGENT", ...TaskStatus.literals.map((status) => status.toUpperCase())], rows, ink)
}

const failure = (error: TaskAttempt["error"]) =>
  error === null ? "" : Ink.printable(`${error.code}: ${error.message}`)

export const attempts = (list: ReadonlyArray<TaskAttempt>, ink: Ink.Ink): string =>
  list.length === 0
    ? "It was never attempted."
    : Ink.table(
        ["ATTEMPT", "OUTCOME", "STARTED", "TOOK", "NODE", "ERROR"],
        list.map((attempt) => [
          String(attempt.attempt),
          attempt.outcome,
          Ink.time(attempt.started_at),
          attempt.execution_time_ms === null ? "" : Ink.duration(attempt.execution_time_ms),
          attempt.node ?? "",
          failure(attempt.error)
        ]),
        ink
      )

export const operation = (state: Operation, ink: Ink.Ink): string =>
  Ink.facts(
    [
      ["operation", state.id],
      ["action", state.action],
      ["status", state.status === "failed" ? ink.red(state.status) : state.status],
      ["matched", String(state.matched)],
      ["done", String(state.done)],
      ["skipped", state.skipped === 0 ? null : String(state.skipped)],
      ["failed", state.failed === 0 ? null : String(state.failed)],
      ...state.errors
        .slice(0, 5)
        .map(({ detail, task_id }) => ["error", Ink.printable(`${task_id ?? ""} ${detail}`.trim())] as const)
    ],
    ink
  )

export const operationOrDryRun = (answer: Operation | DryRun, ink: Ink.Ink): string =>
  "dry_run" in answer
    ? Ink.facts(
        [
          ["would", `${answer.action} ${answer.complete ? "" : "at least "}${answer.matched} tasks`],
          ...answer.sample.map((id, index) => [index === 0 ? "such as" : "", id] as const)
        ],
        ink
      )
    : `${operation(answer, ink)}\n${ink.dim(`Follow it: datamcp operations get ${answer.id} --wait`)}`

export const deadLetters = (letters: ReadonlyArray<DeadLetter>, ink: Ink.Ink): string =>
  Ink.table(
    ["ID", "STATUS", "TYPE", "NAME", "ATTEMPTS", "ENDED", "ERROR"],
    letters.map(({ error, task }) => [
      task.id,
      ink.red(task.status),
      task.type,
      Ink.printable(task.name),
      `${task.attempt} of ${task.max_attempts}`,
      task.completed_at === null ? "" : Ink.time(task.completed_at),
      failure(error)
    ]),
    ink
  )

export const deadLetter = (letter: DeadLetter, ink: Ink.Ink): string => {
  const { acknowledged, error, retried_as, task } = letter
  const head = Ink.facts(
    [
      ["id", task.id],
      ["name", Ink.printable(task.name)],
      ["type", task.type],
      ["status", ink.red(task.status)],
      ["error", failure(error)],
      ["acknowledged", acknowledged && `${Ink.time(acknowledged.at)} by ${Ink.printable(acknowledged.actor)}`],
      ["note", acknowledged?.note && Ink.printable(acknowledged.note)],
      ["retried as", retried_as.join(" ")]
    ],
    ink
  )
  return `${head}\n${attempts(letter.attempts, ink)}`
}

export const retention = (state: Retention, ink: Ink.Ink): string => {
  const rules = state.rules.map((rule, index) => [
    String(index + 1),
    rule.status?.join(" ") ?? "any",
    rule.type?.join(" ") ?? "any",
    Ink.printable(rule.label?.join(" ") ?? "any"),
    rule.delete_after_ms === null ? "keep" : `delete after ${Ink.duration(rule.delete_after_ms)}`,
    rule.archive === true ? "archive" : ""
  ])
  const table =
    rules.length === 0
      ? "No rules: everything is kept."
      : Ink.table(["RULE", "STATUS", "TYPE", "LABEL", "WHAT", ""], rules, ink)
  const facts = Ink.facts(
    [
      ["version", String(state.version)],
      ["deleted", String(state.deleted)],
      ...state.archives
        .slice(0, 5)
        .map(({ artifact_id, tasks }) => ["archive", `${artifact_id} (${tasks} tasks)`] as const)
    ],
    ink
  )
  return `${table}\n${facts}`
}
