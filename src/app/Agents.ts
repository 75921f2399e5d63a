/**
 * The use cases of agents: define, change, steer and look at them. A change is committed with its event, then told to
 * all nodes; a node that misses the notice finds it by its sweep.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { Behaviours } from "../../actors/Behaviour.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import {
  type Agent,
  type AgentConfiguration,
  type AgentMetrics,
  AgentType,
  type Capability,
  type CreateAgent,
  type ScaleAgent,
  type UpdateAgent
} from "../../protocol/Agent.ts"
import { AgentId, type AgentRef } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Permission, Principal } from "../../protocol/Permission.ts"
import {
  AgentNotFound,
  Conflict,
  type Forbidden,
  type InvalidInput,
  invalidField,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { ListAgents } from "../../protocol/Query.ts"
import { currentTraceparent, traceIdOf } from "../../protocol/TraceContext.ts"
import { AgentRegistry } from "../ledger/AgentRegistry.ts"
import { type AgentRow, isAgentId } from "../ledger/AgentRows.ts"
import { decodeCursor, encodeCursor } from "../ledger/Cursor.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import * as AgentChanges from "./AgentChanges.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"

type Change<A = Agent> = Effect.Effect<A, AgentNotFound | Conflict | InvalidInput | Forbidden | Unavailable, Principal>

export class Agents extends Context.Service<
  Agents,
  {
    /** `Conflict` (`name-taken`) when the namespace has an agent of that name; `InvalidInput` when its settings are wrong. */
    readonly create: (
      command: CreateAgent
    ) => Effect.Effect<Agent, Conflict | InvalidInput | Forbidden | Unavailable, Principal>
    /** By name among those that have not terminated; by id for ever. */
    readonly get: (ref: AgentRef) => Effect.Effect<Agent, AgentNotFound | Forbidden | Unavailable, Principal>
    readonly list: (query: ListAgents) => Effect.Effect<Page<Agent>, InvalidInput | Forbidden | Unavailable, Principal>
    /** `ifVersion`: change only this version of it, else `Conflict` (`version`). */
    readonly update: (ref: AgentRef, command: UpdateAgent, ifVersion: number | undefined) => Change
    readonly scale: (ref: AgentRef, command: ScaleAgent) => Change
    /** Stops its instances from starting tasks; queued work waits. */
    readonly pause: (ref: AgentRef) => Change
    /** Back to work, also out of `error`. */
    readonly resume: (ref: AgentRef) => Change
    /**
     * Drains: takes nothing new, finishes what it has, then is `terminated`. With `force` its open tasks are cancelled, at
     * most 100,000 per call; again cancels further ones.
     */
    readonly remove: (ref: AgentRef, options: { readonly force: boolean }) => Change
    /** One of the same name is replaced. */
    readonly addCapability: (ref: AgentRef, capability: Capability) => Change
    readonly removeCapability: (ref: AgentRef, name: string) => Change
    readonly metrics: (ref: AgentRef) => Effect.Effect<AgentMetrics, AgentNotFound | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Agents") {
  static readonly layer = Layer.effect(
    Agents,
    Effect.gen(function* () {
      const registry = yield* AgentRegistry
      const tasks = yield* TaskReader
      const ledger = yield* Ledger
      const bus = yield* Bus
      const behaviours = yield* Behaviours
      const ids = yield* UuidV7

      const tell = (agent: AgentId) => bus.notify({ _tag: "AgentChanged", agent })

      const changedBy = Effect.fnUntraced(function* (principal: Principal["Service"]) {
        return { actor: principal.actor, trace: traceIdOf(yield* currentTraceparent) }
      })

      const find = Effect.fnUntraced(function* (principal: Principal["Service"], ref: AgentRef) {
        return (yield* registry.get(principal.namespace, ref)) ?? (yield* notFound(ref))
      })

      /** Settings are refused at the door rather than by each task. */
      const checkSettings = Effect.fnUntraced(function* (type: string, configuration: AgentConfiguration) {
        const behaviour = behaviours.get(type)
        if (behaviour === undefined) {
          return yield* invalidField("type", `there is no behaviour "${type}"; known: ${behaviours.types.join(", ")}`)
        }
        if (configuration.isolation !== undefined && behaviour.isolated !== true) {
          return yield* invalidField(
            "configuration.isolation",
            `the behaviour "${type}" runs in the node itself: it has no processes to bound`
          )
        }
        yield* Effect.mapError(behaviour.check(configuration.settings ?? {}), ({ message }) =>
          invalidField("configuration.settings", message)
        )
        return behaviour
      })

      const create: Agents["Service"]["create"] = Effect.fn("Agents.create")(function* (command) {
        const principal = yield* authorize("agent:create")
        if (isAgentId(command.name)) return yield* invalidField("name", "must not look like the id of an agent")
        const configuration = command.configuration ?? {}
        const behaviour = yield* checkSettings(command.type, configuration)
        const capabilities = command.capabilities ?? behaviour.capabilities
        yield* Effect.fromResult(AgentChanges.checkCapabilities(capabilities))
        const created = yield* registry.create(
          {
            id: AgentId.make(ids.next()),
            namespace: principal.namespace,
            name: command.name,
            type: command.type,
            description: command.description,
            capabilities,
            configuration,
            desiredInstances: command.desired_instances ?? 1,
            labels: command.labels ?? {},
            metadata: command.metadata ?? {}
          },
          yield* changedBy(principal)
        )
        if (created === undefined) {
          return yield* new Conflict({
            detail: `This namespace has an agent "${command.name}" already.`,
            reason: "name-taken"
          })
        }
        yield* tell(created.id)
        return created
      }, orUnavailable)

      const get: Agents["Service"]["get"] = Effect.fn("Agents.get")(function* (ref) {
        return yield* find(yield* authorize("agent:read"), ref)
      }, orUnavailable)

      const list: Agents["Service"]["list"] = Effect.fn("Agents.list")(function* (query) {
        const { namespace } = yield* authorize("agent:read")
        const { capability, cursor, limit = Limits.pageEntriesDefault, type } = query
        if (type !== undefined && !isAgentType(type)) return yield* invalidField("type", "is no behaviour's name")
        const scope = { list: "agents", namespace, filters: { type, capability } }
        const before =
          cursor === undefined
            ? undefined
            : AgentId.make(yield* Effect.fromResult(decodeCursor(scope, cursor, idPattern)))
        const found = yield* registry.list(namespace, { type, capability, before }, limit + 1)
        const last = found.length > limit ? found[limit - 1] : undefined
        return { data: found.slice(0, limit), next_cursor: last === undefined ? null : encodeCursor(scope, last.id) }
      }, orUnavailable)

      /** Every change goes this way: permission, decision on the locked row, commit, notice. */
      const change = Effect.fnUntraced(function* (
        ref: AgentRef,
        needed: ReadonlyArray<Permission>,
        decide: (agent: AgentRow) => AgentChanges.Decision
      ) {
        const principal = yield* authorize(...needed)
        const result = yield* registry.change(principal.namespace, ref, yield* changedBy(principal), decide)
        if (result === undefined) return yield* notFound(ref)
        if (result.changed) yield* tell(result.agent.id)
        return result.agent
      })

      const update: Agents["Service"]["update"] = Effect.fn("Agents.update")(function* (ref, command, ifVersion) {
        const principal = yield* authorize("agent:update")
        // An agent's type never changes, so what is checked here holds when the row is locked.
        if (command.configuration !== undefined) {
          yield* checkSettings((yield* find(principal, ref)).type, command.configuration)
        }
        const decide = AgentChanges.ifVersion(ifVersion, AgentChanges.update(command))
        return yield* change(ref, ["agent:update"], decide)
      }, orUnavailable)

      const scale: Agents["Service"]["scale"] = Effect.fn("Agents.scale")(
        (ref, command) => change(ref, ["agent:scale"], AgentChanges.scale(command.desired_instances)),
        orUnavailable
      )
      const pause: Agents["Service"]["pause"] = Effect.fn("Agents.pause")(
        (ref) => change(ref, ["agent:update"], AgentChanges.pause),
        orUnavailable
      )
      const resume: Agents["Service"]["resume"] = Effect.fn("Agents.resume")(
        (ref) => change(ref, ["agent:update"], AgentChanges.resume),
        orUnavailable
      )
      const addCapability: Agents["Service"]["addCapability"] = Effect.fn("Agents.addCapability")(
        (ref, capability) => change(ref, ["agent:update"], AgentChanges.addCapability(capability)),
        orUnavailable
      )
      const removeCapability: Agents["Service"]["removeCapability"] = Effect.fn("Agents.removeCapability")(
        (ref, name) => change(ref, ["agent:update"], AgentChanges.removeCapability(name)),
        orUnavailable
      )

      const remove: Agents["Service"]["remove"] = Effect.fn("Agents.remove")(function* (ref, { force }) {
        const needed: ReadonlyArray<Permission> = force ? ["agent:delete", "task:cancel"] : ["agent:delete"]
        const agent = yield* change(ref, needed, AgentChanges.drain)
        if (!force) return agent
        yield* cancelOpen(yield* authorize(...needed), agent.id)
        return (yield* registry.get(agent.namespace, agent.id)) ?? agent
      }, orUnavailable)

      const cancelOpen = Effect.fnUntraced(function* (principal: Principal["Service"], agent: AgentId) {
        const by = { actor: principal.actor, reason: "its agent was deleted" }
        for (let batch = 0; batch < cancelBatchesMax; batch++) {
          const open = yield* tasks.openOf(principal.namespace, agent, cancelBatchTasks)
          if (open.length === 0) return
          const ended = yield* ledger.cancel(principal.namespace, open, by)
          const running = ended.filter(({ ranOn }) => ranOn === agent).map(({ id }) => id)
          if (running.length > 0) yield* bus.notify({ _tag: "Interrupt", agent, tasks: running })
        }
      })

      const metrics: Agents["Service"]["metrics"] = Effect.fn("Agents.metrics")(function* (ref) {
        const { id } = yield* find(yield* authorize("metrics:read"), ref)
        return yield* registry.metrics(id)
      }, orUnavailable)

      return Agents.of({
        create,
        get,
        list,
        update,
        scale,
        pause,
        resume,
        remove,
        addCapability,
        removeCapability,
        metrics
      })
    })
  )
}

/** Tasks cancelled per transaction, and transactions of one forced removal. */
const cancelBatchTasks = 500
const cancelBatchesMax = 200

const isAgentType = Schema.is(AgentType)

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u

const notFound = (ref: AgentRef) =>
  Effect.fail(new AgentNotFound({ agent: ref, detail: `There is no agent "${ref}" in this namespace.` }))
