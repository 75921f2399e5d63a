/** Several nodes on one Postgres and one nats-server, with an agent whose instances are spread over them: what recovery is measured on. */
import { type Client, makeClient } from "../Client.ts"
import { type StartedPlatform, startNode } from "../Platform.ts"
import { type Nats, startNats } from "../servers/Nats.ts"
import { type Postgres, startPostgres } from "../servers/Postgres.ts"
import { query } from "../servers/query.ts"

export interface Cluster {
  readonly postgres: Postgres
  readonly nats: Nats
  readonly nodes: ReadonlyArray<StartedPlatform>
  /** Of the first node. */
  readonly client: Client
  readonly key: string
}

const instances = 8
/** Placement settles, and everything is compiled on every node. */
const settleMillis = 3_000

/** The name of the node that was started as this one, from 0. */
export const nameOf = (node: number) => `bench-${node}`

/** Runs a measurement on a cluster that is started for it, and ends all of it afterwards. */
export const onCluster = async <A>(
  options: {
    readonly nodes: number
    readonly agent: string
    readonly concurrency?: number
    readonly postgres?: Readonly<Record<string, string>>
  },
  run: (cluster: Cluster) => Promise<A>
): Promise<A> => {
  const postgres = await startPostgres(options.postgres)
  const nats = await startNats()
  const nodes: Array<StartedPlatform> = []
  try {
    for (let node = 0; node < options.nodes; node++)
      nodes.push(await startNode({ databaseUrl: postgres.url, natsUrl: nats.url, name: nameOf(node) }))
    const [first] = nodes
    if (first === undefined) throw new Error("no node")
    const client = await makeClient(first)
    try {
      await client.request("POST", "/api/v1/agents", {
        name: options.agent,
        type: "echo",
        desired_instances: instances,
        configuration: { max_concurrent_tasks: options.concurrency ?? 100 }
      })
      await new Promise((resolve) => setTimeout(resolve, settleMillis))
      return await run({ postgres, nats, nodes, client, key: first.key })
    } finally {
      await client.close().catch(() => {})
    }
  } finally {
    for (const node of nodes) await node.stop()
    await nats.stop()
    await postgres.stop()
  }
}

/** What the database says of a task. Times are milliseconds of the machine's clock, which Postgres shares. */
export interface Stored {
  readonly id: string
  readonly status: string
  readonly attempt: number
  readonly instance: number | null
  readonly ended_at: number | null
}

export const storedTasks = ({ postgres }: Cluster): Promise<ReadonlyArray<Stored>> =>
  query<Stored>(
    postgres.url,
    `select id::text, status::text, attempt, instance, (extract(epoch from completed_at) * 1000)::float8 as ended_at from tasks`
  )

/** Waits until all tasks have ended, at most `seconds`. */
export const untilEnded = async ({ postgres }: Cluster, seconds = 60): Promise<void> => {
  for (const end = performance.now() + seconds * 1_000; ; ) {
    const [row] = await query<{ readonly open: number }>(
      postgres.url,
      "select count(*)::int as open from tasks where status in ('pending', 'queued', 'running')"
    )
    if ((row?.open ?? 0) === 0) return
    if (performance.now() > end) throw new Error(`${row?.open} tasks had not ended after ${seconds} s`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}
