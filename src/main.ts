/**
 * The composition root: which parts a node is made of, put together once.
 *
 *   servers         Postgres and NATS: named ones, or our own (`up`)
 *     transport     bus, ledger, stores, placement
 *       actors      directory, dispatcher, scheduler, host, reconciler, timekeeper
 *         outside   webhooks are told of events
 *         cases     tasks, agents, keys, artifacts, schedules, webhooks, hooks, system
 *           doors   HTTP, NATS
 *
 * Every node has all of it but what its roles leave out: doors belong to `api`, what works of its own accord to `worker`.
 *
 * A node that ends hands its instances over first, while its doors are open (`NodeLife.leave`). Then what was built later
 * ends first: doors close, then connections and servers go.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, Option, type Redacted, Ref } from "effect"
import { SchedulerLimits } from "../actors/AcceptQueue.ts"
import { AgentDirectory } from "../actors/AgentDirectory.ts"
import { AgentHost } from "../actors/AgentHost.ts"
import { networkPolicy } from "../actors/behaviours/AddressGuard.ts"
import { Dispatcher } from "../actors/Dispatcher.ts"
import * as GraphRunner from "../actors/GraphRunner.ts"
import { LargeDataLimits } from "../actors/LargeData.ts"
import { LimitDirectory } from "../actors/LimitDirectory.ts"
import * as Reconciler from "../actors/Reconciler.ts"
import { Scheduler } from "../actors/Scheduler.ts"
import { Timekeeper } from "../actors/Timekeeper.ts"
import { UuidV7 } from "../actors/UuidV7.ts"
import manifest from "../package.json" with { type: "json" }
import type { NodeRole } from "../protocol/Node.ts"
import type { ProofPlan, ProofWatch } from "../protocol/Proof.ts"
import type { VerificationScope } from "../protocol/Verification.ts"
import { Agents } from "./app/Agents.ts"
import { AgentVersions } from "./app/AgentVersions.ts"
import { ApiKeys } from "./app/ApiKeys.ts"
import { Artifacts } from "./app/Artifacts.ts"
import { BehaviourCatalogue } from "./app/BehaviourCatalogue.ts"
import { Graphs } from "./app/Graphs.ts"
import { Hooks } from "./app/Hooks.ts"
import { LimitRules } from "./app/LimitRules.ts"
import { Nodes } from "./app/Nodes.ts"
import * as OperationRunner from "./app/OperationRunner.ts"
import * as Owners from "./app/Owners.ts"
import { Retention } from "./app/Retention.ts"
import * as RetentionSweep from "./app/RetentionSweep.ts"
import { Schedules } from "./app/Schedules.ts"
import { Signals } from "./app/Signals.ts"
import { Startup } from "./app/Startup.ts"
import { Supervision } from "./app/Supervision.ts"
import { System } from "./app/System.ts"
import { TaskControl } from "./app/TaskControl.ts"
import { TaskStreams } from "./app/TaskStreams.ts"
import { Tasks } from "./app/Tasks.ts"
import { Webhooks } from "./app/Webhooks.ts"
import * as UserBehaviours from "./behaviours.ts"
import * as ArtifactBucket from "./bus/ArtifactBucket.ts"
import { Nats } from "./bus/Nats.ts"
import * as NatsBus from "./bus/NatsBus.ts"
import { StreamReplicas } from "./bus/Streams.ts"
import { AppConfig, type NatsAccess, requireServers } from "./config.ts"
import { EmbeddedServers } from "./embedded/EmbeddedServers.ts"
import { runningPostgres } from "./embedded/RunningPostgres.ts"
import * as FirstStart from "./FirstStart.ts"
import { HttpLimits } from "./http/HttpLimits.ts"
import * as HttpServer from "./http/HttpServer.ts"
import { AgentRegistry } from "./ledger/AgentRegistry.ts"
import * as AgentStorePostgres from "./ledger/AgentStorePostgres.ts"
import { ApiKeyStore } from "./ledger/ApiKeyStore.ts"
import * as ArtifactFolder from "./ledger/ArtifactFolder.ts"
import { ArtifactPlaces } from "./ledger/ArtifactPlaces.ts"
import * as ArtifactStorePostgres from "./ledger/ArtifactStorePostgres.ts"
import { AttemptReader } from "./ledger/AttemptReader.ts"
import { GraphReader } from "./ledger/GraphReader.ts"
import { HookStore } from "./ledger/HookStore.ts"
import { LimitRegistry } from "./ledger/LimitRegistry.ts"
import * as Migrations from "./ledger/Migrations.ts"
import { NodeStore } from "./ledger/NodeStore.ts"
import { OperationStore } from "./ledger/OperationStore.ts"
import * as Postgres from "./ledger/Postgres.ts"
import * as PostgresLedger from "./ledger/PostgresLedger.ts"
import { RetentionStore } from "./ledger/RetentionStore.ts"
import { ScheduleRegistry } from "./ledger/ScheduleRegistry.ts"
import * as ScheduleStorePostgres from "./ledger/ScheduleStorePostgres.ts"
import { SignalReader } from "./ledger/SignalReader.ts"
import { StreamReader } from "./ledger/StreamReader.ts"
import { SupervisionReader } from "./ledger/SupervisionReader.ts"
import { TaskCounter } from "./ledger/TaskCounter.ts"
import { TaskReader } from "./ledger/TaskReader.ts"
import * as Verifier from "./ledger/Verifier.ts"
import { WebhookDeliveries } from "./ledger/WebhookDeliveries.ts"
import { WebhookStore } from "./ledger/WebhookStore.ts"
import { NatsLink } from "./nats/NatsLink.ts"
import * as NatsService from "./nats/NatsService.ts"
import * as IdleMemory from "./observability/IdleMemory.ts"
import * as Logs from "./observability/Logs.ts"
import * as ProcessMetrics from "./observability/ProcessMetrics.ts"
import * as Tracing from "./observability/Tracing.ts"
import * as ClusterPlacement from "./placement/ClusterPlacement.ts"
import { NodeLife } from "./placement/NodeLife.ts"
import * as Prove from "./prove/prove.ts"
import * as WebhookDeliverer from "./webhooks/WebhookDeliverer.ts"
import { WebhookNetwork } from "./webhooks/WebhookNetwork.ts"
import { WebhookSender } from "./webhooks/WebhookSender.ts"

type Config = AppConfig["Service"]

/** The servers that a node stands on. */
interface Servers {
  readonly databaseUrl: Redacted.Redacted
  readonly nats: NatsAccess
}

