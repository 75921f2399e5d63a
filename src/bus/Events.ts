/**
 * Recorded events on their way to whoever watches: several in one message per namespace and kind, published without
 * waiting, heard through one subscription per namespace that somebody listens to. Who listens on this node is told at once,
 * and what comes back of it from the server is left unread.
 *
 * Invariant: what waits for the server is bounded, whether it is away or only slow; beyond it events are dropped and
 * counted. Loss and doubling are harmless, because events are numbered and Postgres has them.
 */
import { headers, nuid } from "@nats-io/transport-node"
import { Context, Effect, Result, Schema, type Scope } from "effect"
import { enable } from "effect/schema/SchemaJITCompiler"
import type { EventBatch } from "../../actors/ports/Bus.ts"
import { Event } from "../../protocol/Event.ts"
import type { Namespace } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import type { Evidence } from "./Evidence.ts"
import type { Nats } from "./Nats.ts"

export const EventLimits = Context.Reference<{
  /** Events of one message. */
  readonly eventsMax: number
  /** Bytes of one message; an event that is larger goes alone. */
  readonly messageBytesMax: number
  /** Bytes kept while the connection is down, to be sent once it is up. */
  readonly keptBytesMax: number
}>("datamcp/bus/EventLimits", {
  defaultValue: () => ({
    eventsMax: 250,
    messageBytesMax: 512 * 1024,
    keptBytesMax: 4 * 1024 * 1024
  })
})

export interface Events {
  readonly publish: (events: EventBatch) => Effect.Effect<void>
  readonly onEvents: (
    namespace: Namespace,
    handler: (events: EventBatch) => void
  ) => Effect.Effect<void, never, Scope.Scope>
}

interface Outgoing {
  readonly subject: string
  readonly text: string
  readonly events: number
}

/** Keeps and sends while the scope is open. */
export const make = Effect.fnUntraced(function* (nats: Nats["Service"], evidence: Evidence) {
  const limits = yield* EventLimits
  const context = yield* Effect.context<never>()
  let kept: Array<Outgoing> = []
  let keptBytes = 0

  const drop = () => Metrics.busDropped({ kind: "event" }).updateUnsafe(1, context)

  const origin = headers()
  const self = nuid.next()
  origin.set(originHeader, self)

  const send = (message: Outgoing) => {
    if (!nats.publish(message.subject, message.text, { headers: origin })) return drop()
    Metrics.busEventsPublished.updateUnsafe(message.events, context)
  }

  const keep = (message: Outgoing) => {
    if (keptBytes + message.text.length > limits.keptBytesMax) return drop()
    kept.push(message)
    keptBytes += message.text.length
  }

  yield* nats.onConnection((connected) => {
    if (!connected) return
    const waiting = kept
    kept = []
    keptBytes = 0
    for (const message of waiting) send(message)
  })

  const publish = (events: EventBatch) =>
    Effect.sync(() => {
      const out = nats.connected() ? send : keep
      for (const message of encode(events, limits)) out(message)
      for (const [namespace, group] of listeners) {
        const own = events.filter((event) => event.namespace === namespace)
        if (own.length > 0) tell(group, own)
      }
    })

  const tell = ({ handlers }: Listeners, events: EventBatch) => {
    for (const { handle } of handlers) evidence.guard("event", () => handle(events))
  }

  const listeners = new Map<Namespace, Listeners>()
  const listen = (namespace: Namespace): Listeners => {
    const handlers: Listeners["handlers"] = new Set()
    const subscription = nats.connection.subscribe(Subjects.events(namespace), {
      callback: (error, { data, headers: head, subject }) => {
        if (error !== null || head?.get(originHeader) === self) return
        const { events, reason } = decode(data, namespace)
        if (reason !== undefined) evidence.undecodable({ kind: "event", subject, bytes: data.length, reason })
        if (events.length === 0) return
        tell(opened, events)
      }
    })
    const opened = { handlers, close: () => subscription.unsubscribe() }
    listeners.set(namespace, opened)
    return opened
  }

  const onEvents = (namespace: Namespace, handle: (events: EventBatch) => void) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const entry = { handle }
        const group = listeners.get(namespace) ?? listen(namespace)
        group.handlers.add(entry)
        return { entry, group }
      }),
      ({ entry, group }) =>
        Effect.sync(() => {
          group.handlers.delete(entry)
          if (group.handlers.size > 0) return
          listeners.delete(namespace)
          group.close()
        })
      // A caller reads what was before after this: nothing may fall between.
    ).pipe(Effect.andThen(nats.flushed))

  return { publish, onEvents } satisfies Events
})

/** Says which node published a message. */
const originHeader = "Datamcp-Origin"

interface Listeners {
  readonly handlers: Set<{ readonly handle: (events: EventBatch) => void }>
  readonly close: () => void
}

const encode = (
  events: EventBatch,
  limits: { readonly eventsMax: number; readonly messageBytesMax: number }
): ReadonlyArray<Outgoing> => {
  const messages: Array<Outgoing> = []
  const groups = new Map<string, { subject: string; text: string; events: number; bytes: number }>()
  for (const event of events) {
    const subject = Subjects.event(event)
    const text = JSON.stringify(event)
    const bytes = Buffer.byteLength(text) + 1
    const group = groups.get(subject)
    if (group !== undefined && group.events < limits.eventsMax && group.bytes + bytes < limits.messageBytesMax) {
      group.text = `${group.text},${text}`
      group.events++
      group.bytes += bytes
      continue
    }
    if (group !== undefined) messages.push({ ...group, text: `[${group.text}]` })
    groups.set(subject, { subject, text, events: 1, bytes })
  }
  for (const group of groups.values()) messages.push({ ...group, text: `[${group.text}]` })
  return messages
}

/** The sound events of the namespace; a type that only a newer version knows is left out, and said. */
const decode = (
  data: Uint8Array,
  namespace: Namespace
): { readonly events: EventBatch; readonly reason: string | undefined } => {
  const message = decodeMessage(new TextDecoder().decode(data))
  if (Result.isFailure(message)) return { events: [], reason: "it is no list of events" }
  const events = message.success.filter(isEvent).filter((event) => event.namespace === namespace)
  return {
    events,
    reason: events.length === message.success.length ? undefined : "some of its events are of no type that we know"
  }
}

// Its data came out of the JSON parser, so it is JSON: no need to walk through it again.
const Sound = Event.mapFields((fields) => ({ ...fields, data: Schema.Unknown }))
const Message = Schema.fromJsonString(Schema.Array(Schema.Unknown))
enable(Sound.ast)
enable(Message.ast)
const matchesEvent = Schema.is(Sound)
const isEvent = (value: unknown): value is Event => matchesEvent(value)
const decodeMessage = Schema.decodeUnknownResult(Message)
