/**
 * Placement by effect/cluster: nodes share shards through Postgres alone. No node listens to another and none needs an
 * address of another: the cluster is asked who holds which shard, never to carry a message. A hint: epochs decide.
 *
 * A node lives by a heartbeat row each second and holds a shard by a session's advisory lock. With a killed process the
 * lock ends at once and the heartbeat after 3 s; the lock of a frozen one is ended by Postgres, also after 3 s. Where a
 * pooler shares sessions, rows that expire take the place of advisory locks (`advisoryLocks: false`): slower to pass
 * on, and two processes that wrongly share a name would share them; so they are not the default.
 *
 * Two nodes, 128 shards, until the survivor owns all (3 runs each on a busy 2-core machine; advisory / rows):
 *   kill -9 3.0-3.1 s / 3.0-3.2 s    SIGTERM 0.1-0.4 s / 0.1-0.3 s    SIGSTOP 3.0-4.1 s / 3.0-3.2 s
 *   a frozen node knows 0.1 s after it wakes; a node that joins owns its share 1.0 s / 1.9 s after the other let it go
 * Cost at rest, per node: 6 small statements a second and one connection.
 *
 * Which shard an instance belongs to stands in `InstanceShards.ts`. Where that changes with the nodes that there are, and
 * no lock changes hands, the new node waits `settleMillis`, in which the old one has let it go.
 */
import { Context, Effect, Layer, Option, Random, Schedule } from "effect"
import {
  MessageStorage,
  RunnerAddress,
  RunnerHealth,
  Runners,
  ShardId,
  Sharding,
  ShardingConfig,
  SqlRunnerStorage
} from "effect/cluster"
import { SqlClient } from "effect/sql"
import { Placement } from "../../actors/ports/Placement.ts"
import type { NodeName } from "../../protocol/Ids.ts"
import { shardCount, type View, viewOf } from "./InstanceShards.ts"
import { ShardLeases } from "./ShardLeases.ts"

const group = "default"
const tablePrefix = "datamcp_cluster"

/** Most nodes that are named. */
const nodesMax = 1_000

/** How often held shards are looked at. */
const lookEveryMillis = 100

/** Above the time in which every node has heard of a change (250 ms) and its instances have left (500 ms). */
const settleMillis = 1_000

/** This node's part in the cluster, which it may give up and take again while it runs. */
export class Membership extends Context.Service<
  Membership,
  {
    /** Shards that it holds. */
    readonly shards: () => number
    /**
     * Gives everything up: instances are told, and when `left` has ended the other nodes take over at once. While Postgres is
     * away they take over when the locks end.
     */
    readonly withdraw: (left: Effect.Effect<void>) => Effect.Effect<void>
    /** Takes its share again. */
    readonly rejoin: Effect.Effect<void>
  }
>()("datamcp/placement/Membership") {}

const make = Effect.fnUntraced(function* (node: NodeName) {
  const sharding = yield* Sharding.Sharding
  const self = String(Option.getOrUndefined((yield* ShardingConfig.ShardingConfig).runnerAddress))
  const leases = yield* ShardLeases
  const sql = yield* SqlClient.SqlClient
  const shards = Array.from({ length: shardCount }, (_, index) => ShardId.make(group, index + 1))
  const owned = new Set<number>()
  const lostAt = new Map<number, number>()
  const handlers = new Set<{ readonly call: () => void }>()

  let view: View = viewOf([])
  let nodesText = ""
  /** What was before, for as long as it may still be acted on; without a view when this node has just come. */
  let before: { readonly view: View | undefined; readonly since: number } | undefined

  const isOwned = (shard: ShardId.ShardId) => {
    if (leases.isWithdrawn()) return false
    if (sharding.hasShardId(shard)) {
      lostAt.delete(shard.id)
      return true
    }
    if (!owned.has(shard.id)) return false
    const since = lostAt.get(shard.id) ?? leases.now()
    lostAt.set(shard.id, since)
    return leases.keeps(shard.id, since)
  }

  leases.onNodes((nodes) => {
    const text = nodes.map(String).sort().join()
    if (text === nodesText) return
    before = { view: nodesText === "" ? undefined : view, since: leases.now() }
    nodesText = text
    view = viewOf(nodes)
    if (owned.size > 0) for (const { call } of handlers) call()
  })

  const owns: Placement["Service"]["owns"] = (agentId, index) => {
    const shard = view.shardOf(agentId, index)
    if (!owned.has(shard)) return false
    if (index === 0 || before === undefined || view.nodes.size < 2 || before.view?.shardOf(agentId, index) === shard) {
      return true
    }
    // Nobody lets it go who is gone.
    const last = before.view?.nodeOf(agentId, index)
    return last !== undefined && (last === self || !view.nodes.has(last))
  }

  const look = () => {
    let changed = false
    if (before !== undefined && leases.now() - before.since > settleMillis) {
      before = undefined
      changed = owned.size > 0
    }
    for (const shard of shards) {
      const owns = isOwned(shard)
      if (owns === owned.has(shard.id)) continue
      changed = true
      if (owns) owned.add(shard.id)
      else {
        owned.delete(shard.id)
        lostAt.delete(shard.id)
      }
    }
    if (changed) for (const { call } of handlers) call()
  }
  leases.onRelease(look)
  yield* Effect.forkScoped(Effect.repeat(Effect.sync(look), Schedule.spaced(lookEveryMillis)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      owned.clear()
      leases.closing()
    })
  )

  const membership = Membership.of({
    shards: () => owned.size,
    withdraw: (left) => told(leases.withdraw(left)),
    rejoin: told(leases.rejoin)
  })
  const placement = Placement.of({
    node,
    takesWork: () => !leases.isWithdrawn(),
    owns,
    nodes: members(sql),
    onChange: (handler) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            const entry = { call: handler }
            handlers.add(entry)
            return entry
          }),
          (entry) => Effect.sync(() => handlers.delete(entry))
        )
      ),
    singleton: (name, loop) =>
      sharding.registerSingleton(
        name,
        loop.pipe(
          Effect.catchDefect((defect) =>
            Effect.andThen(Effect.logError(`${name} crashed and is started again`, defect), Effect.sleep("1 second"))
          ),
          Effect.forever
        )
      )
  })
  return Context.make(Placement, placement).pipe(Context.add(Membership, membership))
})

