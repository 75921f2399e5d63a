/**
 * Decides, as pure functions, whether an agent takes a payload for a type: by the schemas of its enabled capabilities that
 * do the type. One that accepts it, or has no schema, is enough.
 *
 * A schema holds for all tasks at once, as everything of a definition but its configuration does, also while one is rolled
 * out. It is asked twice: at accept, unless the payload is not known then, and when an attempt begins.
 */
import type { Schema } from "effect"
import type { SubmitTask } from "../protocol/Task.ts"
import * as LargeData from "./LargeData.ts"
import * as PayloadSchema from "./PayloadSchema.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"
import * as Routing from "./Routing.ts"

/** What a payload breaks; nothing when the agent takes it. */
export const violationsOf = (
  agent: AgentRecord,
  type: string,
  payload: Schema.Json,
  budget = PayloadSchema.wholeBudget()
): ReadonlyArray<PayloadSchema.Violation> => {
  if (!hasSchemas(agent)) return []
  let first: ReadonlyArray<PayloadSchema.Violation> | undefined
  for (const capability of agent.capabilities) {
    if (!Routing.does(capability, type)) continue
    if (capability.payload_schema === undefined) return []
    const violations = PayloadSchema.violationsOf(capability.payload_schema, payload, budget)
    if (violations.length === 0) return []
    first ??= violations
  }
  return first ?? []
}

/** The same of a command as it is accepted: nothing where its payload is known only when it starts. */
export const violationsAtAccept = (
  agent: AgentRecord,
  type: string,
  payload: SubmitTask["payload"],
  budget = PayloadSchema.wholeBudget()
): ReadonlyArray<PayloadSchema.Violation> =>
  hasSchemas(agent) && isKnown(payload ?? null) ? violationsOf(agent, type, payload ?? null, budget) : []

/**
 * The same of a payload as its attempt begins. `stored` is what stood in its task: a list in which submissions were gathered
 * (`coalesce` with `keep: "all"`) is checked as each of them was. Gathered ones refer to no results.
 */
export const violationsAtStart = (
  agent: AgentRecord,
  type: string,
  { payload, stored }: { readonly payload: Schema.Json; readonly stored: Schema.Json | undefined },
  budget = PayloadSchema.wholeBudget()
): ReadonlyArray<PayloadSchema.Violation> => {
  const whole = violationsOf(agent, type, payload, budget)
  if (whole.length === 0 || !isList(payload) || !isList(stored) || payload.length === 0) return whole
  if (Routing.references(stored).size > 0) return whole
  // All of them within one budget: there may be many.
  const ofItems = PayloadSchema.wholeBudget()
  const before = ofItems.left
  const fits = payload.every((item) => violationsOf(agent, type, item, ofItems).length === 0)
  budget.left -= before - ofItems.left
  return fits ? [] : whole
}

const isList = (value: Schema.Json | undefined): value is ReadonlyArray<Schema.Json> => Array.isArray(value)

/** A reference to an artifact or to results is replaced when the task starts. */
const isKnown = (payload: Schema.Json) => LargeData.referenceOf(payload) === undefined && !Routing.hasMeaning(payload)

/** False of most agents, whose payloads are not looked into. */
export const hasSchemas = ({ capabilities }: AgentRecord) =>
  capabilities.some((each) => each.payload_schema !== undefined)
