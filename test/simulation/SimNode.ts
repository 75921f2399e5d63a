/**
 * A simulated node: the production actors and the production ledger, on the models. It can be started, stopped in order,
 * killed and frozen, and its clients can call it while it lives.
 */

import { createHash } from "node:crypto"
import { Context, Effect, type Exit, FileSystem, Latch, Layer, Logger, Path, References } from "effect"
import { Digest } from "effect/crypto"
import { SqlClient } from "effect/sql"
import { AgentDirectory } from "../../actors/AgentDirectory.ts"
import { AgentHost, HostLimits } from "../../actors/AgentHost.ts"
import { Behaviours } from "../../actors/Behaviour.ts"
import { Dispatcher } from "../../actors/Dispatcher.ts"
import { InstanceLimits } from "../../actors/Instance.ts"
import { LimitDirectory } from "../../actors/LimitDirectory.ts"
import { AgentStore } from "../../actors/ports/AgentStore.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { LimitStore } from "../../actors/ports/LimitStore.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import * as Reconciler from "../../actors/Reconciler.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { type Namespace, NodeName } from "../../protocol/Ids.ts"
import { Principal, permissions } from "../../protocol/Permission.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as MemoryArtifactStore from "../support/MemoryArtifactStore.ts"
import type { Machine, Process } from "./Machine.ts"
import type { SimAgents } from "./SimAgents.ts"
import type { SimBus } from "./SimBus.ts"
import type { SimPlacement } from "./SimPlacement.ts"
import type { SimPostgres } from "./SimPostgres.ts"
import type { Work } from "./Work.ts"

/** What all nodes share. */
export interface World {
  readonly machine: Machine
  readonly postgres: SimPostgres
  readonly bus: SimBus
  readonly placement: SimPlacement
  readonly agents: SimAgents
  readonly work: Work
  readonly namespace: Namespace
  /** Ids of a process, ascending. */
  readonly idsOf: (process: Process) => UuidV7["Service"]
  /** Puts mistakes into the product. */
  readonly mutate: Mutations
}

export interface Mutations {
  readonly reconciler?: (limits: (typeof Reconciler.ReconcilerLimits)["Service"]) => typeof limits
  readonly withoutReconciler?: boolean
  readonly host?: (limits: (typeof HostLimits)["Service"]) => typeof limits
  readonly instance?: (limits: (typeof InstanceLimits)["Service"]) => typeof limits
  readonly ledger?: (ledger: Ledger["Service"]) => Ledger["Service"]
  readonly bus?: (bus: Bus["Service"]) => Bus["Service"]
}

type NodeServices = Scheduler | Ledger | Bus | AgentHost | Principal

export interface SimNode {
  readonly name: string
  readonly isUp: () => boolean
  readonly start: () => void
  readonly kill: () => void
  readonly freeze: (millis: number) => void
  /** Ends it in order, as SIGTERM does. */
  readonly stop: () => void
  /** Runs on the node; nothing comes back when it dies first. False when it is not up. */
  readonly call: <A, E>(effect: Effect.Effect<A, E, NodeServices>, answered: (exit: Exit.Exit<A, E>) => void) => boolean
  readonly load: () => { readonly running: number; readonly waiting: number }
}

const digest = Layer.succeed(
  Digest.Digest,
  Digest.Digest.of({
    digest: (_: unknown, data: Uint8Array) =>
      Effect.sync(() => new Uint8Array(createHash("sha256").update(data).digest())),
    digestHex: (_: unknown, data: Uint8Array) => Effect.sync(() => createHash("sha256").update(data).digest("hex"))
  } as Digest.Digest["Service"])
)

