/**
 * Decides, as pure functions of the stored agent, what a command makes of it: the change and its event, nothing when it
 * is so already, or the refusal.
 *
 *   active <--> maintenance        by pause and resume
 *   active, maintenance --> error  by quarantine; error --> active by resume, --> maintenance by pause
 *   any + draining --> terminated  when its last open task has ended; final
 *
 * A draining agent may still be paused and resumed, which decides when it gets done; its definition is closed.
 */
import { Result } from "effect"
import type { Capability, UpdateAgent } from "../../protocol/Agent.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Conflict, type InvalidInput, invalidField } from "../../protocol/Problem.ts"
import type { AgentChange } from "../ledger/AgentRegistry.ts"
import type { AgentRow } from "../ledger/AgentRows.ts"

export type Decision = Result.Result<AgentChange | undefined, Conflict | InvalidInput>

/** A decision about one version of an agent only; any when `version` is undefined. */
export const ifVersion =
  (version: number | undefined, decide: (agent: AgentRow) => Decision) =>
  (agent: AgentRow): Decision =>
    version === undefined || version === agent.version
      ? decide(agent)
      : Result.fail(
          new Conflict({
            detail: `Agent "${agent.name}" is at version ${agent.version}, not ${version}: read it again.`,
            reason: "version",
            current_version: agent.version
          })
        )

export const update =
  (command: UpdateAgent) =>
  (agent: AgentRow): Decision => {
    const changed = Object.entries(command).flatMap(([field, value]) => (value === undefined ? [] : [field]))
    if (changed.length === 0) return unchanged
    return Result.map(Result.andThen(open(agent), checkCapabilities(command.capabilities ?? [])), () => ({
      event: "AgentUpdated",
      data: { changed },
      description: command.description,
      capabilities: command.capabilities,
      configuration: command.configuration,
      desiredInstances: command.desired_instances,
      labels: command.labels,
      metadata: command.metadata
    }))
  }

export const scale =
  (desiredInstances: number) =>
  (agent: AgentRow): Decision =>
    Result.map(open(agent), () =>
      agent.desired_instances === desiredInstances
        ? undefined
        : {
            event: "AgentScaled",
            data: { desired_instances: desiredInstances, before: agent.desired_instances },
            desiredInstances
          }
    )

export const pause = (agent: AgentRow): Decision =>
  Result.map(living(agent), () => (agent.status === "maintenance" ? undefined : becomes("maintenance")))

export const resume = (agent: AgentRow): Decision =>
  Result.map(living(agent), () => (agent.status === "active" ? undefined : becomes("active")))

const becomes = (status: "active" | "maintenance"): AgentChange => ({
  event: "AgentStatusChanged",
  data: { status },
  status
})

export const drain = (agent: AgentRow): Decision =>
  Result.map(living(agent), () =>
    agent.draining
      ? undefined
      : { event: "AgentStatusChanged", data: { status: agent.status, draining: true }, draining: true }
  )

/** One of the same name is replaced. */
export const addCapability =
  (capability: Capability) =>
  (agent: AgentRow): Decision => {
    const capabilities = [...agent.capabilities.filter(({ name }) => name !== capability.name), capability]
    return Result.map(Result.andThen(open(agent), checkCapabilities(capabilities)), () => ({
      event: "AgentCapabilityAdded",
      data: { name: capability.name },
      capabilities
    }))
  }

export const removeCapability =
  (removed: string) =>
  (agent: AgentRow): Decision => {
    const capabilities = agent.capabilities.filter(({ name }) => name !== removed)
    if (capabilities.length === agent.capabilities.length) {
      return Result.fail(invalidField("name", `agent "${agent.name}" has no capability "${removed}"`))
    }
    return Result.map(open(agent), () => ({
      event: "AgentUpdated",
      data: { changed: ["capabilities"], removed },
      capabilities
    }))
  }

/** Names stand once and within the limit. */
export const checkCapabilities = (capabilities: ReadonlyArray<Capability>): Result.Result<void, InvalidInput> => {
  if (capabilities.length > Limits.capabilitiesMax) {
    return Result.fail(
      invalidField("capabilities", `an agent has at most ${Limits.capabilitiesMax}`, Limits.capabilitiesMax)
    )
  }
  const names = capabilities.map(({ name }) => name)
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index)
  return twice < 0
    ? Result.void
    : Result.fail(invalidField(`capabilities.${twice}.name`, `"${names[twice]}" is named twice`))
}

const unchanged: Decision = Result.succeed(undefined)

const living = (agent: AgentRow): Result.Result<void, Conflict> =>
  agent.status === "terminated" ? refused(agent, "has terminated") : Result.void

const open = (agent: AgentRow): Result.Result<void, Conflict> =>
  agent.draining ? refused(agent, "is being deleted") : living(agent)

const refused = (agent: AgentRow, state: string) =>
  Result.fail(
    new Conflict({
      detail: `Agent "${agent.name}" ${state}.`,
      reason: "state",
      current_version: agent.version
    })
  )
