/**
 * This node's view of all agents, in memory: what the scheduler routes by and the host activates from.
 *
 * It is filled before the node is ready, changed by notices, and swept every few seconds for what a lost notice left
 * out. It may be a moment behind: a name it does not know is looked up in the store before it is refused.
 */
import { Context, Duration, Effect, Layer, Option, Schedule, Schema, type Scope } from "effect"
import { AgentId, type AgentRef, type Namespace } from "../protocol/Ids.ts"
import { type AgentRecord, AgentStore, type AgentStoreUnavailable } from "./ports/AgentStore.ts"
import { Bus } from "./ports/Bus.ts"
import * as Routing from "./Routing.ts"

const decodeAgentId = Schema.decodeUnknownOption(AgentId)

export const DirectoryLimits = Context.Reference<{
  /** Time between sweeps for changes that no notice told of. */
  readonly sweepEvery: Duration.Duration
  /** Agents read per query. */
  readonly pageEntries: number
}>("datamcp/actors/DirectoryLimits", {
  defaultValue: () => ({ sweepEvery: Duration.seconds(3), pageEntries: 1_000 })
})

export class AgentDirectory extends Context.Service<
  AgentDirectory,
  {
    /** From memory; undefined when this node has not heard of it. */
    readonly byId: (id: AgentId) => AgentRecord | undefined
    /** By id or name within a namespace: from memory, then from the store. */
    readonly find: (
      namespace: Namespace,
      ref: AgentRef
    ) => Effect.Effect<AgentRecord | undefined, AgentStoreUnavailable>
    /**
     * An agent for a type, in turn among those that can do it; from memory, then from the store. Where the one in turn does
     * not take the payload one that does, if there is any among the first few.
     */
    readonly forType: (
      namespace: Namespace,
      type: string,
      takes?: (agent: AgentRecord) => boolean
    ) => Effect.Effect<AgentRecord | undefined, AgentStoreUnavailable>
    /** Calls back after an agent was added or changed, while the scope is open. */
    readonly onChange: (handler: (agent: AgentRecord) => void) => Effect.Effect<void, never, Scope.Scope>
    readonly size: () => number
  }
>()("datamcp/actors/AgentDirectory") {
  static readonly layer = Layer.effect(
    AgentDirectory,
    Effect.gen(function* () {
      const store = yield* AgentStore
      const bus = yield* Bus
      const limits = yield* DirectoryLimits
      const agents = new Map<AgentId, AgentRecord>()
      const names = new Map<string, AgentId>()
      const byType = new Map<string, Set<AgentId>>()
      const handlers = new Set<(agent: AgentRecord) => void>()
      let turn = 0

      const nameKey = (namespace: string, name: string) => `${namespace}/${name}`
      const typeKeys = (agent: AgentRecord) =>
        agent.capabilities.map((capability) => `${agent.namespace}/${Routing.typeName(capability.name)}`)

      const forget = (agent: AgentRecord) => {
        agents.delete(agent.id)
        if (names.get(nameKey(agent.namespace, agent.name)) === agent.id)
          names.delete(nameKey(agent.namespace, agent.name))
        for (const key of typeKeys(agent)) byType.get(key)?.delete(agent.id)
      }

      /** Takes over a record unless a newer version is known. */
      const learn = (agent: AgentRecord) => {
        const known = agents.get(agent.id)
        if (known !== undefined && known.version >= agent.version) return
        if (known !== undefined) forget(known)
        if (agent.status !== "terminated") {
          agents.set(agent.id, agent)
          names.set(nameKey(agent.namespace, agent.name), agent.id)
          for (const key of typeKeys(agent)) {
            const able = byType.get(key)
            if (able === undefined) byType.set(key, new Set([agent.id]))
            else able.add(agent.id)
          }
        }
        for (const handler of handlers) handler(agent)
      }

      const fill = Effect.gen(function* () {
        let after: AgentId | undefined
        while (true) {
          const page = yield* store.page(after, limits.pageEntries)
          for (const agent of page) learn(agent)
          after = page[page.length - 1]?.id
          if (page.length < limits.pageEntries) return
        }
      })

      let seen: string | undefined
      const sweep = Effect.gen(function* () {
        const changes = yield* store.changedSince(seen, limits.pageEntries)
        for (const agent of changes.agents) learn(agent)
        seen = changes.now
      })

      const reread = (id: AgentId) =>
        Effect.flatMap(store.byId(id), (agent) => Effect.sync(() => agent !== undefined && learn(agent)))

      yield* sweep
      yield* fill
      const run = Effect.runForkWith(yield* Effect.context<never>())
      yield* bus.onNotice((notice) => {
        if (notice._tag !== "AgentChanged") return
        run(Effect.catch(reread(notice.agent), () => Effect.logDebug("an agent's change is left to the sweep")))
      })
      yield* sweep.pipe(
        Effect.catch((error) => Effect.logDebug("agents could not be swept", error.message)),
        Effect.schedule(Schedule.spaced(limits.sweepEvery)),
        Effect.forkScoped
      )

      const find = (namespace: Namespace, ref: AgentRef) =>
        Effect.suspend(() => {
          const id = names.get(nameKey(namespace, ref)) ?? Option.getOrUndefined(decodeAgentId(ref))
          const known = id === undefined ? undefined : agents.get(id)
          if (known !== undefined && known.namespace === namespace) return Effect.succeed(known)
          return Effect.tap(store.find(namespace, ref), (stored) =>
            Effect.sync(() => stored !== undefined && learn(stored))
          )
        })

      const forType = Effect.fnUntraced(function* (
        namespace: Namespace,
        type: string,
        takes: (agent: AgentRecord) => boolean = () => true
      ) {
        const ids = byType.get(`${namespace}/${Routing.typeName(type)}`)
        const able: Array<AgentRecord> = []
        for (const id of ids ?? []) {
          const agent = agents.get(id)
          if (agent !== undefined && Routing.canDo(agent, type)) able.push(agent)
        }
        const known = Routing.chooseTaking(able, turn++, takes)
        // Nor is a payload refused by those that are known here before the store was asked for others.
        if (known !== undefined && takes(known)) return known
        const stored = (yield* store.withCapability(namespace, Routing.typeName(type))).filter((agent) =>
          Routing.canDo(agent, type)
        )
        for (const agent of stored) learn(agent)
        return Routing.chooseTaking(stored, turn, takes) ?? known
      })

      return AgentDirectory.of({
        byId: (id) => agents.get(id),
        find,
        forType,
        onChange: (handler) =>
          Effect.asVoid(
            Effect.acquireRelease(
              Effect.sync(() => handlers.add(handler)),
              () => Effect.sync(() => handlers.delete(handler))
            )
          ),
        size: () => agents.size
      })
    })
  )
}
