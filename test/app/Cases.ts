/**
 * Every use case on real Postgres, with the real ledger and scheduler, and a bus in memory. `layer` runs no task, so that
 * tests decide what becomes of one; `running` has a host and a reconciler too.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { Effect, Layer, Schema } from "effect"
import { AgentDirectory } from "../../actors/AgentDirectory.ts"
import { AgentHost } from "../../actors/AgentHost.ts"
import { type Behaviour, Behaviours, SettingsInvalid } from "../../actors/Behaviour.ts"
import { approval } from "../../actors/behaviours/Approval.ts"
import { echo } from "../../actors/behaviours/Echo.ts"
import { Dispatcher } from "../../actors/Dispatcher.ts"
import * as GraphRunner from "../../actors/GraphRunner.ts"
import { LimitDirectory } from "../../actors/LimitDirectory.ts"
import * as Reconciler from "../../actors/Reconciler.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { CreateAgent } from "../../protocol/Agent.ts"
import { NodeName } from "../../protocol/Ids.ts"
import { SubmitGraph, SubmitTask } from "../../protocol/Task.ts"
import { Agents } from "../../src/app/Agents.ts"
import { AgentVersions } from "../../src/app/AgentVersions.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import { BehaviourCatalogue } from "../../src/app/BehaviourCatalogue.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { LimitRules } from "../../src/app/LimitRules.ts"
import { Nodes } from "../../src/app/Nodes.ts"
import * as Owners from "../../src/app/Owners.ts"
import { Retention } from "../../src/app/Retention.ts"
import { Schedules } from "../../src/app/Schedules.ts"
import { Signals } from "../../src/app/Signals.ts"
import { Startup } from "../../src/app/Startup.ts"
import { Supervision } from "../../src/app/Supervision.ts"
import { System } from "../../src/app/System.ts"
import { TaskControl } from "../../src/app/TaskControl.ts"
import { TaskStreams } from "../../src/app/TaskStreams.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { AgentRegistry } from "../../src/ledger/AgentRegistry.ts"
import * as AgentStorePostgres from "../../src/ledger/AgentStorePostgres.ts"
import { ApiKeyStore } from "../../src/ledger/ApiKeyStore.ts"
import * as ArtifactStorePostgres from "../../src/ledger/ArtifactStorePostgres.ts"
import { AttemptReader } from "../../src/ledger/AttemptReader.ts"
import { GraphReader } from "../../src/ledger/GraphReader.ts"
import { LimitRegistry } from "../../src/ledger/LimitRegistry.ts"
import { NodeStore } from "../../src/ledger/NodeStore.ts"
import { OperationStore } from "../../src/ledger/OperationStore.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import { RetentionStore } from "../../src/ledger/RetentionStore.ts"
import { ScheduleRegistry } from "../../src/ledger/ScheduleRegistry.ts"
import * as ScheduleStorePostgres from "../../src/ledger/ScheduleStorePostgres.ts"
import { SignalReader } from "../../src/ledger/SignalReader.ts"
import { StreamReader } from "../../src/ledger/StreamReader.ts"
import { SupervisionReader } from "../../src/ledger/SupervisionReader.ts"
import { TaskCounter } from "../../src/ledger/TaskCounter.ts"
import { TaskReader } from "../../src/ledger/TaskReader.ts"
import * as Database from "../ledger/Database.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import * as SoloPlacement from "../support/SoloPlacement.ts"

/** Echo that takes no settings at all. */
const picky: Behaviour = {
  ...echo,
  type: "picky",
  check: (settings) =>
    JSON.stringify(settings) === "{}"
      ? Effect.void
      : Effect.fail(new SettingsInvalid({ message: "this behaviour takes no settings" }))
}

const known = new Map([approval, echo, picky].map((behaviour) => [behaviour.type, behaviour]))

const behaviours = Layer.succeed(
  Behaviours,
  Behaviours.of({ get: (type) => known.get(type), types: [...known.keys()], builtIn: new Set(["approval", "echo"]) })
)

const stores = Layer.mergeAll(
  AgentStorePostgres.layer,
  AgentRegistry.layer,
  ApiKeyStore.layer,
  ArtifactStorePostgres.layer,
  ScheduleRegistry.layer,
  ScheduleStorePostgres.layer(NodeName.make("solo")),
  Owners.layer.pipe(Layer.provide(ApiKeyStore.layer)),
  LimitRegistry.layer,
  NodeStore.layer,
  TaskReader.layer,
  SignalReader.layer,
  StreamReader.layer,
  TaskCounter.layer,
  AttemptReader.layer,
  OperationStore.layer,
  RetentionStore.layer,
  GraphReader.layer,
  PostgresLedger.layer(NodeName.make("solo")),
  SoloPlacement.layer,
  behaviours,
  Startup.layer
).pipe(Layer.provideMerge(MemoryBus.layer))

const actors = Scheduler.layer.pipe(
  Layer.provideMerge(Dispatcher.layer),
  Layer.provideMerge(Layer.mergeAll(AgentDirectory.layer, LimitDirectory.layer))
)

const cases = Layer.mergeAll(
  Tasks.layer,
  Signals.layer,
  TaskStreams.layer,
  TaskControl.layer,
  Retention.layer,
  Graphs.layer,
  Agents.layer,
  AgentVersions.layer,
  ApiKeys.layer,
  Artifacts.layer,
  Schedules.layer,
  LimitRules.layer,
  Nodes.layer,
  Supervision.layer.pipe(Layer.provide(SupervisionReader.layer)),
  BehaviourCatalogue.layer,
  System.layer
)

/** Without host and reconciler, on any database. */
export const on = <A, E, R>(database: Layer.Layer<A, E, R>) =>
  cases.pipe(
    Layer.provideMerge(actors),
    Layer.provideMerge(stores),
    Layer.provideMerge(database),
    Layer.provideMerge(NodeCrypto.layer)
  )

export const layer = on(Database.layer)

export const running = cases.pipe(
  Layer.provideMerge(Layer.mergeAll(AgentHost.layer, Reconciler.layer, GraphRunner.layer)),
  Layer.provideMerge(actors),
  Layer.provideMerge(stores),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(NodeCrypto.layer)
)

export const submitTask = Schema.decodeUnknownSync(SubmitTask)
export const submitGraph = Schema.decodeUnknownSync(SubmitGraph)
const createAgent = Schema.decodeUnknownSync(CreateAgent)

/** Makes an agent of type echo as whoever acts. */
export const echoAgent = (name: string, over: object = {}) =>
  Effect.flatMap(Agents, (agents) => agents.create(createAgent({ name, type: "echo", ...over })))
