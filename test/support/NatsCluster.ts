/**
 * Three nats-servers of one cluster with JetStream, in a scope of their own, to kill and start again one by one.
 *
 * They listen on the loopback and take everybody. Up means: the cluster has a leader that sees all three.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Option, Schedule } from "effect"
import { inject } from "vitest"
import { awaitAnswering } from "../../src/embedded/NatsServer.ts"
import { serverAs } from "../../src/embedded/OsUser.ts"
import { onRealClock } from "./realClock.ts"
import { freePort } from "./ServerMakers.ts"
import { type ServerProcess, serverProcess } from "./ServerProcess.ts"
import { ownFolder } from "./Servers.ts"

export interface NatsMember extends ServerProcess {
  readonly name: string
  readonly natsUrl: string
  /** Names of the connections that are open right now. */
  readonly connections: Effect.Effect<ReadonlyArray<string>>
}

export interface NatsCluster {
  readonly members: ReadonlyArray<NatsMember>
  /** All of them, as `NATS_URL` takes it. */
  readonly natsUrl: string
  /** Waits until every member that is up sees a leader, and `count` members. */
  readonly settled: (count: number) => Effect.Effect<void>
}

export const natsCluster = Effect.gen(function* () {
  const machine = inject("machine")
  const places = yield* Effect.forEach(["n1", "n2", "n3"], (name) =>
    Effect.all({ name: Effect.succeed(name), port: freePort, routes: freePort, monitor: freePort })
  )
  const members = yield* Effect.forEach(
    places,
    Effect.fnUntraced(function* ({ monitor, name, port, routes }) {
      const folder = ownFolder(`nats-${name}-`)
      const configFile = join(folder, "nats.conf")
      mkdirSync(folder, { recursive: true })
      const config = {
        ...{ server_name: name, host: "127.0.0.1", port, http: `127.0.0.1:${monitor}` },
        jetstream: { store_dir: join(folder, "jetstream"), max_file_store: 4 * 1024 ** 3 },
        cluster: {
          ...{ name: "test", host: "127.0.0.1", port: routes },
          routes: places.map((place) => `nats://127.0.0.1:${place.routes}`)
        }
      }
      writeFileSync(configFile, JSON.stringify(config))
      const process = yield* serverProcess({
        command: yield* serverAs(Option.none(), [machine.nats, ["-c", configFile]], "SIGTERM"),
        stopSignal: "SIGTERM",
        ready: awaitAnswering(port)
      })
      const monitored = <A>(path: string) =>
        Effect.promise(async () => (await (await fetch(`http://127.0.0.1:${monitor}/${path}`)).json()) as A)
      const connections = Effect.map(monitored<{ connections: ReadonlyArray<{ name?: string }> }>("connz"), (body) =>
        body.connections.map(({ name: of = "" }) => of)
      )
      return { ...process, name, natsUrl: `nats://127.0.0.1:${port}`, connections, monitored }
    }),
    { concurrency: 3 }
  )
  const sees = (member: (typeof members)[number], count: number) =>
    Effect.map(
      member.monitored<{ meta_cluster?: { leader?: string; replicas?: ReadonlyArray<{ offline?: boolean }> } }>("jsz"),
      ({ meta_cluster }) => {
        const live = meta_cluster?.replicas?.filter(({ offline }) => offline !== true).length
        // Only the leader lists the others.
        return meta_cluster?.leader === member.name ? live === count - 1 : (meta_cluster?.leader ?? "") !== ""
      }
    )
  const settled = (count: number) =>
    Effect.forEach(
      members.filter(({ pid }) => pid() !== 0),
      (member) => sees(member, count)
    ).pipe(
      Effect.repeat({ until: (all) => all.every((each) => each), schedule: Schedule.spaced("50 millis") }),
      Effect.timeoutOrElse({
        duration: "20 seconds",
        orElse: () => Effect.die(new Error(`the NATS cluster has no leader that sees ${count}`))
      }),
      Effect.asVoid
    )
  yield* settled(3)
  return { members, natsUrl: members.map(({ natsUrl }) => natsUrl).join(","), settled } satisfies NatsCluster
}).pipe(Effect.provide(NodeServices.layer), Effect.orDie, onRealClock)
