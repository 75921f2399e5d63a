/**
 * The use cases of the versions of an agent's definition: look at them, bring one back, give one that is rolled out its
 * share. A change goes the way of every change of an agent: decided on the locked row, committed with its event, told to
 * all nodes.
 */
import { Context, Effect, Layer } from "effect"
import { Behaviours } from "../../actors/Behaviour.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import type { Agent } from "../../protocol/Agent.ts"
import type {
  AgentVersion,
  AgentVersions as AgentVersionList,
  RollBackAgent,
  RollOutAgent
} from "../../protocol/AgentVersion.ts"
import type { AgentRef } from "../../protocol/Ids.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  AgentNotFound,
  AgentVersionNotFound,
  type Conflict,
  type Forbidden,
  type InvalidInput,
  invalidField,
  type Unavailable
} from "../../protocol/Problem.ts"
import { currentTraceparent, traceIdOf } from "../../protocol/TraceContext.ts"
import { AgentRegistry } from "../ledger/AgentRegistry.ts"
import type { AgentRow } from "../ledger/AgentRows.ts"
import { AgentVersionReader, type KeptVersion } from "../ledger/AgentVersionReader.ts"
import * as AgentChanges from "./AgentChanges.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"

type Changes<E = never> = Effect.Effect<
  Agent,
  AgentNotFound | Conflict | InvalidInput | Forbidden | Unavailable | E,
  Principal
>

export class AgentVersions extends Context.Service<
  AgentVersions,
  {
    /** Those that are kept, newest first, each with its share of new tasks and its figures. */
    readonly list: (
      ref: AgentRef
    ) => Effect.Effect<AgentVersionList, AgentNotFound | Forbidden | Unavailable, Principal>
    /** The definition that was in force at a version of the agent. */
    readonly get: (
      ref: AgentRef,
      version: number
    ) => Effect.Effect<AgentVersion, AgentNotFound | AgentVersionNotFound | Forbidden | Unavailable, Principal>
    /**
     * A new version with the definition of an old one; `InvalidInput` when the behaviour does not take its settings any
     * more. A roll-out under way ends by it. `ifVersion` as for other changes.
     */
    readonly rollBack: (
      ref: AgentRef,
      command: RollBackAgent,
      ifVersion: number | undefined
    ) => Changes<AgentVersionNotFound>
    /** Changes the share of a roll-out under way; `Conflict` (`state`) when there is none. */
    readonly rollOut: (ref: AgentRef, command: RollOutAgent, ifVersion: number | undefined) => Changes
  }
>()("datamcp/app/AgentVersions") {
  static readonly layerNoDeps = Layer.effect(
    AgentVersions,
    Effect.gen(function* () {
      const registry = yield* AgentRegistry
      const reader = yield* AgentVersionReader
      const behaviours = yield* Behaviours
      const bus = yield* Bus

      const find = Effect.fnUntraced(function* (principal: Principal["Service"], ref: AgentRef) {
        return (yield* registry.get(principal.namespace, ref)) ?? (yield* notFound(ref))
      })

      const list: AgentVersions["Service"]["list"] = Effect.fn("AgentVersions.list")(function* (ref) {
        const agent = yield* find(yield* authorize("agent:read"), ref)
        const kept = yield* reader.list(agent.id)
        return { data: kept.map((version) => withShare(agent, version)) }
      }, orUnavailable)

      const get: AgentVersions["Service"]["get"] = Effect.fn("AgentVersions.get")(function* (ref, version) {
        const agent = yield* find(yield* authorize("agent:read"), ref)
        return withShare(agent, (yield* reader.at(agent.id, version)) ?? (yield* versionNotFound(ref, version)))
      }, orUnavailable)

      const change = Effect.fnUntraced(function* (
        principal: Principal["Service"],
        ref: AgentRef,
        decide: (agent: AgentRow) => AgentChanges.Decision
      ) {
        const by = { actor: principal.actor, trace: traceIdOf(yield* currentTraceparent) }
        const result = yield* registry.change(principal.namespace, ref, by, decide)
        if (result === undefined) return yield* notFound(ref)
        if (result.changed) yield* bus.notify({ _tag: "AgentChanged", agent: result.agent.id })
        return result.agent
      })

      const rollBack: AgentVersions["Service"]["rollBack"] = Effect.fn("AgentVersions.rollBack")(function* (
        ref,
        command,
        ifVersion
      ) {
        const principal = yield* authorize("agent:update")
        const agent = yield* find(principal, ref)
        // Versions never change, so what is read here holds when the row is locked.
        const kept = (yield* reader.at(agent.id, command.version)) ?? (yield* versionNotFound(ref, command.version))
        const settings = kept.definition.configuration.settings ?? {}
        yield* Effect.mapError(
          behaviours.get(agent.type)?.check(settings) ?? Effect.fail({ message: "this node has no such behaviour" }),
          ({ message }) => invalidField("version", `its settings are refused by today's "${agent.type}": ${message}`)
        )
        const decide = AgentChanges.rollBack(kept.version, kept.definition)
        return yield* change(principal, agent.id, AgentChanges.ifVersion(ifVersion, decide))
      }, orUnavailable)

      const rollOut: AgentVersions["Service"]["rollOut"] = Effect.fn("AgentVersions.rollOut")(function* (
        ref,
        { percent },
        ifVersion
      ) {
        const principal = yield* authorize("agent:update")
        return yield* change(principal, ref, AgentChanges.ifVersion(ifVersion, AgentChanges.rollOut(percent)))
      }, orUnavailable)

      return AgentVersions.of({ list, get, rollBack, rollOut })
    })
  )

  /** On Postgres, behaviours and the bus. */
  static readonly layer = AgentVersions.layerNoDeps.pipe(Layer.provide(AgentVersionReader.layer))
}

const withShare = <Kept extends KeptVersion>(agent: Agent, kept: Kept) => ({
  ...kept,
  share_percent: shareOf(agent, kept.version)
})

/** Of new tasks, while the agent stays as it is. */
const shareOf = ({ definition_version, rollout }: Agent, version: number): number => {
  if (version === definition_version) return rollout?.percent ?? 100
  return version === rollout?.base_version ? 100 - rollout.percent : 0
}

const notFound = (ref: AgentRef) =>
  Effect.fail(new AgentNotFound({ agent: ref, detail: `There is no agent "${ref}" in this namespace.` }))

const versionNotFound = (ref: AgentRef, version: number) =>
  Effect.fail(
    new AgentVersionNotFound({
      agent: ref,
      version,
      detail: `Agent "${ref}" has no version ${version}, or its definition is not kept any more.`
    })
  )
