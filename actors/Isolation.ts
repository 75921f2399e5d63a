/**
 * Decides, as pure functions of an agent's configuration, what bounds its isolated behaviour has.
 */
import type { AgentConfiguration } from "../protocol/Agent.ts"
import { defaults as routing } from "./Routing.ts"

export const defaults = { memoryMib: 512, processes: 4 }

/** Tasks that one instance runs at a time. */
export const concurrentTasks = (configuration: AgentConfiguration, isolated: boolean): number => {
  const asked = configuration.max_concurrent_tasks ?? routing.concurrentTasks
  return isolated ? Math.min(asked, configuration.isolation?.processes ?? defaults.processes) : asked
}
