/**
 * Live events of single aggregates for any number of listeners on this node: one subscription per namespace, handed out
 * by aggregate, so that a thousand waiters cost one look-up per event.
 *
 * What it tells is a hint that may be lost, doubled or out of order, as everything on the bus: listeners check with
 * Postgres. A namespace stays subscribed for a while after its last listener, because the next one comes soon.
 */
import { Context, Effect, Layer, RcMap, type Scope } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import type { Event } from "../../protocol/Event.ts"
import type { Namespace } from "../../protocol/Ids.ts"

type Listener = (event: Event) => void

export class EventFeed extends Context.Service<
  EventFeed,
  {
    /** Calls back with each event of an aggregate while the scope is open. The handler must not block or throw. */
    readonly listen: (
      namespace: Namespace,
      aggregate: string,
      handler: Listener
    ) => Effect.Effect<void, never, Scope.Scope>
  }
>()("datamcp/app/EventFeed") {
  static readonly layer = Layer.effect(
    EventFeed,
    Effect.gen(function* () {
      const bus = yield* Bus

      const namespaces = yield* RcMap.make({
        idleTimeToLive: "30 seconds",
        lookup: Effect.fnUntraced(function* (namespace: Namespace) {
          const listeners = new Map<string, Set<Listener>>()
          yield* bus.onEvents(namespace, (events) => {
            for (const event of events) {
              for (const listener of listeners.get(event.aggregate) ?? []) listener(event)
            }
          })
          return listeners
        })
      })

      const listen: EventFeed["Service"]["listen"] = Effect.fnUntraced(function* (namespace, aggregate, handler) {
        const listeners = yield* RcMap.get(namespaces, namespace)
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            const own = listeners.get(aggregate)
            if (own === undefined) listeners.set(aggregate, new Set([handler]))
            else own.add(handler)
          }),
          () =>
            Effect.sync(() => {
              const own = listeners.get(aggregate)
              own?.delete(handler)
              if (own?.size === 0) listeners.delete(aggregate)
            })
        )
      })

      return EventFeed.of({ listen })
    })
  )
}
