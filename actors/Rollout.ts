/**
 * Decides, as pure functions, which of two definitions a task runs under while one is rolled out.
 *
 * Invariants: the same task gets the same answer at every attempt and on every node; a task that has the new definition
 * keeps it when the share grows; of many tasks about the share gets the new one.
 */
import type { AgentConfiguration } from "../protocol/Agent.ts"
import type { TaskId } from "../protocol/Ids.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"

/** Whether a task runs under the definition that is rolled out. */
export const takesNew = (percent: number, id: TaskId): boolean => hundredthOf(id) < percent

/** The configuration that a task is accepted under. */
export const configurationFor = (agent: AgentRecord, id: TaskId): AgentConfiguration =>
  agent.rollout === undefined || takesNew(agent.rollout.percent, id)
    ? agent.configuration
    : agent.rollout.base.configuration

/** 0 to 99, evenly: FNV-1a over the id, then mixed, so that ids of one moment do not stay together. */
const hundredthOf = (id: string): number => {
  let hash = 0x811c9dc5
  for (let index = 0; index < id.length; index++) hash = Math.imul(hash ^ id.charCodeAt(index), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) % 100
}