const observability = Layer.unwrap(
  Effect.map(AppConfig, (config) =>
    Layer.mergeAll(
      Tracing.layer({
        endpoint: config.otlpEndpoint,
        headers: config.otlpHeaders,
        serviceName: config.serviceName,
        serviceVersion: manifest.version,
        nodeName: config.nodeName,
        sampleRatio: config.sampleRatio
      }),
      ProcessMetrics.layer({ version: manifest.version }),
      IdleMemory.layer,
      Logs.layer({ level: config.logLevel, format: config.logFormat, fields: { node: config.nodeName } })
    )
  )
)

/** What every command that runs here stands on. */
const surroundings = observability.pipe(Layer.provideMerge(AppConfig.layer), Layer.provideMerge(NodeServices.layer))

/** Our own servers, for those that the environment does not name. */
const embedded = Layer.unwrap(
  Effect.map(AppConfig, (config) =>
    EmbeddedServers.layer({
      folder: config.dataFolder,
      databaseUrl: Option.fromUndefinedOr(config.databaseUrl),
      natsUrl: Option.map(Option.fromUndefinedOr(config.nats), ({ servers }) => servers.join(","))
    })
  )
)

/** What a command line may say instead of the environment. */
export interface Given {
  readonly roles?: ReadonlyArray<NodeRole>
}

/** A node on servers of its own where none are named. Runs until it is interrupted, or its servers have given up. */
export const up = (given: Given) =>
  Effect.gen(function* () {
    const config = { ...(yield* AppConfig), ...given }
    const own = yield* EmbeddedServers
    const credentials: NatsAccess["credentials"] = Option.match(own.natsAuth, {
      onNone: () => ({ _tag: "None" }),
      onSome: ({ password, user }) => ({ _tag: "Password", user, password })
    })
    const servers: Servers = {
      databaseUrl: own.databaseUrl,
      nats: config.nats ?? { servers: [own.natsUrl], tls: false, credentials }
    }
    const running = Effect.gen(function* () {
      const server = yield* HttpServer.HttpServer
      yield* FirstStart.onThisMachine({
        folder: config.dataFolder,
        url: server.url,
        nats: Option.map(own.natsClientAuth, (client) => ({ url: own.natsUrl, ...client })),
        warnings: config.warnings
      })
      yield* ready
      return yield* own.gaveUp
    })
    return yield* Effect.provide(Effect.scoped(running), node(config, servers))
  }).pipe(Effect.provide(embedded.pipe(Layer.provideMerge(surroundings))))

