/**
 * Keeps the service's subscriptions open. Over lost connections the client renews them by itself; one that the server
 * refuses (missing rights) or that ends in another way is tried again, and the log says what it was refused.
 */
import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node"
import { Effect, Schema, Scope } from "effect"

export interface Wanted {
  readonly subject: string
  /** Members of a queue group share the messages of a subject; without one everybody gets all. */
  readonly queue?: string
  /** Called for each message as it arrives; must not block. */
  readonly handle: (message: Msg) => void
}

const retryDelay = "5 seconds"
/** How long opening and closing may wait for the server. */
const patience = "1 second"

/** Subscribes, and unsubscribes when the scope closes: what the server had sent until then is still handled. */
export const keepSubscribed = Effect.fnUntraced(function* (link: NatsConnection, wanted: ReadonlyArray<Wanted>) {
  // They end side by side: without a server each waits out its patience.
  const scope = yield* Effect.acquireRelease(Scope.make("parallel"), (opened, exit) => Scope.close(opened, exit))
  yield* Effect.forEach(wanted, (one) =>
    Effect.scoped(Effect.flatMap(subscription(link, one), ended)).pipe(
      Effect.catchCause((cause) => Effect.logError(`Cannot listen on ${one.subject}`, cause)),
      Effect.andThen(Effect.sleep(retryDelay)),
      // A connection that is closed stays so: its owner ends the node, or is ending it.
      Effect.repeat({ while: () => !link.isClosed() }),
      Effect.forkIn(scope, { startImmediately: true })
    )
  )
  yield* flush(link)
})

/** Succeeds once the server has seen all that was sent so far, or when it does not answer in time. */
export const flush = (link: NatsConnection) =>
  Effect.tryPromise(() => link.flush()).pipe(Effect.timeoutOption(patience), Effect.ignore)

const subscription = (link: NatsConnection, { handle, queue, subject }: Wanted) =>
  Effect.acquireRelease(
    Effect.try(() =>
      link.subscribe(subject, {
        ...(queue === undefined ? {} : { queue }),
        callback: (error, message) => {
          if (error === null) handle(message)
        }
      })
    ),
    (open) =>
      Effect.tryPromise(() => (open.isClosed() ? Promise.resolve() : open.drain())).pipe(
        Effect.timeoutOption(patience),
        Effect.ignore
      )
  )

class SubscriptionEnded extends Schema.TaggedError<SubscriptionEnded>()("SubscriptionEnded", {
  cause: Schema.Defect()
}) {}

/** Fails when the subscription ends. */
const ended = (open: Subscription) =>
  Effect.flatMap(
    Effect.promise(() => open.closed),
    (cause) => Effect.fail(new SubscriptionEnded({ cause }))
  )
