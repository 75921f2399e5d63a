/**
 * Pulls messages of one JetStream consumer, never holding more than `prefetch` of them unacknowledged: what is asked for
 * and what is held together stay within it. (The client's own `consume` bounds only what is asked for, and so hands a
 * slow reader the whole backlog.)
 *
 *   ask (batch) --> arrive --> held --> ack | terminate | release
 *
 * It speaks the pull protocol of JetStream (ADR-37 and ADR-13 of nats-architecture-and-design). Requests that the server
 * has dropped without telling us are noticed by missing heartbeats; then, and after every reconnect, the consumer is
 * looked up and asked anew through a new inbox, so that an old request cannot deliver beside the new one.
 */
import { JetStreamApiCodes } from "@nats-io/jetstream"
import { createInbox, type Msg, nanos, type Subscription } from "@nats-io/transport-node"
import { Clock, Deferred, Duration, Effect, Queue, Result } from "effect"
import { BusUnavailable } from "../../actors/ports/Bus.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import type { Nats } from "./Nats.ts"
import { isApiError } from "./Streams.ts"

/** A message in our hands. Every function may be called at any time and does nothing once the message is settled. */
export interface HeldMessage {
  readonly data: Uint8Array
  /** How often the server has delivered it, this time included. */
  readonly deliveries: number
  /** Its number in the stream. */
  readonly sequence: number
  readonly ack: () => void
  /** Never deliver it again, to anybody. */
  readonly terminate: (reason: string) => void
  /** Deliver it again, to anybody, after a delay. */
  readonly release: (delayMillis: number) => void
  /** We are still at it: the server's `ack_wait` begins anew. */
  readonly working: () => void
}

export interface PullOptions {
  readonly stream: string
  readonly consumer: string
  readonly prefetch: number
  /** Called on arrival; must neither throw nor block. */
  readonly onMessage: (message: HeldMessage) => void
}

/** The server answers a request at the latest after this. */
const expiresMillis = 30_000
const heartbeatMillis = 5_000
/** Two heartbeats and a half. */
const silenceMillis = 12_500

/** Times that JetStream may fail to answer before the consumer is given up. */
const lookUpsMax = 5

const encoder = new TextEncoder()
const acknowledgement = encoder.encode("+ACK")
const workInProgress = encoder.encode("+WPI")

/**
 * Pulls until interrupted. Fails with `BusUnavailable` when the consumer or its stream is gone. What is held at the end
 * is released at once.
 */
