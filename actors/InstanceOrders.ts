/**
 * What is ordered of the instances of an agent, by hand or by a supervisor: to take no work until released, and to start anew.
 *
 * Orders are kept with the agent and reach nodes as its other changes do. A restart is a number that grows: an instance that
 * started under a smaller one starts anew, so an order that is heard twice is carried out once, and one that no node heard
 * when it was given is carried out later.
 */
import type { Quarantine } from "../protocol/Supervision.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"

/** Orders of one instance. */
export interface Orders {
  readonly restarts?: number
  readonly quarantine?: Quarantine
}

/** Orders by index. */
export type InstanceOrders = { readonly [index: string]: Orders }

export const ordersOf = (agent: Pick<AgentRecord, "instanceOrders">, index: number): Orders =>
  agent.instanceOrders?.[index] ?? none

export const isQuarantined = (agent: Pick<AgentRecord, "instanceOrders">, index: number): boolean =>
  agent.instanceOrders !== undefined && ordersOf(agent, index).quarantine !== undefined

/** The number under which an instance starts now. */
export const restartsOf = (agent: Pick<AgentRecord, "instanceOrders">, index: number): number =>
  ordersOf(agent, index).restarts ?? 0

const none: Orders = {}
