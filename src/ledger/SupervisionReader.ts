/**
 * What Postgres knows of supervision: agents in pages, each with the leases of its instances and what is known of their
 * crashes. Reads only.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { AgentId, Namespace, NodeName } from "../../protocol/Ids.ts"
import type { Crash, InstanceState } from "../../protocol/Supervision.ts"
import { type AgentViewRow, definitionColumns, presenceColumns } from "./AgentRows.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

/** An instance that was ever started. */
export interface Lease {
  readonly agent_id: AgentId
  readonly index: number
  readonly epoch: number
  readonly node: NodeName
  readonly status: "active" | "hibernating" | "error"
  /** Since its last heartbeat. */
  readonly silentMillis: number
  readonly restarts: number
  readonly task_crashes: number
  readonly last_crash: Crash | null
}

export interface SupervisionFilter {
  readonly agent: AgentId | undefined
  readonly node: NodeName | undefined
  readonly state: InstanceState | undefined
  /** Only agents before this one in the list's order. */
  readonly before: AgentId | undefined
}

export class SupervisionReader extends Context.Service<
  SupervisionReader,
  {
    /**
     * Agents that are not terminated, newest first, at most `limit`, with all leases of theirs. Left out are those that
     * certainly have no instance on the node or in the state; the others may have none either.
     */
    readonly page: (
      namespace: Namespace,
      filter: SupervisionFilter,
      limit: number
    ) => Effect.Effect<
      { readonly agents: ReadonlyArray<AgentViewRow>; readonly leases: ReadonlyArray<Lease> },
      StoreUnavailable
    >
  }
>()("datamcp/ledger/SupervisionReader") {
  static readonly layer = Layer.effect(
    SupervisionReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const view = sql.literal(`${definitionColumns}, ${presenceColumns}`)

      const leased = (and: "status" | "node", value: string) =>
        sql`exists (select from agent_instances i where i.agent_id = a.id and ${sql(`i.${and}`)} = ${value})`

      const mayBe = (state: InstanceState | undefined) => {
        switch (state) {
          case undefined:
          case "hibernating":
            return []
          case "stopped":
            return [sql`a.status <> 'active'`]
          case "quarantined":
            return [sql`(a.status = 'error' or a.instance_orders is not null)`]
          case "starting":
          case "running":
          case "backing_off":
          case "unreachable":
            return [leased("status", "active")]
        }
      }

      const page = Effect.fn("SupervisionReader.page")(
        function* (namespace: Namespace, { agent, before, node, state }: SupervisionFilter, limit: number) {
          const agents = yield* sql<AgentViewRow>`
            select ${view} from agents a
            where ${sql.and([
              sql`a.namespace = ${namespace} and a.status <> 'terminated'`,
              ...(agent === undefined ? [] : [sql`a.id = ${agent}`]),
              ...(before === undefined ? [] : [sql`a.id < ${before}`]),
              ...(node === undefined ? [] : [leased("node", node)]),
              ...mayBe(state)
            ])}
            order by a.id desc limit ${limit}
          `
          if (agents.length === 0) return { agents, leases: [] }
          const leases = yield* sql<Lease>`
            select i.agent_id, i.index, i.epoch, i.node, i.status, i.restarts, i.task_crashes, i.last_crash,
              (extract(epoch from clock_timestamp() - i.heartbeat) * 1000)::float8 as "silentMillis"
            from agent_instances i where i.agent_id = any (${agents.map(({ id }) => id)}::uuid[])
          `
          return { agents, leases }
        },
        (effect) => orUnavailable("SupervisionReader.page")(effect)
      )

      return SupervisionReader.of({ page })
    })
  )
}
