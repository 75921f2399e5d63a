/**
 * The lock storage of effect/cluster, watched: what tells an orderly change of hands from a loss.
 *
 *   held --(assigned to another node)--> told --(`handOver`)--> lock released     orderly: instances leave first
 *   held --(Postgres or the lock session is gone)--> kept --> held again          a loss that nobody used
 *                                                     '--(time is over)--> lost
 *   any --(`withdraw`)--> none, until `rejoin`: the others take over what was ours
 *
 * Invariant: a lock that is given up freely is given up only `handOver` after this node said that it no longer owns the
 * shard. A shard that was lost against its will is kept for a while, because a restart or failover of Postgres takes it
 * from all nodes alike and mostly gives it back: without that, each would tear down all that runs. Epochs, not this,
 * keep a second owner's writes apart. After a pause of the whole process nothing is kept: others had time to take over.
 */
import { Clock, Context, Duration, Effect, Layer, Option } from "effect"
import { type ClusterError, Runner, RunnerAddress, RunnerStorage, ShardingConfig } from "effect/cluster"

export const LeaseLimits = Context.Reference<{
  /** Time between the word that a shard is no longer ours and the release of its lock; instances leave in it. */
  readonly handOver: Duration.Duration
  /** How long shards are kept while Postgres does not answer. */
  readonly keepWithoutPostgres: Duration.Duration
  /** How long they are kept once it answers again, to be locked anew. */
  readonly keepAfterRecovery: Duration.Duration
  /** Most time for telling the others that this node withdraws or comes back; they find out by themselves in the end. */
  readonly tellWithin: Duration.Duration
}>("datamcp/placement/LeaseLimits", {
  defaultValue: () => ({
    handOver: Duration.millis(600),
    keepWithoutPostgres: Duration.seconds(60),
    keepAfterRecovery: Duration.seconds(5),
    tellWithin: Duration.seconds(2)
  })
})

export class ShardLeases extends Context.Service<
  ShardLeases,
  {
    /** Whether a shard whose lock is not ours any more still counts as ours. Milliseconds of `now`. */
    readonly keeps: (shard: number, lostAt: number) => boolean
    /** Milliseconds of a clock that never goes back. */
    readonly now: () => number
    /** Called just before the wait of an orderly release. */
    readonly onRelease: (handler: () => void) => void
    /** From now on locks are released without a wait: the instances have left already. */
    readonly closing: () => void
    /** True between `withdraw` and `rejoin`. */
    readonly isWithdrawn: () => boolean
    /**
     * Holds nothing from now on and says so; once `left` has ended, the locks are free and the others know that they may take
     * them.
     */
    readonly withdraw: (left: Effect.Effect<void>) => Effect.Effect<void, ClusterError.PersistenceError>
    /** Takes its share again, which the others hand over in order. */
    readonly rejoin: Effect.Effect<void, ClusterError.PersistenceError>
    /** Called with the nodes that share the shards, each time they were asked for. */
    readonly onNodes: (handler: (nodes: ReadonlyArray<RunnerAddress.RunnerAddress>) => void) => void
  }
