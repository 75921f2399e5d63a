/**
 * Publishes dispatch messages and watches over their acknowledgements: one long-lived inbox for all of them, because the
 * client's own request costs five times as much.
 *
 *   publish --> in flight --(stored)--> forgotten
 *                  |  ^ (refused, or its answer is lost: again, under the same message id)
 *                  '--'--(`patience` is over)--> given up, counted
 *
 * Answers come in the order of publishing. One is lost when a later one has come, or none at all for a while; as long as
 * they come in order, however late, nothing is said twice, which would make a server that is behind slower still.
 *
 * Invariant: messages in flight are bounded in number and bytes, the same while NATS is away; what passes the bound is
 * dropped and counted. Repetition may reorder messages. Nothing waits for anything here.
 */
import { createInbox, headers, type Msg } from "@nats-io/transport-node"
import { Context, Duration, Effect, Schedule } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import type { DispatchText } from "./DispatchCodec.ts"
import type { Nats } from "./Nats.ts"

export const DispatchLimits = Context.Reference<{
  /** Messages in flight. */
  readonly messagesMax: number
  /** Bytes (characters of JSON) in flight. */
  readonly bytesMax: number
  /** How long a lost acknowledgement is waited for before the message is published again; doubles with each repetition. */
  readonly ackPatience: Duration.Duration
  /** How long a message is tried for in all. Shorter than the stream's duplicate window. */
  readonly patience: Duration.Duration
}>("datamcp/bus/DispatchLimits", {
  defaultValue: () => ({
    messagesMax: 32_768,
    bytesMax: 64 * 1024 * 1024,
    // A server with a thousand consumers has been seen to answer nothing for 3 s.
    ackPatience: Duration.seconds(4),
    patience: Duration.seconds(12)
  })
})

export interface DispatchPublisher {
  readonly publish: (message: DispatchText) => void
  /** Publishes what was refused or not acknowledged again now: the streams are there again. */
  readonly hurry: () => void
  readonly inFlight: () => number
}

interface InFlight {
  readonly message: DispatchText
  /** Of all published, in order. */
  readonly serial: number
  readonly giveUpAt: number
  /** Tick at which it is published again. */
  dueAt: number
  tries: number
  refused: boolean
}

/** Time is counted in ticks of the sweep: no clock is read per message, and no wall clock can jump. */
const tickMillis = 250

/** Lives in the scope. `onRefused` is called when JetStream takes no messages, as when the stream is gone. */
export const make = Effect.fnUntraced(function* (nats: Nats["Service"], onRefused: () => void) {
  const limits = yield* DispatchLimits
  const context = yield* Effect.context<never>()
  const ackTicks = Math.max(1, Math.ceil(Duration.toMillis(limits.ackPatience) / tickMillis))
  const patienceTicks = Math.max(1, Math.ceil(Duration.toMillis(limits.patience) / tickMillis))
  const inbox = createInbox(Subjects.nodeInbox)
  const inFlight = new Map<number, InFlight>()
  let bytes = 0
  let serial = 0
  let tick = 0
  let newestAnswered = -1
  /** Tick of the last answer, or of the message that was published when none was awaited. */
  let answeredAt = 0

  const forget = ({ message, serial }: InFlight) => {
    inFlight.delete(serial)
    bytes -= message.text.length
  }

  const drop = () => Metrics.busDropped({ kind: "dispatch" }).updateUnsafe(1, context)

  /** False when it can never be sent: it is larger than the server takes. */
  const send = (entry: InFlight): boolean => {
    const { message } = entry
    if (!nats.ready()) return true
    if (entry.tries > 0) Metrics.dispatchRepeated.updateUnsafe(1, context)
    entry.dueAt = tick + ackTicks * 2 ** entry.tries
    entry.tries++
    entry.refused = false
    const reply = `${inbox}.${entry.serial.toString(36)}`
    const own = headers()
    // The same task may rightly be dispatched again later: inbox and number tell that from a repetition.
    own.set("Nats-Msg-Id", `${message.firstTask}${reply}`)
    return nats.publish(message.subject, message.text, { headers: own, reply })
  }

  const publish = (message: DispatchText) => {
    if (inFlight.size >= limits.messagesMax || bytes + message.text.length > limits.bytesMax) return drop()
    const entry = { message, serial: serial++, giveUpAt: tick + patienceTicks, dueAt: tick, tries: 0, refused: false }
    if (!send(entry)) return drop()
    if (inFlight.size === 0) answeredAt = tick
    inFlight.set(entry.serial, entry)
    bytes += message.text.length
    Metrics.dispatchMessages.updateUnsafe(1, context)
    Metrics.dispatchTasks.updateUnsafe(message.tasks, context)
  }

  const answered = (error: Error | null, answer: Msg) => {
    if (error !== null) return
    const entry = inFlight.get(Number.parseInt(answer.subject.slice(inbox.length + 1), 36))
    if (entry === undefined) return
    newestAnswered = Math.max(newestAnswered, entry.serial)
    answeredAt = tick
    if (isStored(answer)) return forget(entry)
    entry.refused = true
    entry.dueAt = tick + 2 ** entry.tries
    onRefused()
  }

  /** False while its answer can still be expected: those before it are coming in. */
  const isLost = (entry: InFlight) =>
    entry.refused || entry.tries === 0 || entry.serial < newestAnswered || tick - answeredAt >= ackTicks

  const resend = (entry: InFlight) => {
    if (send(entry)) return
    forget(entry)
    drop()
  }

  const sweep = Effect.sync(() => {
    tick++
    for (const entry of inFlight.values()) {
      if (entry.giveUpAt <= tick) {
        forget(entry)
        Metrics.dispatchGivenUp.updateUnsafe(1, context)
      } else if (entry.dueAt <= tick && isLost(entry)) resend(entry)
    }
  })

  const hurry = () => {
    for (const entry of inFlight.values()) resend(entry)
  }

  yield* Effect.acquireRelease(
    Effect.sync(() => nats.connection.subscribe(`${inbox}.*`, { callback: answered })),
    (subscription) => Effect.sync(() => subscription.unsubscribe())
  )
  yield* nats.onConnection((connected) => {
    if (connected) hurry()
  })
  yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(Duration.millis(tickMillis))))

  return { publish, hurry, inFlight: () => inFlight.size } satisfies DispatchPublisher
})

/** `{"stream":"TASKS","seq":7}`. A refusal carries an `error`; no stream at all answers with status 503 and no body. */
const isStored = (answer: Msg) => {
  const text = answer.string()
  return text.startsWith("{") && !text.includes('"error":')
}
