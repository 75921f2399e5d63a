/** A NATS cluster whose servers die one by one (F07): streams on three of them, and whole nodes that go on. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import { Cause, Effect, Exit, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Nats } from "../../src/bus/Nats.ts"
import * as NatsBus from "../../src/bus/NatsBus.ts"
import { StreamReplicas } from "../../src/bus/Streams.ts"
import { type ServedPlatform, servePlatform } from "../nats/ServedPlatform.ts"
import { type NatsCluster, natsCluster } from "../support/NatsCluster.ts"
import { ownNats } from "../support/Servers.ts"
import { asking, submitting, untilTrue } from "./Clients.ts"

/** A bus that is told how many replicas its streams have, made and ended again. */
const startWith = (natsUrl: string, replicas: 1 | 3 | 5 | undefined) =>
  Layer.build(
    NatsBus.layer.pipe(
      Layer.provide(
        Nats.layer({
          ...{ servers: natsUrl.split(","), tls: false, name: "test" },
          credentials: { _tag: "None" }
        })
      ),
      Layer.provide(Layer.succeed(StreamReplicas, replicas))
    )
  ).pipe(Effect.scoped)

/** What the cluster says of a stream: on how many servers it is, where its leader is, and who lags. */
const streamOf = (natsUrl: string, name: string) =>
  Effect.promise(async () => {
    const connection = await connect({ servers: natsUrl.split(","), name: "stranger" })
    try {
      const { cluster, config } = await (await jetstreamManager(connection)).streams.info(name)
      const current = cluster?.replicas?.filter(({ current: is, offline }) => is && offline !== true).length ?? 0
      return { replicas: config.num_replicas, leader: cluster?.leader ?? "", current }
    } catch {
      return { replicas: 0, leader: "", current: 0 }
    } finally {
      await connection.close()
    }
  })

const inSync = ({ natsUrl }: NatsCluster) =>
  untilTrue(
    "TASKS on three servers",
    () => Effect.map(streamOf(natsUrl, "TASKS"), ({ current, leader }) => leader !== "" && current === 2),
    20
  )

/** How many attempts each node has begun. */
const startsBy = ({ databaseUrl }: ServedPlatform, limit: number) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql<{ actor: string; count: number }>`
      select actor, count(*)::int as count from events where type = 'TaskStarted' group by 1 limit ${limit}`
  ).pipe(
    Effect.provide(PgClient.layer({ url: databaseUrl, maxConnections: 1 })),
    Effect.map((rows) => Object.fromEntries(rows.map(({ actor, count }) => [actor, count])))
  )

describe("streams of a NATS cluster", () => {
  it.live(
    "are kept on as many servers as are wanted, and tasks go on when servers die, even most of them",
    () =>
      Effect.gen(function* () {
        const cluster = yield* natsCluster
        yield* startWith(cluster.natsUrl, undefined)
        expect(yield* streamOf(cluster.natsUrl, "TASKS")).toMatchObject({ replicas: 1 })
        const environment = { NATS_URL: cluster.natsUrl, DATAMCP_NATS_REPLICAS: "3" }
        const node = yield* servePlatform({ ...environment, DATAMCP_NODE_NAME: "first" })
        yield* servePlatform({ ...environment, DATAMCP_NODE_NAME: "second" }, node)
        yield* inSync(cluster)
        expect(yield* streamOf(cluster.natsUrl, "EVENTS")).toMatchObject({ replicas: 3 })

        const { get, post } = asking(node)
        yield* post("/agents", { name: "worker", type: "echo", desired_instances: 6 })
        const clients = yield* submitting(node, { writers: 2, task: { agent: "worker", payload: { sleep_ms: 10 } } })
        yield* clients.further(50, 20)

        /** Kills a server, and measures how long the platform takes to end tasks that are accepted afterwards. */
        const kill = Effect.fnUntraced(function* (name: string) {
          const member = cluster.members.find((each) => each.name === name)
          const begun = performance.now()
          yield* member?.kill9 ?? Effect.die(new Error(`no server ${name}`))
          const task = yield* post("/tasks", { agent: "worker" })
          expect(task.status).toBe(202)
          const done = yield* get(`/tasks/${task.json["id"]}?wait=30s`)
          expect(done.json).toMatchObject({ status: "completed" })
          return Math.round(performance.now() - begun)
        })
        const restart = Effect.fnUntraced(function* (name: string) {
          yield* cluster.members.find((each) => each.name === name)?.start ?? Effect.void
          yield* cluster.settled(3)
          yield* inSync(cluster)
        })
        const connectedTo = Effect.fnUntraced(function* () {
          for (const member of cluster.members) {
            if ((yield* member.connections).includes("datamcp first")) return member.name
          }
          return ""
        })

        const leader = (yield* streamOf(cluster.natsUrl, "TASKS")).leader
        const leaderMillis = yield* kill(leader)
        yield* clients.further(50, 20)
        yield* restart(leader)
        const ours = yield* connectedTo()
        const oursMillis = yield* kill(ours)
        yield* clients.further(50, 20)
        const [next = ""] = cluster.members.filter(({ pid }) => pid() !== 0).map(({ name }) => name)
        const mostMillis = yield* kill(next)
        yield* clients.further(50, 20)
        yield* clients.stop
        expect([...clients.refusals]).toEqual([])
        expect(clients.longestPauseMillis()).toBeLessThan(2_000)
        for (const { id } of clients.promised) {
          const task = yield* get(`/tasks/${id}?wait=30s`)
          expect(task.json).toMatchObject({ status: "completed", attempt: 1 })
        }
        // What the first node accepted reached the second one over NATS.
        const starts = yield* startsBy(node, clients.promised.length)
        expect(Object.keys(starts).toSorted()).toEqual(["node:first", "node:second"])
        console.info(
          `NATS: a task ended ${leaderMillis} ms after the leader's death, ${oursMillis} ms after our server's, ${mostMillis} ms after ` +
            `that of a second one; longest pause of acceptances ${Math.round(clients.longestPauseMillis())} ms; ${JSON.stringify(starts)}`
        )
      }).pipe(Effect.scoped),
    90_000
  )

  it.live("that are wanted on more servers than there are stop the start, and the setting is named", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const exit = yield* Effect.exit(startWith(nats.natsUrl, 3))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("DATAMCP_NATS_REPLICAS is 3")
    }).pipe(Effect.scoped)
  )
})