/** A node on the servers that the environment names. Runs until it is interrupted. */
export const serve = (given: Given) =>
  Effect.gen(function* () {
    const config = { ...(yield* AppConfig), ...given }
    const servers = yield* namedServers(config)
    const running = Effect.gen(function* () {
      const server = yield* HttpServer.HttpServer
      yield* config.roles.includes("api")
        ? FirstStart.onServers(server.url)
        : Effect.logInfo(`datamcp works; health and metrics on ${server.url}`)
      for (const warning of config.warnings) yield* Effect.logWarning(warning)
      yield* ready
      return yield* Effect.never
    })
    return yield* Effect.provide(Effect.scoped(running), node(config, servers))
  }).pipe(Effect.provide(surroundings))

/** Brings the named database to this version. Returns the migrations that were applied. */
export const migrate = Effect.gen(function* () {
  const config = yield* AppConfig
  const { databaseUrl } = yield* namedServers(config)
  return yield* Effect.provide(Migrations.migrate(), postgres(config, databaseUrl))
}).pipe(Effect.provide(surroundings))

/** Looks at the named database, or that of the platform in `folder`, for promises that do not hold. Changes nothing. */
export const verify = (scope: VerificationScope, folder: string) =>
  Effect.gen(function* () {
    const config = yield* AppConfig
    const url = config.databaseUrl ?? (yield* runningPostgres(folder))
    return yield* Verifier.verify(scope).pipe(Effect.provide(postgres(config, url)), Effect.mapError(Verifier.failed))
  }).pipe(Effect.provide(surroundings))

/** Submits work while nodes and servers of its own are killed, and looks what became of it. Leaves the platform that runs here alone. */
export const prove = (plan: ProofPlan, watch: ProofWatch) => Prove.prove(plan, watch).pipe(Effect.provide(surroundings))

const namedServers = Effect.fnUntraced(function* (config: Config) {
  yield* requireServers(config)
  const { databaseUrl, nats } = config
  return databaseUrl === undefined || nats === undefined ? yield* Effect.never : { databaseUrl, nats }
})

/** Ready from here on; no more from the moment an orderly end begins, which hands everything over before the doors close. */
const ready = Effect.gen(function* () {
  const life = yield* NodeLife
  yield* Effect.acquireRelease(life.ready, () => life.leave)
})

// --- the parts, in named groups

const postgres = (config: Config, url: Redacted.Redacted) =>
  Postgres.layer({
    url,
    connectionsMax: config.databaseConnections,
    applicationName: `datamcp ${config.nodeName}`,
    preparedStatements: config.databasePrepare
  })

