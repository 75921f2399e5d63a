/**
 * What tests of actors share: a node's actors on real Postgres and a bus in memory, with short intervals, agents that do
 * what their tasks tell them (`Probe`), and ways to wait for what must come true.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { type Context, Duration, Effect, Layer, References, Result, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { SchedulerLimits } from "../../actors/AcceptQueue.ts"
import { AgentDirectory, DirectoryLimits } from "../../actors/AgentDirectory.ts"
import { AgentHost, HostLimits } from "../../actors/AgentHost.ts"
import { Dispatcher } from "../../actors/Dispatcher.ts"
import { InstanceLimits } from "../../actors/Instance.ts"
import { LimitDirectory } from "../../actors/LimitDirectory.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import * as Reconciler from "../../actors/Reconciler.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { SupervisionStrategy } from "../../protocol/Agent.ts"
import { AgentId, Namespace, NodeName, type TaskId } from "../../protocol/Ids.ts"
import { Principal, permissions } from "../../protocol/Permission.ts"
import { isTerminal, type SubmitTask } from "../../protocol/Task.ts"
import * as AgentStorePostgres from "../../src/ledger/AgentStorePostgres.ts"
import { LimitRegistry } from "../../src/ledger/LimitRegistry.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as Database from "../ledger/Database.ts"
import { rows } from "../ledger/LedgerHarness.ts"
import * as MemoryArtifactStore from "../support/MemoryArtifactStore.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import * as SoloPlacement from "../support/SoloPlacement.ts"
import { type Act, layer as probeLayer } from "./Probe.ts"

export const home = Namespace.make("default")

const me = Principal.of({ actor: "key:test", namespace: home, role: "admin", permissions: new Set(permissions) })

/** Intervals and batches a tenth of the usual ones, so that nothing here waits long; what it shows does not depend on them. */
const quick = Layer.mergeAll(
  Layer.effect(
    SchedulerLimits,
    Effect.map(SchedulerLimits, (limits) => ({ ...limits, commitTasks: 20, mailboxTasks: 5_000 }))
  ),
  Layer.effect(
    InstanceLimits,
    Effect.map(InstanceLimits, (limits) => ({
      ...limits,
      backlogEvery: Duration.millis(200),
      backlogWithin: Duration.millis(600),
      progressEvery: Duration.millis(30),
      checkEvery: Duration.millis(300),
      cleanUpWithin: Duration.millis(100)
    }))
  ),
  Layer.effect(
    HostLimits,
    Effect.map(HostLimits, (limits) => ({
      ...limits,
      handOverGrace: Duration.millis(150),
      heartbeatEvery: Duration.millis(200)
    }))
  ),
  Layer.effect(
    DirectoryLimits,
    Effect.map(DirectoryLimits, (limits) => ({ ...limits, sweepEvery: Duration.millis(300) }))
  ),
  Layer.effect(
    Reconciler.ReconcilerLimits,
    Effect.map(Reconciler.ReconcilerLimits, (limits) => ({
      ...limits,
      dueEvery: Duration.millis(30),
      deadlinesEvery: Duration.millis(50),
      forgottenEvery: Duration.millis(200),
      tidyEvery: Duration.seconds(1),
      orphanAfter: Duration.millis(1_500)
    }))
  )
)

/** What all nodes share: a database, a bus, behaviours. Also what tests look at. */
export const worldOn = <A, E, R>(database: Layer.Layer<A, E, R>) =>
  Layer.mergeAll(database, MemoryBus.layer, NodeCrypto.layer, MemoryArtifactStore.layer, probeLayer).pipe(
    Layer.provideMerge(Layer.succeed(Principal, me)),
    Layer.provideMerge(quick),
    // Warnings of what a test provokes say nothing.
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None"))
  )

export const world = worldOn(Database.layer)

/** A node's actors, on a world; on its own ledger unless another one is given. */
export const node = (name: string, ledger = PostgresLedger.layer(NodeName.make(name))) =>
  Reconciler.layer.pipe(
    Layer.provideMerge(AgentHost.layer),
    Layer.provideMerge(Scheduler.layer),
    Layer.provideMerge(Dispatcher.layer),
    Layer.provideMerge(Layer.mergeAll(AgentDirectory.layer, LimitDirectory.layer)),
    Layer.provideMerge(Layer.mergeAll(AgentStorePostgres.layer, LimitRegistry.layer)),
    Layer.provideMerge(ledger)
  )

/** One node and its world. */
export const solo = node("solo").pipe(Layer.provideMerge(SoloPlacement.layer), Layer.provideMerge(world))

/** A node of its own in the scope; closing it ends the node in order. */
export const start = (
  name: string,
  placement: Layer.Layer<Placement> = SoloPlacement.layer,
  ledger = PostgresLedger.layer(NodeName.make(name))
) => Layer.build(Layer.fresh(node(name, ledger)).pipe(Layer.provideMerge(placement)))

