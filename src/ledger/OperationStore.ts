/**
 * Stored operations: actions on many tasks, and how far each is. Steps are recorded by the ledger, in the transaction that
 * does them; here operations begin, are read and picked, and are stopped.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { Namespace, OperationId } from "../../protocol/Ids.ts"
import type { Role } from "../../protocol/Permission.ts"
import type { ActOnTasks, Operation } from "../../protocol/TaskAction.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import * as Views from "./TaskViews.ts"

/** What an operation does beside its filter: as the command said it, agents by id. */
export type OperationParameters = Pick<
  ActOnTasks,
  "reason" | "note" | "priority" | "agent" | "payload" | "configuration"
>

export interface NewOperation {
  readonly id: OperationId
  readonly namespace: Namespace
  readonly action: Operation["action"]
  readonly filter: Operation["filter"]
  readonly parameters: OperationParameters
  readonly actor: string
  readonly role: Role
}

/** An operation that is to be carried on with. */
export interface OpenOperation extends NewOperation {
  /** Tasks older than this id are still to be looked at. */
  readonly position: string
}

export class OperationStore extends Context.Service<
  OperationStore,
  {
    /** `undefined` when the namespace has `openMax` of them running already. */
    readonly create: (operation: NewOperation) => Effect.Effect<Operation | undefined, StoreUnavailable>
    readonly get: (namespace: Namespace, id: OperationId) => Effect.Effect<Operation | undefined, StoreUnavailable>
    /** The running one that waited longest, whoever's it is. */
    readonly next: Effect.Effect<OpenOperation | undefined, StoreUnavailable>
    /** Ends a running one from outside; false when there is none that runs. */
    readonly end: (
      namespace: Namespace,
      id: OperationId,
      how: { readonly status: "cancelled" | "failed"; readonly detail?: string }
    ) => Effect.Effect<boolean, StoreUnavailable>
  }
>()("datamcp/ledger/OperationStore") {
  static readonly layer = Layer.effect(
    OperationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(`o.id, o.namespace, o.action, o.filter, o.status, o.matched, o.done, o.failed,
        o.matched - o.done - o.failed as skipped, o.errors, o.actor, ${Views.utc("o.created_at", "created_at")},
        ${Views.utc("o.updated_at", "updated_at")}, ${Views.utc("o.ended_at", "ended_at")}`)

      const create = Effect.fn("OperationStore.create")((operation: NewOperation) =>
        sql<Operation>`
          insert into operations as o (id, namespace, action, filter, parameters, actor, role, position)
          select ${operation.id}::uuid, ${operation.namespace}::text, ${operation.action}::text,
            ${JSON.stringify(operation.filter)}::json, ${JSON.stringify(operation.parameters)}::json,
            ${operation.actor}::text, ${operation.role}::text, ${operation.id}::uuid
          where (select count(*) from operations x where x.namespace = ${operation.namespace} and x.status = 'running') < ${openMax}
          returning ${columns}
        `.pipe(
          Effect.map(([row]) => row),
          orUnavailable("OperationStore.create")
        )
      )

      const get = Effect.fn("OperationStore.get")((namespace: Namespace, id: OperationId) =>
        sql<Operation>`select ${columns} from operations o where o.id = ${id} and o.namespace = ${namespace}`.pipe(
          Effect.map(([row]) => row),
          orUnavailable("OperationStore.get")
        )
      )

      const next = sql<OpenOperation>`
        select o.id, o.namespace, o.action, o.filter, o.parameters, o.actor, o.role, o.position from operations o
        where o.status = 'running' order by o.updated_at limit 1
      `.pipe(
        Effect.map(([row]) => row),
        orUnavailable("OperationStore.next"),
        Effect.withSpan("OperationStore.next")
      )

      const end: OperationStore["Service"]["end"] = Effect.fn("OperationStore.end")(
        (namespace, id, { detail, status }) =>
          sql`
          update operations set status = ${status}, ended_at = now(), updated_at = clock_timestamp(),
            errors = errors || ${JSON.stringify(detail === undefined ? [] : [{ task_id: null, detail }])}::jsonb
          where id = ${id} and namespace = ${namespace} and status = 'running' returning id
        `.pipe(
            Effect.map((rows) => rows.length > 0),
            orUnavailable("OperationStore.end")
          )
      )

      return OperationStore.of({ create, get, next, end })
    })
  )
}

/** Operations of one namespace that run at a time. */
export const openMax = 20
