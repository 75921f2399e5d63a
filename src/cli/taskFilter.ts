/**
 * Which tasks a command means: flags of a list, and `--filter` of what changes many.
 */
import { Effect, Option, Record } from "effect"
import { Flag } from "effect/cli"
import * as Limits from "../../protocol/Limits.ts"
import { TaskPriority, TaskStatus, WaitingFor } from "../../protocol/Task.ts"
import { TaskFilter } from "../../protocol/TaskFilter.ts"
import { usage } from "./CliFailure.ts"
import { decodeCommand, readJson } from "./input.ts"

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const texts = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withDescription(`${description}; may be repeated`),
    Flag.between(0, Limits.filterValuesMax)
  )

/** A flag for each filter. */
export const filterFlags = {
  status: Flag.Literals("status", TaskStatus.literals).pipe(
    Flag.withDescription("In this state; may be repeated"),
    Flag.between(0, TaskStatus.literals.length)
  ),
  waitingFor: Flag.Literals("waiting-for", WaitingFor.literals).pipe(
    Flag.withDescription("Waiting for this; signal: paused until one comes"),
    Flag.optional
  ),
  awaits: text("awaits", "Paused until the signal of this name comes, e.g. approval"),
  type: texts("type", "Of this type"),
  agent: text("agent", "Of this agent, by name or id"),
  priority: Flag.Literals("priority", TaskPriority.literals).pipe(
    Flag.withDescription("Of this lane; may be repeated"),
    Flag.between(0, TaskPriority.literals.length)
  ),
  label: texts("label", "With this label: key=value"),
  where: texts("where", "With this text in payload or metadata: payload./customer/id=42"),
  name: text("name", "With this text in the name"),
  parent: text("parent", "Belonging to the task with this id"),
  graph: text("graph", "Of the graph with this id"),
  schedule: text("schedule", "Submitted by this schedule, by name or id"),
  retryOf: text("retry-of", "Retries of the task with this id"),
  error: text("error", "Ended with this error code"),
  createdAfter: text("created-after", "RFC 3339"),
  createdBefore: text("created-before", "RFC 3339"),
  startedAfter: text("started-after", "RFC 3339"),
  startedBefore: text("started-before", "RFC 3339"),
  completedAfter: text("completed-after", "RFC 3339"),
  completedBefore: text("completed-before", "RFC 3339")
}

type Given = { readonly [name: string]: Option.Option<unknown> | ReadonlyArray<unknown> }

/** What flags said, by the names of the protocol; what was not said is absent. */
export const filterFrom = (given: Given): { readonly [name: string]: unknown } => {
  const said = Record.map(given, (value) => {
    if (Option.isOption(value)) return value
    return value.length === 0 ? Option.none() : Option.some(value)
  })
  return Record.mapKeys(Record.getSomes(said), (name) =>
    name.replaceAll(/[A-Z]/gu, (letter) => `_${letter.toLowerCase()}`)
  )
}

/** `--filter name=value`, repeated, or one `--filter` with JSON. */
export const filterFlag = Flag.String("filter").pipe(
  Flag.withDescription("Which tasks: name=value, repeated (status=failed, label=team=blue), or JSON, @file or -"),
  Flag.between(0, 50)
)

const several = new Set(["status", "type", "priority", "label", "where"])

/** The filter that was said. Unknown names are refused as wrong usage. */
export const filterOf = Effect.fnUntraced(function* (given: ReadonlyArray<string>) {
  const [only = ""] = given
  if (given.length === 1 && /^(?:[{@]|-$)/u.test(only)) {
    return yield* decodeCommand(TaskFilter, yield* readJson("filter", only), "The filter")
  }
  const filter: { [name: string]: unknown } = {}
  for (const part of given) {
    const at = part.indexOf("=")
    if (at < 1) return yield* usage(`--filter: expected name=value, got ${part}`)
    const name = part.slice(0, at)
    const value = part.slice(at + 1)
    const before = filter[name]
    if (several.has(name)) filter[name] = [...(Array.isArray(before) ? before : []), value]
    else filter[name] = name === "dead_letter" ? value === "true" : value
  }
  return yield* decodeCommand(TaskFilter, filter, "The filter")
})