export const pull = Effect.fnUntraced(function* (nats: Nats["Service"], options: PullOptions) {
  const clock = yield* Clock.Clock
  const gone = Deferred.makeUnsafe<never, BusUnavailable>()
  const doubts = yield* Queue.sliding<"doubt">(1)
  const held = new Set<HeldMessage>()
  const next = `$JS.API.CONSUMER.MSG.NEXT.${options.stream}.${options.consumer}`
  const now = () => Number(clock.currentTimeNanosUnsafe() / 1_000_000n)
  /** Messages asked for that have not arrived. */
  let asked = 0
  let heardAt = now()
  let closing = false
  let inbox = ""
  let subscription: Subscription | undefined

  const fail = (operation: string, cause: unknown) => {
    Deferred.doneUnsafe(gone, Effect.fail(new BusUnavailable({ operation, cause })))
  }

  const ask = () => {
    const free = options.prefetch - asked - held.size
    // Half of the room at a time, unless nothing is under way.
    if (closing || free <= 0 || (asked > 0 && free * 2 < options.prefetch)) return
    const request = `{"batch":${free},"expires":${nanos(expiresMillis)},"idle_heartbeat":${nanos(heartbeatMillis)}}`
    if (!nats.publish(next, request, { reply: inbox })) return
    if (asked === 0) heardAt = now()
    asked += free
  }

  const hold = (arrived: Msg): HeldMessage => {
    const { deliveries, sequence } = positionOf(arrived.reply ?? "")
    const settle = (answer: Uint8Array) => {
      if (!held.delete(message)) return
      arrived.respond(answer)
      ask()
    }
    const message: HeldMessage = {
      data: arrived.data,
      deliveries,
      sequence,
      ack: () => settle(acknowledgement),
      terminate: (reason) => settle(encoder.encode(`+TERM ${reason}`)),
      release: (delayMillis) =>
        settle(encoder.encode(delayMillis > 0 ? `-NAK {"delay":${nanos(delayMillis)}}` : "-NAK")),
      working: () => {
        if (held.has(message)) arrived.respond(workInProgress)
      }
    }
    return message
  }

  const heard = (through: string, arrived: Msg) => {
    heardAt = now()
    if (arrived.subject === through) {
      if (through === inbox) told(arrived)
      return
    }
    const message = hold(arrived)
    held.add(message)
    asked = Math.max(0, asked - 1)
    if (closing) return message.release(0)
    options.onMessage(message)
    ask()
  }

  /** What the server says of a request, in the status of a message without a body: see ADR-13. */
  const told = (answer: Msg) => {
    const status = answer.headers?.code ?? 0
    if (status === 100) return
    const left = Number(answer.headers?.get("Nats-Pending-Messages") ?? "")
    if (Number.isFinite(left)) asked = Math.max(0, asked - left)
    const description = answer.headers?.description ?? ""
    if (status === 408) return ask()
    if (status === 400 || (status === 409 && /(consumer|stream) deleted/i.test(description))) {
      return fail("pull", new Error(description))
    }
    // 409 for a change of leader, a shutdown, too many requests; 503 for nobody there: look, and ask again.
    Queue.offerUnsafe(doubts, "doubt")
  }

  const drain = (old: Subscription | undefined) => {
    if (old === undefined || old.isClosed()) return Effect.void
    if (!nats.connected()) return Effect.sync(() => old.unsubscribe())
    return Effect.ignore(
      Effect.timeoutOption(
        Effect.tryPromise(() => old.drain()),
        "1 second"
      )
    )
  }

  /** Asks through a new inbox; what still arrives through the old one counts. */
  const askAnew = Effect.suspend(() => {
    const old = subscription
    const own = createInbox(Subjects.nodeInbox)
    inbox = own
    subscription = nats.connection.subscribe(own, {
      callback: (error, arrived) => (error === null ? heard(own, arrived) : fail("pull", error))
    })
    asked = 0
    ask()
    return drain(old)
  })

  const lookUp = nats.request("look for consumer", () => nats.manager.consumers.info(options.stream, options.consumer))

  const watch = Effect.gen(function* () {
    let failures = 0
    while (true) {
      const doubt = yield* Effect.timeoutOption(Queue.take(doubts), Duration.millis(heartbeatMillis))
      const silent = asked > 0 && now() - heardAt > silenceMillis
      if (!nats.connected() || (doubt._tag === "None" && !silent)) continue
      const found = yield* Effect.result(lookUp)
      if (Result.isSuccess(found)) {
        failures = 0
        yield* askAnew
        // Whatever is wrong, it is not asked about more often than this.
        yield* Effect.sleep("250 millis")
      } else if (nats.connected()) {
        if (isGone(found.failure) || ++failures >= lookUpsMax) return yield* found.failure
        yield* Effect.sleep(Duration.millis(100 * 2 ** failures))
        Queue.offerUnsafe(doubts, "doubt")
      }
    }
  })

  yield* nats.onConnection((connected) => {
    if (connected) Queue.offerUnsafe(doubts, "doubt")
  })
  yield* Effect.acquireRelease(askAnew, () =>
    Effect.suspend(() => {
      closing = true
      for (const message of [...held]) message.release(0)
      return drain(subscription)
    })
  )
  return yield* Effect.raceFirst(Deferred.await(gone), watch)
}, Effect.scoped)

const isGone = (error: BusUnavailable) =>
  isApiError(error.cause, JetStreamApiCodes.ConsumerNotFound, JetStreamApiCodes.StreamNotFound)

/**
 * Deliveries and stream sequence of a message, from the subject that its acknowledgement goes to:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>...`, since 2.14 possibly with domain and account before the stream.
 */
const positionOf = (reply: string) => {
  const parts = reply.split(".")
  const from = parts.length > 9 ? 6 : 4
  return { deliveries: Number(parts[from] ?? 1), sequence: Number(parts[from + 1] ?? 0) }
}
