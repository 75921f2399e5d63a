/** Where a delivery may go: the guard judges the address of the socket, however it was written, resolved or redirected to. */
import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { describe } from "vitest"
import { HostResolver, networkPolicy, type ResolvedAddress } from "../../actors/behaviours/AddressGuard.ts"
import { DeliveryId, Namespace, WebhookId } from "../../protocol/Ids.ts"
import type { ClaimedDelivery } from "../../src/ledger/WebhookDeliveries.ts"
import { refusedAddress, WebhookNetwork } from "../../src/webhooks/WebhookNetwork.ts"
import { WebhookSender } from "../../src/webhooks/WebhookSender.ts"
import { receiver } from "./Receiver.ts"

const id = "01900000-0000-7000-8000-000000000001"

const to = (url: string, over: Partial<ClaimedDelivery> = {}): ClaimedDelivery => ({
  id: DeliveryId.make(id),
  webhook_id: WebhookId.make(id),
  namespace: Namespace.make("default"),
  event: "TaskCompleted",
  body: "{}",
  attempt: 1,
  attempts_until: 1,
  remaining_ms: 1_000,
  url,
  secret: new Uint8Array(32),
  previous_secret: null,
  retry: {},
  timeout_ms: 2_000,
  ...over
})

/** Sends to a port of the loopback through names that resolve as `hosts` says. */
const sending = (options: {
  readonly allowed: ReadonlyArray<string>
  readonly hosts: Readonly<Record<string, ReadonlyArray<ResolvedAddress>>>
}) =>
  WebhookSender.layer.pipe(
    Layer.provide([
      Layer.succeed(WebhookNetwork, networkPolicy({ allow_private: options.allowed })),
      Layer.succeed(HostResolver, (name) => Promise.resolve(options.hosts[name] ?? []))
    ])
  )

const hosts = {
  "rebound.example": [{ address: "127.0.0.1", family: 4 }],
  "mixed.example": [
    { address: "93.184.215.14", family: 4 },
    { address: "127.0.0.1", family: 4 }
  ],
  "mapped.example": [{ address: "::ffff:127.0.0.1", family: 6 }],
  "metadata.example": [{ address: "169.254.169.254", family: 4 }]
}

describe("a delivery", () => {
  it.live("reaches no private address by any spelling or name", () =>
    Effect.gen(function* () {
      const endpoint = yield* receiver
      const sender = yield* WebhookSender
      for (const host of [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        ...Object.keys(hosts)
      ]) {
        const sent = yield* sender.send(to(`http://${host}:${endpoint.port}/`))
        expect([host, sent.responseStatus, sent.error]).toEqual([host, undefined, `its URL ${refusedAddress}`])
      }
      // Other spellings of an address are no URL that is sent to at all.
      for (const host of ["127.1", "0x7f.1", "2130706433", "0177.0.0.1"]) {
        const sent = yield* sender.send(to(`http://${host}:${endpoint.port}/`))
        expect([host, sent.responseStatus]).toEqual([host, undefined])
        expect(sent.error).toContain("must spell the address as 127.0.0.1")
      }
      expect(endpoint.at("/")).toEqual([])
    }).pipe(Effect.provide(sending({ allowed: [], hosts })))
  )

  it.live("follows no redirect, reads a bounded part of the answer, and waits a bounded time", () =>
    Effect.gen(function* () {
      const endpoint = yield* receiver
      const sender = yield* WebhookSender
      for (const location of ["http://169.254.169.254/latest", endpoint.url("/private")]) {
        endpoint.answer("/redirects", () => ({ status: 307, headers: { location } }))
        const sent = yield* sender.send(to(endpoint.url("/redirects")))
        expect(sent).toMatchObject({ responseStatus: 307, error: "307: redirects are not followed" })
      }
      expect(endpoint.at("/private")).toEqual([])

      endpoint.answer("/large", () => ({ status: 200, body: "x".repeat(10 * 1024 * 1024) }))
      expect(yield* sender.send(to(endpoint.url("/large")))).toMatchObject({ responseStatus: 200, error: undefined })

      endpoint.answer("/slow", () => ({ delayMillis: 5_000 }))
      const late = yield* sender.send(to(endpoint.url("/slow"), { timeout_ms: 200 }))
      expect(late.responseStatus).toBeUndefined()
      expect(late.error).toContain("took longer than 200ms")
      expect(late.durationMillis).toBeLessThan(2_000)

      const closed = yield* sender.send(to("http://127.0.0.1:9/"))
      expect(closed).toMatchObject({
        responseStatus: undefined,
        error: expect.stringContaining("could not be reached")
      })
    }).pipe(Effect.provide(sending({ allowed: ["127.0.0.1"], hosts: {} })))
  )

  it.live("reaches what the operator allows, by name as well, and nothing beside it", () =>
    Effect.gen(function* () {
      const endpoint = yield* receiver
      const sender = yield* WebhookSender
      const url = (host: string) => `http://${host}:${endpoint.port}/`
      expect(yield* sender.send(to(url("hooks.internal")))).toMatchObject({ responseStatus: 204 })
      expect(yield* sender.send(to(url("other.internal")))).toMatchObject({ responseStatus: undefined })
      expect(endpoint.at("/")).toHaveLength(1)
    }).pipe(
      Effect.provide(
        sending({
          allowed: ["hooks.internal"],
          hosts: {
            "hooks.internal": [{ address: "127.0.0.1", family: 4 }],
            "other.internal": [{ address: "127.0.0.1", family: 4 }]
          }
        })
      )
    )
  )
})