const nodeLayer = (
  { agents, bus, idsOf, machine, mutate, namespace, postgres, work }: World,
  process: Process,
  placement: Placement["Service"]
) => {
  const me = Principal.of({ actor: "key:simulation", namespace, role: "admin", permissions: new Set(permissions) })
  const ownBus = bus.of(process)
  const models = Layer.mergeAll(
    Layer.succeed(SqlClient.SqlClient, postgres.of(process)),
    Layer.succeed(Bus, mutate.bus?.(ownBus) ?? ownBus),
    Layer.succeed(Placement, placement),
    Layer.succeed(AgentStore, agents.of(process)),
    Layer.succeed(LimitStore, agents.limitsOf(process)),
    Layer.succeed(Behaviours, work.of(process)),
    Layer.succeed(UuidV7, idsOf(process)),
    Layer.succeed(Principal, me),
    MemoryArtifactStore.layer,
    digest,
    FileSystem.layerNoop({}),
    Path.layer,
    Layer.effect(
      Reconciler.ReconcilerLimits,
      Effect.map(Reconciler.ReconcilerLimits, (limits) => mutate.reconciler?.(limits) ?? limits)
    ),
    Layer.effect(
      HostLimits,
      Effect.map(HostLimits, (limits) => mutate.host?.(limits) ?? limits)
    ),
    Layer.effect(
      InstanceLimits,
      Effect.map(InstanceLimits, (limits) => mutate.instance?.(limits) ?? limits)
    ),
    Logger.layer([
      Logger.make<unknown, void>(({ message }) => machine.say(`${process.name} logs: ${String(message).slice(0, 200)}`))
    ]),
    Layer.succeed(References.MinimumLogLevel, "Warn")
  )
  const ledger = Layer.effect(
    Ledger,
    Effect.map(Ledger, (plain) => mutate.ledger?.(plain) ?? plain)
  ).pipe(Layer.provide(PostgresLedger.layer(NodeName.make(process.name))))
  return Layer.mergeAll(AgentHost.layer, mutate.withoutReconciler === true ? Layer.empty : Reconciler.layer).pipe(
    Layer.provideMerge(Scheduler.layer),
    Layer.provideMerge(Dispatcher.layer),
    Layer.provideMerge(Layer.mergeAll(AgentDirectory.layer, LimitDirectory.layer)),
    Layer.provideMerge(ledger),
    Layer.provideMerge(models)
  )
}

export const make = (world: World, name: string): SimNode => {
  const { machine, placement } = world
  let process: Process | undefined
  let services: Context.Context<NodeServices> | undefined
  let stopping: Latch.Latch | undefined

  const start = () => {
    if (process !== undefined) return
    machine.say(`${name} starts`)
    const own = machine.process(name)
    const stop = Latch.makeUnsafe(false)
    process = own
    stopping = stop
    const root = Effect.gen(function* () {
      const context = yield* Layer.build(nodeLayer(world, own, placement.join(own)))
      services = context
      machine.say(`${name} is up`)
      yield* stop.await
      machine.say(`${name} stops`)
      placement.leave(own)
    }).pipe(Effect.scoped)
    const fiber = Effect.runForkWith(own.context)(root)
    fiber.addObserver((exit) => {
      if (process !== own) return
      machine.say(`${name} has ended: ${exit._tag}`)
      gone()
      if (exit._tag === "Failure") {
        placement.lose(own)
        machine.after(1_000, start)
      }
      own.kill()
    })
  }

  const gone = () => {
    process = undefined
    services = undefined
    stopping = undefined
  }

  return {
    name,
    isUp: () => services !== undefined,
    start: () => machine.after(0, start),
    kill: () => {
      const own = process
      if (own === undefined) return
      machine.say(`${name} is killed`)
      own.kill()
      gone()
      placement.lose(own)
    },
    freeze: (millis) => {
      if (process === undefined) return
      machine.say(`${name} stands still for ${millis} ms`)
      process.freeze(millis)
      // Its leases run out when it stands still for long; it does not know.
      if (millis > 3_500) placement.suspect(process)
    },
    stop: () => {
      services = undefined
      const latch = stopping
      if (latch !== undefined) process?.after(0, () => latch.openUnsafe())
    },
    call: (effect, answered) => {
      const context = services
      const own = process
      if (context === undefined || own === undefined) return false
      own.after(1, () => {
        const fiber = Effect.runForkWith(Context.merge(own.context, context))(effect)
        fiber.addObserver(answered)
      })
      return true
    },
    load: () => (services === undefined ? { running: 0, waiting: 0 } : Context.get(services, AgentHost).load())
  }
}
