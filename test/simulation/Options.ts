/**
 * What a seed stands for: the size of its world and which faults it has. Each fault is there in some worlds only, and with
 * another strength in each, so that some worlds have one fault alone and some have many at once (swarm testing).
 */
import * as Chance from "./Chance.ts"
import type { AgentPlan } from "./SimAgents.ts"
import type * as SimBus from "./SimBus.ts"
import type * as SimPostgres from "./SimPostgres.ts"

export interface Options {
  readonly nodes: number
  readonly agents: ReadonlyArray<AgentPlan>
  /** Commands that clients submit, one after the other and in bursts. */
  readonly commands: number
  /** How long the faults last. */
  readonly faultMillis: number
  readonly postgres: SimPostgres.PostgresFaults
  readonly bus: SimBus.BusFaults
  /** How often each of these happens while faults last. */
  readonly times: {
    readonly postgresOutages: number
    readonly busOutages: number
    readonly busLosses: number
    readonly kills: number
    readonly freezes: number
    readonly stops: number
    readonly moves: number
    readonly cancels: number
    readonly agentChanges: number
  }
}

export const ofSeed = (seed: number): Options => {
  const chance = Chance.make(seed, "options")
  const sometimes = (most: number) => (chance.is(0.5) ? 1 + chance.below(most) : 0)
  const rarely = (most: number) => (chance.is(0.4) ? chance.next() * most : 0)
  const latency = () => chance.of([2, 5, 20, 100, 400])
  return {
    nodes: chance.between(1, 4),
    agents: Array.from({ length: chance.between(1, 4) }, (_, index) => ({
      type: index === 0 || chance.is(0.6) ? "worker" : "pure",
      concurrency: chance.of([1, 1, 2, 5]),
      instances: chance.of([1, 1, 2, 3])
    })),
    commands: chance.of([15, 30, 60]),
    faultMillis: chance.of([10_000, 20_000, 40_000]),
    postgres: {
      latencyMillis: latency(),
      lost: rarely(0.05),
      answerLost: rarely(0.1),
      silent: rarely(0.02),
      late: rarely(0.03),
      lateMillis: chance.of([100, 2_000, 10_000])
    },
    bus: {
      latencyMillis: latency(),
      dispatchLost: rarely(0.5),
      doubled: rarely(0.5),
      acknowledgementLost: rarely(0.3),
      noticeLost: rarely(0.5)
    },
    times: {
      postgresOutages: sometimes(3),
      busOutages: sometimes(3),
      busLosses: sometimes(3),
      kills: sometimes(4),
      freezes: sometimes(4),
      stops: sometimes(3),
      moves: sometimes(8),
      cancels: sometimes(8),
      agentChanges: sometimes(6)
    }
  }
}