const node = (config: Config, { databaseUrl, nats }: Servers) => {
  const isApi = config.roles.includes("api")
  const isWorker = config.roles.includes("worker")
  const named = { version: manifest.version, node: config.nodeName }

  const database = Layer.effectDiscard(Migrations.migrate()).pipe(Layer.provideMerge(postgres(config, databaseUrl)))
  const transport = NatsBus.layer.pipe(Layer.provideMerge(Nats.layer({ ...nats, name: `datamcp ${config.nodeName}` })))
  const { artifactsBucket: bucket, artifactsFolder: folder, natsReplicas: replicas } = config
  const places = Layer.effect(
    ArtifactPlaces,
    Effect.map(Nats, (connected) => [
      ...(bucket === undefined ? [] : [ArtifactBucket.use(connected, { bucket, replicas })]),
      ...(folder === undefined ? [] : [ArtifactFolder.use(folder)])
    ])
  )
  const stores = Layer.mergeAll(
    AgentStorePostgres.layer,
    AgentRegistry.layer,
    ApiKeyStore.layer,
    ArtifactStorePostgres.layer.pipe(Layer.provide(places)),
    ScheduleRegistry.layer,
    ScheduleStorePostgres.layer(config.nodeName),
    Owners.layer.pipe(Layer.provide(ApiKeyStore.layer)),
    LimitRegistry.layer,
    NodeStore.layer,
    TaskReader.layer,
    WebhookStore.layer,
    WebhookDeliveries.layer(config.nodeName),
    HookStore.layer,
    SignalReader.layer,
    StreamReader.layer,
    TaskCounter.layer,
    AttemptReader.layer,
    OperationStore.layer,
    RetentionStore.layer,
    GraphReader.layer,
    PostgresLedger.layer(config.nodeName),
    isWorker
      ? ClusterPlacement.layer(config.nodeName, { advisoryLocks: config.databasePrepare })
      : ClusterPlacement.none(config.nodeName),
    UserBehaviours.layer(config.behaviours, {
      processesMax: config.isolatedProcesses,
      environment: config.behaviourEnvironment
    }),
    Startup.layer
  ).pipe(Layer.provideMerge(UuidV7.layer))
  const timekeeper = Timekeeper.loop.pipe(Layer.provide(Timekeeper.layer))
  const workers = isWorker ? Layer.mergeAll(Reconciler.layer, AgentHost.layer, timekeeper) : AgentHost.none
  // Every node carries on with the graphs that it has changed; what it leaves undone, a worker sweeps.
  const actors = Layer.mergeAll(workers, GraphRunner.layer).pipe(
    Layer.provideMerge(Scheduler.layer),
    Layer.provideMerge(Dispatcher.layer),
    Layer.provideMerge(Layer.mergeAll(AgentDirectory.layer, LimitDirectory.layer))
  )
  const deliverer = isWorker ? WebhookDeliverer.layer : Layer.empty
  const outside = deliverer.pipe(Layer.provideMerge(WebhookSender.layer))
  const cases = Layer.mergeAll(
    Hooks.layer.pipe(Layer.provideMerge(Tasks.layer)),
    Signals.layer,
    TaskStreams.layer,
    TaskControl.layer,
    Retention.layer,
    Graphs.layer,
    Agents.layer,
    AgentVersions.layer,
    BehaviourCatalogue.layer,
    ApiKeys.layer,
    Artifacts.layer,
    LimitRules.layer,
    Nodes.layer,
    Supervision.layer.pipe(Layer.provide(SupervisionReader.layer)),
    Schedules.layer,
    System.layer,
    Webhooks.layer
  ).pipe(Layer.provideMerge(outside))
  const upkeep = isWorker ? Layer.mergeAll(OperationRunner.layer, RetentionSweep.layer) : Layer.empty
  const life = NodeLife.layer({ version: manifest.version, roles: config.roles, notice: config.drainNotice })
  const http = Layer.unwrap(
    Effect.map(Startup, ({ leaving }) =>
      HttpServer.layer({ host: config.host, port: config.port, api: isApi, leaving: () => Ref.getUnsafe(leaving) })
    )
  )
  const natsService = NatsService.layer({
    ...named,
    requestsMax: config.natsRequests,
    heldMax: config.natsWaits,
    drain: config.drain
  }).pipe(
    Layer.provide(
      Layer.effect(
        NatsLink,
        Effect.map(Nats, ({ connection }) => connection)
      )
    )
  )
  const doors = Layer.mergeAll(http, isApi ? natsService : Layer.empty)
  return doors.pipe(
    Layer.provideMerge(Layer.mergeAll(cases, upkeep, life)),
    Layer.provideMerge(actors),
    Layer.provideMerge(stores),
    Layer.provideMerge(transport),
    Layer.provideMerge(database),
    Layer.provideMerge(NodeCrypto.layer),
    Layer.provide(
      Layer.mergeAll(
        Layer.succeed(SchedulerLimits, { ...SchedulerLimits.defaultValue(), mailboxTasks: config.schedulerMailbox }),
        Layer.succeed(HttpLimits, { ...HttpLimits.defaultValue(), drainTime: config.drain }),
        Layer.succeed(WebhookNetwork, networkPolicy({ allow_private: config.webhooksAllowPrivate })),
        Layer.succeed(StreamReplicas, config.natsReplicas),
        Layer.succeed(LargeDataLimits, { bytesMax: config.largeDataBytes })
      )
    )
  )
}
