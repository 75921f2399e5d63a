/**
 * Signals and awaits as views, straight from Postgres. Every query names the namespace and looks up by task. It must not
 * change anything.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { Namespace, SignalName, TaskId } from "../../protocol/Ids.ts"
import type { JsonShape } from "../../protocol/JsonShape.ts"
import type { OpenAwait, Senders, Signal } from "../../protocol/Signal.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { utc } from "./TaskViews.ts"

/** Where a page of signals is cut, in bytes of their payloads; above that of any one of them. */
const pageBytesMax = 1024 * 1024

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
    /** Signals of a task with a number above `after`, in the order of arrival. A page is cut at 1 MiB of payloads. */
    readonly signals: (
      namespace: Namespace,
      id: TaskId,
      options: { readonly after: number; readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<Signal>, StoreUnavailable>
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

      const signals: SignalReader["Service"]["signals"] = Effect.fn("SignalReader.signals")(
        (namespace, id, { after, limit }) =>
          sql<Signal>`
            select s.number, s.name, s.payload, s.actor, ${sql.literal(utc("s.at", "at"))}, s.position is not null as taken
            from (
              select k.*, sum(octet_length(k.payload::text)) over (order by k.number) as bytes from (
                select * from task_signals a
                where a.task_id = ${id} and a.number > ${after}
                  and exists (select from tasks t where t.id = ${id} and t.namespace = ${namespace})
                order by a.number limit ${limit}
              ) k
            ) s
            where s.bytes <= ${pageBytesMax} order by s.number
          `.pipe(orUnavailable("SignalReader.signals"))
      )

      return SignalReader.of({ openAwait, openAwaits, signals })
    })
  )
}
