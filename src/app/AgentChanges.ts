/**
 * Decides, as pure functions of the stored agent, what a command makes of it: the change and its event, nothing when it
 * is so already, or the refusal.
 *
 *   active <--> maintenance        by pause and resume
 *   active, maintenance --> error  by quarantine; error --> active by resume, --> maintenance by pause
 *   any + draining --> terminated  when its last open task has ended; final
 *
 * While a new configuration is rolled out the definition is closed but for that: finished, taken back, or rolled back.
 * A draining agent may still be paused and resumed, which decides when it gets done; its definition is closed.
 */
import { Result } from "effect"
import { invalid } from "../../actors/Admission.ts"
import * as PayloadSchema from "../../actors/PayloadSchema.ts"
import type { Capability, UpdateAgent } from "../../protocol/Agent.ts"
import type { AgentDefinition } from "../../protocol/AgentVersion.ts"
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
    const { rollout } = command
    const scales = changed.every((field) => field === "desired_instances")
    const may = scales ? open(agent) : Result.andThen(Result.andThen(open(agent), settled(agent)), startsWell(command))
    return Result.map(Result.andThen(may, checkCapabilities(command.capabilities ?? [])), () => ({
      event: "AgentUpdated",
      data: { changed: changed.filter((field) => field !== "rollout"), ...(rollout && { percent: rollout.percent }) },
      rollout: rollout && {
        percent: rollout.percent,
        base: { version: agent.definition_version, configuration: agent.configuration }
      },
      description: command.description,
      capabilities: command.capabilities,
      configuration: command.configuration,
      desiredInstances: command.desired_instances,
      labels: command.labels,
      metadata: command.metadata
    }))
  }

/** What is rolled out is a configuration, alone: everything else of a definition holds for all tasks at once. */
const startsWell = ({ configuration, rollout, ...others }: UpdateAgent): Result.Result<void, InvalidInput> => {
  if (rollout === undefined) return Result.void
  if (configuration === undefined) return Result.fail(invalidField("rollout", "needs a configuration to roll out"))
  const [other] = Object.entries(others).flatMap(([field, value]) => (value === undefined ? [] : [field]))
  return other === undefined
    ? Result.void
    : Result.fail(invalidField(other, "holds for all tasks at once: change it without rollout"))
}

/** Makes a new version with an old definition; nothing when it is the present one. A roll-out under way ends by it. */
export const rollBack =
  (version: number, definition: AgentDefinition) =>
  (agent: AgentRow): Decision =>
    Result.map(open(agent), () =>
      version === agent.definition_version && agent.rollout === null
        ? undefined
        : {
            event: "AgentUpdated",
            data: { changed: Object.keys(definition), restores: version },
            ...definition,
            rollout: null,
            restores: version
          }
    )

/** Changes the share of a roll-out. 100 finishes it; 0 takes it back, by a new version with the configuration before. */
export const rollOut =
  (percent: number) =>
  (agent: AgentRow): Decision =>
    Result.flatMap(open(agent), (): Decision => {
      const { rollout } = agent
      if (rollout === null) return refused(agent, "has no roll-out under way")
      if (percent === rollout.percent) return unchanged
      const { configuration, version } = rollout.base
      return Result.succeed({
        event: "AgentUpdated",
        data: { changed: [percent === 0 ? "configuration" : "rollout"], percent },
        ...(percent === 0
          ? { configuration, rollout: null, restores: version }
          : { rollout: percent === 100 ? null : { ...rollout, percent } })
      })
    })

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
    const may = Result.andThen(open(agent), settled(agent))
    return Result.map(Result.andThen(may, checkCapabilities(capabilities)), () => ({
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
    return Result.map(Result.andThen(open(agent), settled(agent)), () => ({
      event: "AgentUpdated",
      data: { changed: ["capabilities"], removed },
      capabilities
    }))
  }

/** Names stand once and within the limit; payloads can be checked by each schema. */
export const checkCapabilities = (capabilities: ReadonlyArray<Capability>): Result.Result<void, InvalidInput> => {
  if (capabilities.length > Limits.capabilitiesMax) {
    return Result.fail(
      invalidField("capabilities", `an agent has at most ${Limits.capabilitiesMax}`, Limits.capabilitiesMax)
    )
  }
  const names = capabilities.map(({ name }) => name)
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index)
  if (twice >= 0) return Result.fail(invalidField(`capabilities.${twice}.name`, `"${names[twice]}" is named twice`))
  const problems = capabilities.flatMap(({ payload_schema: schema }, index) =>
    schema === undefined ? [] : PayloadSchema.problemsOf(schema, `capabilities.${index}.payload_schema`)
  )
  return problems.length === 0 ? Result.void : Result.fail(invalid(problems))
}

const unchanged: Decision = Result.succeed(undefined)

const living = (agent: AgentRow): Result.Result<void, Conflict> =>
  agent.status === "terminated" ? refused(agent, "has terminated") : Result.void

const open = (agent: AgentRow): Result.Result<void, Conflict> =>
  agent.draining ? refused(agent, "is being deleted") : living(agent)

/** While two definitions share the tasks, there is no third. */
const settled = (agent: AgentRow): Result.Result<void, Conflict> =>
  agent.rollout === null
    ? Result.void
    : refused(agent, `rolls out version ${agent.definition_version}: finish that or take it back first`)

const refused = (agent: AgentRow, state: string) =>
  Result.fail(
    new Conflict({
      detail: `Agent "${agent.name}" ${state}.`,
      reason: "state",
      current_version: agent.version
    })
  )
