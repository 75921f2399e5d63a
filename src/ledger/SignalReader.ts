/**
 * Signals and awaits as views, straight from Postgres. Every query names the namespace and looks up by task. It must not
 * change anything.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { Namespace, SignalName, TaskId } from "../../protocol/Ids.ts"
import type { JsonShape } from "../../protocol/JsonShape.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { OpenAwait, Senders, Signal } from "../../protocol/Signal.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { utc } from "./TaskViews.ts"

/** An open await as it was stored: its shape is one of ours. */
export type StoredAwait = Omit<OpenAwait, "shape"> & { readonly shape: JsonShape | null }

export class SignalReader extends Context.Service<
  SignalReader,
  {
    /** The await that the next signal of a name would be for; undefined when none is open. */
    readonly openAwait: (
      namespace: Namespace,
      id: TaskId,
      name: SignalName
    ) => Effect.Effect<StoredAwait | undefined, StoreUnavailable>
    /** Awaits of a task that are open, in the order in which they were made. */
    readonly openAwaits: (
      namespace: Namespace,
      id: TaskId
    ) => Effect.Effect<ReadonlyArray<StoredAwait>, StoreUnavailable>
    /** Every signal of a task, in the order of arrival. */
    readonly signals: (namespace: Namespace, id: TaskId) => Effect.Effect<ReadonlyArray<Signal>, StoreUnavailable>
  }
>()("datamcp/ledger/SignalReader") {
  static readonly layer = Layer.effect(
    SignalReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const awaitColumns =
        sql.literal(`a.position, a.name, a.terms ->> 'message' as message, a.terms -> 'shape' as shape,
        a.terms -> 'from' as from, ${utc("a.opened_at", "opened_at")}, ${utc("a.until", "until")}`)

      const openAwaits = Effect.fn("SignalReader.openAwaits")((namespace: Namespace, id: TaskId) =>
        sql<StoredAwait & { readonly from: Senders | null }>`
          select ${awaitColumns} from task_awaits a join tasks t on t.id = a.task_id
          where a.task_id = ${id} and a.namespace = ${namespace} and a.outcome is null
            and t.status in ('pending', 'queued', 'running', 'paused')
          order by a.position limit 100
        `.pipe(orUnavailable("SignalReader.openAwaits"))
      )

      const openAwait = Effect.fn("SignalReader.openAwait")((namespace: Namespace, id: TaskId, name: SignalName) =>
        sql<StoredAwait>`
          select ${awaitColumns} from task_awaits a
          where a.task_id = ${id} and a.namespace = ${namespace} and a.name = ${name} and a.outcome is null
          order by a.position limit 1
        `.pipe(
          Effect.map(([row]) => row),
          orUnavailable("SignalReader.openAwait")
        )
      )

      const signals = Effect.fn("SignalReader.signals")((namespace: Namespace, id: TaskId) =>
        sql<Signal>`
          select s.number, s.name, s.payload, s.actor, ${sql.literal(utc("s.at", "at"))}, s.position is not null as taken
          from task_signals s join tasks t on t.id = s.task_id
          where s.task_id = ${id} and t.namespace = ${namespace} order by s.number limit ${Limits.signalsMax}
        `.pipe(orUnavailable("SignalReader.signals"))
      )

      return SignalReader.of({ openAwait, openAwaits, signals })
    })
  )
}
