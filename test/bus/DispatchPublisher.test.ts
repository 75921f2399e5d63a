/** What becomes of a dispatch message whose acknowledgement comes, comes late, is a refusal, or never comes. */
import { expect, it } from "@effect/vitest"
import { createInbox, type Msg, type NatsConnection, type PublishOptions } from "@nats-io/transport-node"
import { Effect, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as DispatchPublisher from "../../src/bus/DispatchPublisher.ts"
import { Nats } from "../../src/bus/Nats.ts"
import { range } from "./BusFixture.ts"

/** A server that answers when the test says so. */
const makeServer = () => {
  const published: Array<{ readonly text: string; readonly reply: string; readonly id: string }> = []
  const handlers = new Set<(connected: boolean) => void>()
  let answer: (error: Error | null, message: Msg) => void = () => {}
  let isReady = true
  const reply = (index: number, text: string) =>
    answer(null, { subject: published[index]?.reply ?? createInbox(), string: () => text } as Msg)
  const connection = {
    subscribe: (_: string, options: { readonly callback: typeof answer }) => {
      answer = options.callback
      return { unsubscribe: () => {} }
    }
  } as unknown as NatsConnection
  const unused = () => {
    throw new Error("not for this test")
  }
  const nats = Nats.of({
    connection,
    get jetstream() {
      return unused()
    },
    get manager() {
      return unused()
    },
    connected: () => isReady,
    ready: () => isReady,
    publish: (_, payload, options?: PublishOptions) => {
      if (String(payload) === "too large") return false
      const id = options?.headers?.get("Nats-Msg-Id") ?? ""
      published.push({ text: String(payload), reply: options?.reply ?? "", id })
      return true
    },
    onConnection: (handler) => Effect.sync(() => handlers.add(handler)),
    request: unused,
    flushed: Effect.void
  })
  return {
    nats,
    published,
    texts: () => published.map(({ text }) => text),
    store: (index: number) => reply(index, '{"stream":"TASKS","seq":1}'),
    refuse: (index: number) => reply(index, '{"error":{"code":503},"stream":"TASKS","seq":0}'),
    connect: (connected: boolean) => {
      isReady = connected
      for (const handler of handlers) handler(connected)
    }
  }
}

const withServer = <E>(
  test: (
    server: ReturnType<typeof makeServer>,
    publisher: DispatchPublisher.DispatchPublisher,
    refusals: () => number
  ) => Effect.Effect<void, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const server = makeServer()
    let refusals = 0
    const publisher = yield* DispatchPublisher.make(server.nats, () => refusals++)
    yield* test(server, publisher, () => refusals)
  }).pipe(Effect.scoped)

const message = (text: string) => ({ subject: "task.default.a.normal", firstTask: "t", tasks: 1, text })

it.effect("is forgotten once it is stored", () =>
  withServer((server, publisher) =>
    Effect.gen(function* () {
      publisher.publish(message("a"))
      expect(publisher.inFlight()).toBe(1)
      server.store(0)
      expect(publisher.inFlight()).toBe(0)
      yield* TestClock.adjust("1 minute")
      expect(server.texts()).toEqual(["a"])
    })
  )
)

it.effect("is not said twice while answers come in order, however late", () =>
  withServer((server, publisher) =>
    Effect.gen(function* () {
      for (const index of range(10)) publisher.publish(message(String(index)))
      for (const index of range(10)) {
        yield* TestClock.adjust("1 second")
        server.store(index)
      }
      expect(server.published.length).toBe(10)
      expect(publisher.inFlight()).toBe(0)
    })
  )
)

it.effect("is said again, under the same id, when a later one was answered and it was not", () =>
  withServer((server, publisher) =>
    Effect.gen(function* () {
      for (const text of ["a", "b", "c"]) publisher.publish(message(text))
      server.store(0)
      server.store(2)
      yield* TestClock.adjust("4 seconds")
      expect(server.texts()).toEqual(["a", "b", "c", "b"])
      expect(server.published[3]?.id).toBe(server.published[1]?.id)
      expect(new Set(server.published.map(({ id }) => id)).size).toBe(3)
    })
  )
)

it.effect("is said again when nothing at all is answered, and given up in the end", () =>
  withServer((server, publisher) =>
    Effect.gen(function* () {
      publisher.publish(message("a"))
      yield* TestClock.adjust("4 seconds")
      expect(server.texts()).toEqual(["a", "a"])
      yield* TestClock.adjust("8 seconds")
      expect(publisher.inFlight()).toBe(0)
      const said = server.published.length
      yield* TestClock.adjust("1 minute")
      expect(server.published.length).toBe(said)
    })
  )
)

it.effect("that is refused is told of, and said again with growing patience", () =>
  withServer((server, publisher, refusals) =>
    Effect.gen(function* () {
      publisher.publish(message("a"))
      server.refuse(0)
      expect(refusals()).toBe(1)
      yield* TestClock.adjust("500 millis")
      expect(server.published.length).toBe(2)
      server.refuse(1)
      yield* TestClock.adjust("750 millis")
      expect(server.published.length).toBe(2)
      yield* TestClock.adjust("250 millis")
      expect(server.published.length).toBe(3)
      server.store(2)
      expect(publisher.inFlight()).toBe(0)
    })
  )
)

it.effect("waits while the connection is down, and goes out as soon as it is up", () =>
  withServer((server, publisher) =>
    Effect.gen(function* () {
      server.connect(false)
      publisher.publish(message("a"))
      yield* TestClock.adjust("5 seconds")
      expect(server.published).toEqual([])
      server.connect(true)
      expect(server.texts()).toEqual(["a"])
    })
  )
)

it.effect("that no server would take is dropped at once", () =>
  withServer((_, publisher) =>
    Effect.sync(() => {
      publisher.publish(message("too large"))
      expect(publisher.inFlight()).toBe(0)
    })
  )
)

it.effect("is dropped where as many or as much are under way as may be", () =>
  withServer((server, publisher) =>
    Effect.sync(() => {
      for (const text of ["12345", "12345", "1", "x"]) publisher.publish(message(text))
      expect(publisher.inFlight()).toBe(3)
      server.store(0)
      publisher.publish(message("123456"))
      expect(publisher.inFlight()).toBe(2)
      publisher.publish(message("12345"))
      expect(publisher.inFlight()).toBe(3)
    })
  ).pipe(
    Effect.updateService(DispatchPublisher.DispatchLimits, (limits) => ({ ...limits, messagesMax: 3, bytesMax: 11 }))
  )
)
