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
 */
import { Effect, Layer, Option, Random, Schedule } from "effect"
import {
  EntityId,
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
import { ShardLeases } from "./ShardLeases.ts"

/** The same on all nodes of a cluster, for ever: it decides which shard an instance belongs to. */
const shardCount = 128
const group = "default"
const tablePrefix = "datamcp_cluster"

/** Most nodes that are named. */
const nodesMax = 1_000

/** How often held shards are looked at. */
const lookEveryMillis = 100

const make = Effect.fnUntraced(function* (node: NodeName) {
  const sharding = yield* Sharding.Sharding
  const leases = yield* ShardLeases
  const sql = yield* SqlClient.SqlClient
  const shards = Array.from({ length: shardCount }, (_, index) => ShardId.make(group, index + 1))
  const owned = new Set<number>()
  const lostAt = new Map<number, number>()
  const handlers = new Set<{ readonly call: () => void }>()

  const isOwned = (shard: ShardId.ShardId) => {
    if (sharding.hasShardId(shard)) {
      lostAt.delete(shard.id)
      return true
    }
    if (!owned.has(shard.id)) return false
    const since = lostAt.get(shard.id) ?? leases.now()
    lostAt.set(shard.id, since)
    return leases.keeps(shard.id, since)
  }

  const look = () => {
    let changed = false
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

  return Placement.of({
    node,
    nodes: sql<{ readonly node: NodeName }>`
      select distinct split_part(address, ':', 1) as node from ${sql(`${tablePrefix}_runners`)}
      where last_heartbeat > now() - interval '1 minute' limit ${nodesMax}
    `.pipe(
      Effect.map((rows) => rows.map((row) => row.node)),
      Effect.timeoutOrElse({ duration: "1 second", orElse: () => Effect.succeed([]) }),
      Effect.orElseSucceed(() => [])
    ),
    owns: (agentId, index) => owned.has(sharding.getShardId(EntityId.make(`${agentId}/${index}`), group).id),
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
})

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
  return Layer.effect(Placement, make(node)).pipe(
    Layer.provide(Sharding.layer),
    Layer.provide([Runners.layerNoop, RunnerHealth.layerNoop]),
    Layer.provide(MessageStorage.layerNoop),
    Layer.provide(ShardLeases.layer),
    Layer.provide(storage),
    Layer.provide(Layer.unwrap(config(node, advisoryLocks)))
  )
}
