/**
 * The peers and their settings: one row per way of running each. What is not named is the peer's own default. Where settings
 * are tuned, `why` says who recommends them, so that the peer's authors would call the row fair.
 */
import type { Settings } from "./Adapter.ts"

/** Files of this folder that export an `Adapter`. */
export type AdapterName = "bullmq" | "graphile" | "pgboss" | "restate"

export interface Peer {
  readonly name: string
  readonly adapter: AdapterName
  /** The npm package whose version is told. */
  readonly packageName: string
  readonly variant: string
  readonly server:
    | { readonly kind: "redis"; readonly appendfsync: "everysec" | "always" }
    | { readonly kind: "postgres" }
    | { readonly kind: "restate"; readonly partitions?: number }
  readonly settings: Settings
  /** Environment of its client and worker. */
  readonly environment?: Readonly<Record<string, string>>
  readonly why: string
}

const chunks = { tasks: 1_000, inFlight: 2 }

const bullTuned = {
  client: { defaultJobOptions: { removeOnComplete: true } },
  worker: { concurrency: 100 }
}

const bullDefaults: Settings = { bulk: chunks }
const bullTunedRedis: Settings = { bulk: chunks, ...bullTuned }
const bullWhy = "its guide: raise concurrency for short jobs, addBulk, remove what completed"

export const peers: ReadonlyArray<Peer> = [
  ...(["everysec", "always"] as const).flatMap(
    (appendfsync): ReadonlyArray<Peer> => [
      {
        name: `bullmq-default-${appendfsync}`,
        adapter: "bullmq",
        packageName: "bullmq",
        variant: `default, Redis appendfsync ${appendfsync}`,
        server: { kind: "redis", appendfsync },
        settings: bullDefaults,
        why: "as its quick start has it (concurrency 1, completed jobs kept)"
      },
      {
        name: `bullmq-tuned-${appendfsync}`,
        adapter: "bullmq",
        packageName: "bullmq",
        variant: `tuned, Redis appendfsync ${appendfsync}`,
        server: { kind: "redis", appendfsync },
        settings: bullTunedRedis,
        why: bullWhy
      }
    ]
  ),
  {
    name: "bullmq-postgres",
    adapter: "bullmq",
    packageName: "bullmq",
    variant: "tuned, on its Postgres backend",
    server: { kind: "postgres" },
    settings: {
      bulk: chunks,
      client: { ...bullTuned.client, pool: 16 },
      worker: { concurrency: 32, pool: 32 }
    },
    why: `${bullWhy}; its Postgres page measures concurrency 8 to 32 and asks for a pool as large`
  },
  {
    name: "graphile-default",
    adapter: "graphile",
    packageName: "graphile-worker",
    variant: "default",
    server: { kind: "postgres" },
    settings: { bulk: chunks },
    environment: { NO_LOG_SUCCESS: "1" },
    why: "as its quick start has it (one job at a time)"
  },
  {
    name: "graphile-tuned",
    adapter: "graphile",
    packageName: "graphile-worker",
    variant: "tuned",
    server: { kind: "postgres" },
    settings: {
      bulk: chunks,
      worker: {
        concurrentJobs: 24,
        maxPoolSize: 25,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0
      }
    },
    environment: { NO_LOG_SUCCESS: "1" },
    why: "the settings of its page on performance"
  },
  {
    name: "pgboss-tuned",
    adapter: "pgboss",
    packageName: "pg-boss",
    variant: "tuned",
    server: { kind: "postgres" },
    settings: {
      bulk: chunks,
      client: { queue: { notify: true } },
      worker: {
        boss: { useListenNotify: true },
        batchSize: 250,
        burstWhenBatchFull: true,
        localConcurrency: 2,
        pollingIntervalSeconds: 0.5,
        notifyPollingIntervalSeconds: 0.5
      }
    },
    why: "its options for throughput and wake-up; its default takes one job every two seconds"
  },
  {
    name: "restate",
    adapter: "restate",
    packageName: "@restatedev/restate-server",
    variant: "default",
    server: { kind: "restate" },
    settings: { bulk: { tasks: 1, inFlight: 64 } },
    environment: { NODE_ENV: "production", RESTATE_LOGGING: "ERROR" },
    why: "as its server starts by itself; the SDK without its development logs"
  },
  {
    name: "restate-2-partitions",
    adapter: "restate",
    packageName: "@restatedev/restate-server",
    variant: "2 partitions",
    server: { kind: "restate", partitions: 2 },
    settings: { bulk: { tasks: 1, inFlight: 64 } },
    environment: { NODE_ENV: "production", RESTATE_LOGGING: "ERROR" },
    why: "a partition per core: 24, its default, are made for larger machines"
  }
]