/** Placement that a test decides: which node owns the instances, and tells it when that changes. */
export const switchable = () => {
  const handlers = new Map<string, Set<() => void>>()
  let owner = ""
  const of = (name: string) =>
    Layer.succeed(
      Placement,
      Placement.of({
        node: NodeName.make(name),
        takesWork: () => true,
        nodes: Effect.succeed([NodeName.make(name)]),
        owns: () => owner === name,
        onChange: (handler) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const own = handlers.get(name) ?? new Set()
              handlers.set(name, own.add(handler))
            }),
            () => Effect.sync(() => handlers.get(name)?.delete(handler))
          ),
        singleton: (_, loop) => Effect.asVoid(Effect.forkScoped(loop))
      })
    )
  return {
    of,
    /** Moves everything to a node; `tell` names the nodes that learn of it. */
    move: (to: string, tell: ReadonlyArray<string> = [...handlers.keys(), to]) => {
      owner = to
      for (const name of new Set(tell)) for (const handler of handlers.get(name) ?? []) handler()
    }
  }
}

export interface AgentOptions {
  readonly concurrency?: number
  readonly instances?: number
  readonly settings?: object
  readonly retry?: object
  readonly status?: string
  /** `pure`: said to be idempotent. */
  readonly type?: "probe" | "pure"
  readonly supervision?: SupervisionStrategy
}

let agents = 0

/** A new probe agent that one task at a time is given to, unless said otherwise. */
export const agent = Effect.fnUntraced(function* (options: AgentOptions = {}) {
  const sql = yield* SqlClient.SqlClient
  const id = AgentId.make((yield* UuidV7).next())
  const configuration = {
    max_concurrent_tasks: options.concurrency ?? 1,
    settings: options.settings ?? {},
    retry: { delay_ms: 1, jitter: 0, ...options.retry },
    ...(options.supervision !== undefined && { supervision: options.supervision })
  }
  yield* sql`
    insert into agents (id, namespace, name, type, capabilities, configuration, desired_instances, status, updated_at)
    values (${id}, ${home}, ${`probe-${++agents}`}, ${options.type ?? "probe"}, '[{"name":"probe.act"}]', ${JSON.stringify(configuration)},
      ${options.instances ?? 1}, ${options.status ?? "active"}, clock_timestamp())
  `
  return id
})

/** Changes an agent's row as the registry would, and tells every node. */
export const change = Effect.fnUntraced(function* (
  id: AgentId,
  to: {
    readonly status?: string
    readonly instances?: number
    readonly settings?: object
    readonly concurrency?: number
  }
) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update agents set status = coalesce(${to.status ?? null}, status),
      desired_instances = coalesce(${to.instances ?? null}::int, desired_instances),
      configuration = (configuration::jsonb
        || coalesce(jsonb_build_object('settings', ${to.settings === undefined ? null : JSON.stringify(to.settings)}::jsonb)
          , '{}') || jsonb_strip_nulls(jsonb_build_object('max_concurrent_tasks', ${to.concurrency ?? null}::int)))::json,
      version = version + 1, updated_at = clock_timestamp()
    where id = ${id}
  `
  yield* (yield* Bus).notify({ _tag: "AgentChanged", agent: id })
})

export const statusOf = Effect.fnUntraced(function* (id: AgentId) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{
    status: string
    status_reason: string | null
  }>`select status, status_reason from agents where id = ${id}`
  return found
})

/** A command for an agent that makes it do something. */
export const command = (agentId: AgentId, act: Act = {}, over: Partial<SubmitTask> = {}): SubmitTask => ({
  agent: agentId,
  payload: { ...act },
  ...over
})

/** Submits on the node in force. Ids, in order; dies when one is refused. */
export const submit = Effect.fnUntraced(function* (commands: ReadonlyArray<SubmitTask>) {
  const scheduler = yield* Scheduler
  const answers = yield* scheduler.submit(commands)
  return answers.map((answer) => Result.getOrThrow(answer).id)
})

/** Asks until the answer is as wanted; fails with the last one after `within`. */
export const until = <A, E, R>(
  ask: Effect.Effect<A, E, R>,
  wanted: (answer: A) => boolean,
  within: Duration.Input = "8 seconds"
) =>
  Effect.suspend(() => {
    let last: A | undefined
    return ask.pipe(
      Effect.tap((answer) =>
        Effect.sync(() => {
          last = answer
        })
      ),
      Effect.repeat({ until: wanted, schedule: Schedule.spaced("5 millis") }),
      Effect.timeoutOrElse({
        duration: within,
        orElse: () => Effect.die(new Error(`it did not come true; last seen: ${JSON.stringify(last)?.slice(0, 2_000)}`))
      })
    )
  })

/** The same for what can be asked at once. */
export const untilTrue = (wanted: () => boolean, within: Duration.Input = "8 seconds") =>
  until(Effect.sync(wanted), (is) => is, within)

/** Waits until all of them have ended. Their rows. */
export const ended = (ids: ReadonlyArray<TaskId>, within?: Duration.Input) =>
  until(rows(ids), (found) => found.length === ids.length && found.every(({ status }) => isTerminal(status)), within)

/** Waits until the reconciler has called for an agent's work so many times: whoever may start it has been told. */
export const calledFor = Effect.fnUntraced(function* (agentId: AgentId, count: number) {
  let calls = 0
  const bus = yield* Bus
  yield* bus.onNotice((notice) => {
    if (notice._tag === "Wake" && notice.agents.some(({ id, lanes }) => id === agentId && lanes.length === 0)) calls++
  })
  yield* untilTrue(() => calls >= count)
}, Effect.scoped)

/** Runs with the services of one node. */
export const on =
  <Services>(context: Context.Context<Services>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provide(effect, context)
