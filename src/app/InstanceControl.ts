/**
 * Decides, as pure functions of the stored agent, what an order about one of its instances makes of it: the change and its event,
 * nothing when it is so already, or the refusal.
 *
 *   works --quarantine--> takes nothing --release--> works
 *   works --restart--> starts anew
 */
import { Result } from "effect"
import { type InstanceOrders, isQuarantined, type Orders, ordersOf } from "../../actors/InstanceOrders.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Conflict, type InvalidInput, invalidField } from "../../protocol/Problem.ts"
import type { Quarantine } from "../../protocol/Supervision.ts"
import type { AgentChange } from "../ledger/AgentRegistry.ts"
import type { AgentRow } from "../ledger/AgentRows.ts"
import type { Decision } from "./AgentChanges.ts"

export const restart =
  (index: number, reason: string | undefined) =>
  (agent: AgentRow): Decision =>
    Result.flatMap(there(agent, index), (): Decision => {
      if (agent.status !== "active") {
        return refused(agent, `Agent "${agent.name}" is in ${agent.status}: resume it instead.`)
      }
      const orders = ordersIn(agent)
      if (isQuarantined(orders, index)) {
        return refused(agent, `Instance ${index} of "${agent.name}" is quarantined: release it instead.`)
      }
      const own = ordersOf(orders, index)
      return Result.succeed({
        event: "AgentInstancesRestarted",
        data: { instances: [index], ...(reason !== undefined && { reason }) },
        instanceOrders: withOrders(agent, index, { ...own, restarts: (own.restarts ?? 0) + 1 })
      })
    })

export const quarantine =
  (index: number, order: Quarantine) =>
  (agent: AgentRow): Decision =>
    Result.map(there(agent, index), (): AgentChange | undefined =>
      isQuarantined(ordersIn(agent), index)
        ? undefined
        : {
            event: "AgentInstanceQuarantined",
            data: { instance: index, ...(order.reason !== null && { reason: order.reason }) },
            instanceOrders: withOrders(agent, index, { ...ordersOf(ordersIn(agent), index), quarantine: order })
          }
    )

/** Also of one that its agent does not want any more. */
export const release =
  (index: number, reason: string | undefined) =>
  (agent: AgentRow): Decision => {
    if (!isQuarantined(ordersIn(agent), index)) return Result.map(there(agent, index), () => undefined)
    const { quarantine: _, ...own } = ordersOf(ordersIn(agent), index)
    return Result.map(living(agent), () => ({
      event: "AgentInstanceReleased",
      data: { instance: index, ...(reason !== undefined && { reason }) },
      instanceOrders: withOrders(agent, index, own)
    }))
  }

export const ordersIn = (agent: AgentRow) => ({ instanceOrders: agent.instance_orders ?? undefined })

const withOrders = (agent: AgentRow, index: number, orders: Orders): InstanceOrders => ({
  ...agent.instance_orders,
  [index]: orders
})

const there = (agent: AgentRow, index: number): Result.Result<void, Conflict | InvalidInput> =>
  index < agent.desired_instances
    ? living(agent)
    : Result.fail(
        invalidField(
          "index",
          `agent "${agent.name}" has ${agent.desired_instances} instances, numbered from 0`,
          Math.min(agent.desired_instances, Limits.instancesMax) - 1
        )
      )

const living = (agent: AgentRow): Result.Result<void, Conflict> =>
  agent.status === "terminated" ? refused(agent, `Agent "${agent.name}" has terminated.`) : Result.void

const refused = (agent: AgentRow, detail: string) =>
  Result.fail(new Conflict({ detail, reason: "state", current_version: agent.version }))
