/**
 * Hints between nodes over core NATS: sent once, heard by all nodes that are there, this one included. Each may be lost.
 */
import { Effect, Result, Schema, type Scope } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"
import { Notice } from "../../protocol/Notice.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import type { Evidence } from "./Evidence.ts"
import type { Nats } from "./Nats.ts"

export interface Notices {
  readonly notify: (notice: Notice) => Effect.Effect<void>
  readonly onNotice: (handler: (notice: Notice) => void) => Effect.Effect<void, never, Scope.Scope>
}

/** Ids in one message: some 300 KiB, where a server takes 1 MiB. */
const idsMax = 5_000

/** Listens while the scope is open. */
export const make = Effect.fnUntraced(function* (nats: Nats["Service"], evidence: Evidence) {
  const context = yield* Effect.context<never>()
  const handlers = new Set<{ readonly handle: (notice: Notice) => void }>()

  const heard = (subject: string, data: Uint8Array) => {
    const notice = decode(new TextDecoder().decode(data))
    if (Result.isFailure(notice)) {
      return evidence.undecodable({
        kind: "notice",
        subject,
        bytes: data.length,
        reason: "it is no notice that we know"
      })
    }
    Metrics.busNotices({ direction: "received" }).updateUnsafe(1, context)
    for (const { handle } of handlers) evidence.guard("notice", () => handle(notice.success))
  }

  yield* Effect.acquireRelease(
    Effect.sync(() =>
      nats.connection.subscribe(Subjects.noticeAll, {
        callback: (error, message) => {
          if (error === null) heard(message.subject, message.data)
        }
      })
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe())
  )
  yield* nats.flushed

  return {
    notify: (notice) =>
      Effect.sync(() => {
        for (const part of partsOf(notice)) {
          const sent = nats.publish(Subjects.notice(part._tag), JSON.stringify(part))
          const metric = sent ? Metrics.busNotices({ direction: "sent" }) : Metrics.busDropped({ kind: "notice" })
          metric.updateUnsafe(1, context)
        }
      }),
    onNotice: (handler) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            const entry = { handle: handler }
            handlers.add(entry)
            return entry
          }),
          (entry) => Effect.sync(() => handlers.delete(entry))
        )
      )
  } satisfies Notices
})

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Notice))

/** One message, or several where its ids would not fit into one. */
const partsOf = (notice: Notice): ReadonlyArray<Notice> => {
  switch (notice._tag) {
    case "Wake":
      return slices(notice.agents).map((agents) => ({ ...notice, agents }))
    case "Interrupt":
    case "Signalled":
      return slices(notice.tasks).map((tasks) => ({ ...notice, tasks }))
    case "AgentChanged":
    case "LimitsChanged":
      return [notice]
  }
}

const slices = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => {
  if (all.length <= idsMax) return [all]
  const parts: Array<ReadonlyArray<A>> = []
  for (let from = 0; from < all.length; from += idsMax) parts.push(all.slice(from, from + idsMax))
  return parts
}
