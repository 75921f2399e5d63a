/**
 * Publishes dispatch messages and watches over their acknowledgements: one long-lived inbox for all of them, because the
 * client's own request costs five times as much.
 *
 *   publish --> in flight --(stored)--> forgotten
 *                  |  ^ (refused, or no answer in time: again, under the same message id)
 *                  '--'--(`patience` is over)--> given up, counted
 *
 * Invariant: messages in flight are bounded in number and bytes, the same while NATS is away; what passes the bound is
 * dropped and counted. Repetition may reorder messages. Nothing waits for anything here.
 */
import { createInbox, headers, type Msg, type MsgHdrs } from "@nats-io/transport-node"
import { Context, Duration, Effect, Schedule } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"
import type { DispatchText } from "./DispatchCodec.ts"
import type { Nats } from "./Nats.ts"

export const DispatchLimits = Context.Reference<{
  /** Messages in flight. */
  readonly messagesMax: number
  /** Bytes (characters of JSON) in flight. */
  readonly bytesMax: number
  /** How long an acknowledgement is waited for before the message is published again; doubles with each repetition. */
  readonly ackPatience: Duration.Duration
  /** How long a message is tried for in all. Shorter than the stream's duplicate window. */
  readonly patience: Duration.Duration
}>("datamcp/bus/DispatchLimits", {
  defaultValue: () => ({
    messagesMax: 16_384,
    bytesMax: 64 * 1024 * 1024,
    ackPatience: Duration.seconds(2),
    patience: Duration.seconds(10)
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
  readonly reply: string
  readonly headers: MsgHdrs
  readonly giveUpAt: number
  /** Tick at which it is published again. */
  dueAt: number
  tries: number
}

/** Time is counted in ticks of the sweep: no clock is read per message, and no wall clock can jump. */
const tickMillis = 250

/** Lives in the scope. `onRefused` is called when JetStream takes no messages, as when the stream is gone. */
export const make = Effect.fnUntraced(function* (nats: Nats["Service"], onRefused: () => void) {
  const limits = yield* DispatchLimits
  const context = yield* Effect.context<never>()
  const ackTicks = Math.max(1, Math.ceil(Duration.toMillis(limits.ackPatience) / tickMillis))
  const patienceTicks = Math.max(1, Math.ceil(Duration.toMillis(limits.patience) / tickMillis))
  const inbox = createInbox()
  const inFlight = new Map<string, InFlight>()
  let bytes = 0
  let serial = 0
  let tick = 0

  const forget = (token: string, { message }: InFlight) => {
    inFlight.delete(token)
    bytes -= message.text.length
  }

  const drop = () => Metrics.busDropped({ kind: "dispatch" }).updateUnsafe(1, context)

  /** False when it can never be sent: it is larger than the server takes. */
  const send = (entry: InFlight): boolean => {
    const { headers, message, reply } = entry
    if (!nats.ready()) return true
    if (entry.tries > 0) Metrics.dispatchRepeated.updateUnsafe(1, context)
    entry.dueAt = tick + ackTicks * 2 ** entry.tries
    entry.tries++
    return nats.publish(message.subject, message.text, { headers, reply })
  }

  const publish = (message: DispatchText) => {
    if (inFlight.size >= limits.messagesMax || bytes + message.text.length > limits.bytesMax) return drop()
    const token = (serial++).toString(36)
    const reply = `${inbox}.${token}`
    const own = headers()
    // The same task may rightly be dispatched again later: the inbox and number tell that from a repetition.
    own.set("Nats-Msg-Id", `${message.firstTask}${reply}`)
    const entry = { message, reply, headers: own, giveUpAt: tick + patienceTicks, dueAt: tick, tries: 0 }
    if (!send(entry)) return drop()
    inFlight.set(token, entry)
    bytes += message.text.length
    Metrics.dispatchMessages.updateUnsafe(1, context)
    Metrics.dispatchTasks.updateUnsafe(message.tasks, context)
  }

  const answered = (error: Error | null, answer: Msg) => {
    if (error !== null) return
    const token = answer.subject.slice(inbox.length + 1)
    const entry = inFlight.get(token)
    if (entry === undefined) return
    if (isStored(answer)) return forget(token, entry)
    entry.dueAt = tick + 2 ** entry.tries
    onRefused()
  }

  const resend = (entry: InFlight, token: string) => {
    if (send(entry)) return
    forget(token, entry)
    drop()
  }

  const sweep = Effect.sync(() => {
    tick++
    for (const [token, entry] of inFlight) {
      if (entry.giveUpAt <= tick) {
        forget(token, entry)
        Metrics.dispatchGivenUp.updateUnsafe(1, context)
      } else if (entry.dueAt <= tick) resend(entry, token)
    }
  })

  const hurry = () => {
    for (const [token, entry] of inFlight) resend(entry, token)
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
