/**
 * Placement by effect/cluster: nodes share shards through Postgres alone. No node listens to another and none needs an
 * address of another: what is asked of the cluster is who holds which shard, never to carry a message.
 */
import { Effect, Layer, Option, Schedule } from "effect"
import {
  EntityId,
  MessageStorage,
  RunnerAddress,
  RunnerHealth,
  Runners,
  Sharding,
  ShardingConfig,
  SqlRunnerStorage
} from "effect/cluster"
import { Placement } from "../../actors/ports/Placement.ts"
import type { NodeName } from "../../protocol/Ids.ts"

const make = (node: NodeName) =>
  Effect.gen(function* () {
    const sharding = yield* Sharding.Sharding
    const handlers = new Set<() => void>()
    const shards = Array.from({ length: shardsPerGroup }, (_, index) => index)
    let held = ""
    const look = Effect.sync(() => {
      const now = shards.filter((shard) => sharding.hasShardId(sharding.getShardId(EntityId.make(`probe/${shard}`), "default"))).join()
      if (now === held) return
      held = now
      for (const handler of handlers) handler()
    })
    yield* look.pipe(Effect.schedule(Schedule.spaced("100 millis")), Effect.forkScoped)

    return Placement.of({
      node,
      owns: (agentId, index) => sharding.hasShardId(sharding.getShardId(EntityId.make(`${agentId}/${index}`), "default")),
      onChange: (handler) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            handlers.add(handler)
          }),
          () => Effect.sync(() => handlers.delete(handler))
        ),
      singleton: (name, loop) => sharding.registerSingleton(name, loop)
    })
  })

const shardsPerGroup = 128

export const layer = (node: NodeName) =>
  Layer.effect(Placement, make(node)).pipe(
    Layer.provide(Sharding.layer),
    Layer.provide(Runners.layerNoop),
    Layer.provide(MessageStorage.layerNoop),
    Layer.provide([Layer.orDie(SqlRunnerStorage.layerWith({ prefix: "datamcp_cluster" })), RunnerHealth.layerNoop]),
    Layer.provide(
      ShardingConfig.layer({
        runnerAddress: Option.some(RunnerAddress.make(node, 1)),
        shardsPerGroup,
        shardLockExpiration: "3 seconds",
        shardLockRefreshInterval: "1 second",
        refreshAssignmentsInterval: "1 second",
        runnerHealthCheckInterval: "2 seconds"
      })
    )
  )