/** Nodes that host something, by their heartbeats within the last minute; none while Postgres cannot say. */
const members = (sql: SqlClient.SqlClient): Placement["Service"]["nodes"] =>
  sql<{ readonly node: NodeName }>`
    select distinct split_part(address, ':', 1) as node from ${sql(`${tablePrefix}_runners`)}
    where last_heartbeat > now() - interval '1 minute' limit ${nodesMax}
  `.pipe(
    Effect.map((rows) => rows.map((row) => row.node)),
    Effect.timeoutOrElse({ duration: "1 second", orElse: () => Effect.succeed([]) }),
    Effect.orElseSucceed(() => [])
  )

const told = <E>(effect: Effect.Effect<void, E>) =>
  Effect.catchCause(effect, (cause) => Effect.logDebug("the other nodes could not be told", cause))

/**
 * What an earlier process by this node's name has left after a kill: its heartbeat, and its locks where they are rows.
 * Without it the others, and this node itself, would wait until they expire.
 */
const forgetPredecessors = Effect.fnUntraced(function* (node: NodeName) {
  const sql = yield* SqlClient.SqlClient
  for (const table of [sql(`${tablePrefix}_runners`), sql(`${tablePrefix}_locks`)]) {
    yield* Effect.ignore(sql`delete from ${table} where split_part(address, ':', 1) = ${node}`)
  }
})

const config = Effect.fnUntraced(function* (node: NodeName, advisoryLocks: boolean) {
  // Nobody connects to it: the port tells this process from earlier ones by the same name.
  const port = yield* Random.nextIntBetween(1, 2 ** 31 - 1)
  return ShardingConfig.layer({
    runnerAddress: Option.some(RunnerAddress.make(node, port)),
    shardsPerGroup: shardCount,
    availableShardGroups: [group],
    assignedShardGroups: [group],
    shardLockDisableAdvisory: !advisoryLocks,
    shardLockExpiration: "3 seconds",
    shardLockRefreshInterval: "1 second",
    refreshAssignmentsInterval: "250 millis",
    // No messages are carried; it also paces the loop that takes and gives back locks.
    entityMessagePollInterval: "1 second"
  })
})

export interface PlacementOptions {
  /** False behind a pooler that gives each transaction another session (PgBouncer in transaction mode). */
  readonly advisoryLocks?: boolean
}

/** Takes part in the cluster while its scope is open. Makes its tables; keeps one connection of the pool to itself. */
export const layer = (node: NodeName, { advisoryLocks = true }: PlacementOptions = {}) => {
  const storage = Layer.effectDiscard(forgetPredecessors(node)).pipe(
    Layer.provideMerge(Layer.orDie(SqlRunnerStorage.layerWith({ prefix: tablePrefix })))
  )
  return Layer.effectContext(make(node)).pipe(
    Layer.provide(Sharding.layer),
    Layer.provide([Runners.layerNoop, RunnerHealth.layerNoop]),
    Layer.provide(MessageStorage.layerNoop),
    Layer.provide(ShardLeases.layer),
    Layer.provide(storage),
    Layer.provide(Layer.unwrap(config(node, advisoryLocks)))
  )
}

/** A node that hosts nothing and runs no singleton: it takes no part in the cluster, and only knows who does. */
export const none = (node: NodeName) =>
  Layer.mergeAll(
    Layer.effect(
      Placement,
      Effect.map(SqlClient.SqlClient, (sql) =>
        Placement.of({
          node,
          takesWork: () => false,
          owns: () => false,
          nodes: members(sql),
          onChange: () => Effect.void,
          singleton: () => Effect.void
        })
      )
    ),
    Layer.succeed(Membership, Membership.of({ shards: () => 0, withdraw: (left) => left, rejoin: Effect.void }))
  )