>()("datamcp/placement/ShardLeases") {
  /** Provides the storage, watched, beside what was seen. */
  static readonly layer = Layer.effectContext(
    Effect.gen(function* () {
      const storage = yield* RunnerStorage.RunnerStorage
      const config = yield* ShardingConfig.ShardingConfig
      const clock = yield* Clock.Clock
      const limits = yield* LeaseLimits
      const expirationMillis = Duration.toMillis(Duration.fromInputUnsafe(config.shardLockExpiration))
      const keepWithoutMillis = Duration.toMillis(limits.keepWithoutPostgres)
      const keepAfterMillis = Duration.toMillis(limits.keepAfterRecovery)
      const now = () => Number(clock.currentTimeNanosUnsafe() / 1_000_000n)

      /** Shards whose lock went without our releasing it. */
      const taken = new Set<number>()
      let answers = true
      let recoveredAt = 0
      let triedAt = now()
      /** Until a refresh has told what is left. */
      let wasPaused = false
      let released = () => {}
      let isClosing = false
      let isWithdrawn = false
      let seen: (nodes: ReadonlyArray<RunnerAddress.RunnerAddress>) => void = () => {}
      const self = Option.getOrThrow(config.runnerAddress)
      const isSelf = (address: RunnerAddress.RunnerAddress) => address.host === self.host && address.port === self.port

      const refresh: RunnerStorage.RunnerStorage["Service"]["refresh"] = (address, ids) =>
        Effect.suspend(() => {
          const shards = Array.from(ids)
          if (now() - triedAt > expirationMillis) wasPaused = true
          return storage.refresh(address, shards).pipe(
            Effect.tap((confirmed) =>
              Effect.sync(() => {
                if (!answers) recoveredAt = now()
                answers = true
                const paused = wasPaused
                wasPaused = false
                if (paused) return taken.clear()
                const kept = new Set(confirmed.map(({ id }) => id))
                for (const { id } of shards) {
                  if (kept.has(id)) taken.delete(id)
                  else taken.add(id)
                }
              })
            ),
            Effect.onError(() =>
              Effect.sync(() => {
                answers = false
                if (wasPaused) taken.clear()
                else for (const { id } of shards) taken.add(id)
              })
            ),
            Effect.ensuring(
              Effect.sync(() => {
                triedAt = now()
              })
            )
          )
        })

      const acquire: RunnerStorage.RunnerStorage["Service"]["acquire"] = (address, ids) =>
        Effect.suspend(() =>
          isWithdrawn
            ? Effect.succeed([])
            : Effect.tap(storage.acquire(address, ids), (acquired) =>
                Effect.sync(() => {
                  for (const { id } of acquired) taken.delete(id)
                })
              )
        )

      const release: RunnerStorage.RunnerStorage["Service"]["release"] = (address, shard) => {
        const unlocked = storage.release(address, shard)
        if (isClosing || isWithdrawn) return Effect.void
        if (taken.has(shard.id)) return unlocked
        return Effect.andThen(
          Effect.suspend(() => {
            released()
            return Effect.sleep(limits.handOver)
          }),
          unlocked
        )
      }

      // All locks at once and before the others hear that we are gone: who finds some of them taken tries again only a
      // second later. A lock that comes in meanwhile is released by the cluster at its very end.
      const unregister: RunnerStorage.RunnerStorage["Service"]["unregister"] = (address) =>
        Effect.andThen(
          isClosing ? Effect.ignore(storage.releaseAll(address)) : Effect.void,
          storage.unregister(address)
        )

      // Towards the end nobody needs to know who is there, and that nobody is would be reported as a fault.
      const getRunners = Effect.suspend(() =>
        isClosing
          ? Effect.never
          : Effect.map(storage.getRunners, (listed) => {
              const runners = listed.map(
                ([runner, healthy]) => [runner, healthy && !(isWithdrawn && isSelf(runner.address))] as const
              )
              const sharing = runners.flatMap(([{ address }, healthy]) => (healthy ? [address] : []))
              // After an outage nodes come back one by one: who is missing then has not gone.
              if (answers && now() - recoveredAt >= keepAfterMillis) seen(sharing)
              // Where nobody is left, the cluster would make a node take all. So that nobody takes them, they are nobody's.
              return sharing.length === 0 && isWithdrawn ? [...runners, nobody] : runners
            })
      )

      // Whether a node shares is its own word: the cluster's look at health sees no more than its heartbeat.
      const setRunnerHealth = () => Effect.void

      const withdraw = Effect.fnUntraced(function* (left: Effect.Effect<void>) {
        isWithdrawn = true
        released()
        yield* left
        // Locks first: who finds some of them taken tries again only a second later.
        const freed = Effect.andThen(storage.releaseAll(self), storage.setRunnerHealth(self, false))
        yield* Effect.timeoutOption(freed, limits.tellWithin)
      })

      const rejoin = Effect.suspend(() => {
        isWithdrawn = false
        return Effect.asVoid(Effect.timeoutOption(storage.setRunnerHealth(self, true), limits.tellWithin))
      })

      const register: RunnerStorage.RunnerStorage["Service"]["register"] = (runner, healthy) =>
        Effect.suspend(() => storage.register(runner, healthy && !isWithdrawn))

      const leases = ShardLeases.of({
        now,
        keeps: (shard, lostAt) =>
          taken.has(shard) &&
          (answers ? now() - Math.max(lostAt, recoveredAt) < keepAfterMillis : now() - lostAt < keepWithoutMillis),
        onRelease: (handler) => {
          released = handler
        },
        closing: () => {
          isClosing = true
        },
        isWithdrawn: () => isWithdrawn,
        withdraw,
        rejoin,
        onNodes: (handler) => {
          seen = handler
        }
      })
      return Context.make(ShardLeases, leases).pipe(
        Context.add(
          RunnerStorage.RunnerStorage,
          RunnerStorage.RunnerStorage.of({
            ...storage,
            acquire,
            getRunners,
            refresh,
            register,
            release,
            setRunnerHealth,
            unregister
          })
        )
      )
    })
  )
}

const nobody = [
  Runner.make({ address: RunnerAddress.make("nobody", 1), groups: ["default"], weight: 1 }),
  true
] as const
