/** Webhooks and hooks of a whole node: real Postgres, real JetStream, and a real endpoint that is told of events. */
import { createHmac } from "node:crypto"
import { expect, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { runCli } from "../cli/runCli.ts"
import { askPort } from "../http/support/TestServer.ts"
import { RawNatsClient } from "../nats/RawNatsClient.ts"
import { type ServedPlatform, servePlatform } from "../nats/ServedPlatform.ts"
import { eventually, type Receiver, receiver, signaturesBy } from "./Receiver.ts"

class Rig extends Context.Service<Rig, { readonly platform: ServedPlatform; readonly receiver: Receiver }>()(
  "datamcp/test/webhooks/Rig"
) {
  static readonly layer = Layer.effect(
    Rig,
    Effect.gen(function* () {
      // The endpoint of the tests listens on the loopback.
      const platform = yield* servePlatform({ DATAMCP_WEBHOOKS_ALLOW_PRIVATE: "127.0.0.1" })
      return Rig.of({ platform, receiver: yield* receiver })
    })
  )
}

let names = 0
const fresh = (prefix: string) => `${prefix}-${++names}`

const clientOf = ({ key, url }: Pick<ServedPlatform, "key" | "url">) => {
  const port = Number(new URL(url).port)
  const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    askPort(port, {
      key,
      method,
      path: `/api/v1${path}`,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
    })
  const submit = async (label: string, payload: unknown = {}) => {
    const answer = await send("POST", "/tasks", { agent: "echo", payload, labels: { of: label } })
    expect(answer.status).toBe(202)
    return String(answer.json.id)
  }
  /** A webhook that is told of the ends of tasks with one label. */
  const define = async (receiving: Receiver, definition: Record<string, unknown> = {}) => {
    const label = fresh("label")
    const path = `/${label}`
    const answer = await send("POST", "/webhooks", {
      name: fresh("webhook"),
      url: receiving.url(path),
      filter: { events: ["TaskCompleted"], labels: { of: label } },
      retry: { max_attempts: 5, delay_ms: 20, factor: 1, jitter: 0 },
      ...definition
    })
    expect({ status: answer.status, text: answer.text }).toMatchObject({ status: 201 })
    return { label, path, id: String(answer.json.id), secret: String(answer.json.secret), view: answer.json }
  }
  const log = async (id: string, query = "") => (await send("GET", `/webhooks/${id}/deliveries${query}`)).json.data
  return { port, send, submit, define, log }
}

const onRig = <A>(
  test: (client: ReturnType<typeof clientOf>, receiving: Receiver, platform: ServedPlatform) => Promise<A>
) => Effect.flatMap(Rig, ({ platform, receiver }) => Effect.promise(() => test(clientOf(platform), receiver, platform)))

layer(Rig.layer, { excludeTestServices: true, timeout: "60 seconds" })("a webhook", (it) => {
  it.effect("is told of what its filter wants, signed, with results where it asked for them", () =>
    onRig(async ({ define, log, send, submit }, receiving) => {
      const { id, label, path, secret } = await define(receiving, { include_result: true })
      await submit("another label")
      const task = await submit(label, { hello: "wörld" })
      await eventually("the event", () => receiving.at(path).length > 0)
      const [got] = receiving.at(path)
      if (got === undefined) throw new Error("nothing came")
      expect(got).toMatchObject({
        method: "POST",
        headers: { "content-type": "application/json", "user-agent": "datamcp-webhooks" },
        json: {
          type: "TaskCompleted",
          data: {
            event: { kind: "task", aggregate: task, namespace: "default", type: "TaskCompleted" },
            task: { id: task, labels: { of: label }, result: { success: true, data: { echo: { hello: "wörld" } } } }
          }
        }
      })
      expect(signaturesBy(secret, got)).toBe(1)
      expect(Math.abs(Number(got.headers["webhook-timestamp"]) - Date.now() / 1000)).toBeLessThan(30)
      await eventually("the log", async () => (await log(id))[0]?.status === "delivered")
      expect(await log(id)).toMatchObject([
        { id: got.headers["webhook-id"], event: "TaskCompleted", aggregate: task, attempt: 1, response_status: 204 }
      ])
      const shown = await send("GET", `/webhooks/${id}`)
      expect(shown.text).not.toContain("whsec_")
      expect(receiving.at(path)).toHaveLength(1)
    })
  )

  it.effect("gets a failed delivery again under the same id, no sooner than its Retry-After says", () =>
    onRig(async ({ define, log, submit }, receiving) => {
      const { id, label, path } = await define(receiving)
      receiving.answer(path, (count) =>
        count === 1 ? { status: 500 } : count === 2 ? { status: 503, headers: { "retry-after": "1" } } : { status: 200 }
      )
      await submit(label)
      await eventually("three attempts", () => receiving.at(path).length === 3)
      const got = receiving.at(path)
      expect(new Set(got.map(({ headers }) => headers["webhook-id"])).size).toBe(1)
      expect(new Set(got.map(({ text }) => text)).size).toBe(1)
      expect((got[2]?.at ?? 0) - (got[1]?.at ?? 0)).toBeGreaterThan(990)
      await eventually("the log", async () => (await log(id))[0]?.status === "delivered")
      const [entry] = await log(id)
      expect(entry).toMatchObject({ attempt: 3, response_status: 200, error: null })
      expect(entry.history).toMatchObject([
        { attempt: 1, response_status: 500, error: "500" },
        { attempt: 2, response_status: 503 },
        { attempt: 3, response_status: 200, error: null }
      ])
    })
  )

  it.effect("that is slow keeps no other waiting, and never gets more at a time than it allows", () =>
    onRig(async ({ define, submit }, receiving) => {
      const slow = await define(receiving, { concurrency: 2, timeout_ms: 10_000 })
      const fast = await define(receiving, { filter: { events: ["TaskCompleted"], labels: { of: slow.label } } })
      receiving.answer(slow.path, () => ({ delayMillis: 3_000 }))
      const begun = performance.now()
      for (let count = 0; count < 12; count++) await submit(slow.label)
      await eventually("the fast one's", () => receiving.at(fast.path).length === 12)
      expect(performance.now() - begun).toBeLessThan(2_900)
      expect(receiving.at(slow.path).length).toBeLessThanOrEqual(2)
    })
  )

  it.effect("is disabled when its endpoint is gone, which others are told of, and can be enabled again", () =>
    onRig(async ({ define, send, submit }, receiving) => {
      const watcher = await define(receiving, { filter: { events: ["WebhookDisabled", "WebhookEnabled"] } })
      const { id, label, path, view } = await define(receiving)
      receiving.answer(path, (count) => (count === 1 ? { status: 410 } : { status: 204 }))
      await submit(label)
      const state = async () => (await send("GET", `/webhooks/${id}`)).json
      await eventually("disabled", async () => (await state()).enabled === false)
      expect(await state()).toMatchObject({ disabled_reason: "gone", version: 2 })
      await submit(label)
      await eventually("the watcher", () => receiving.at(watcher.path).length > 0)
      expect(receiving.at(watcher.path)[0]?.json.data).toMatchObject({
        event: {
          type: "WebhookDisabled",
          kind: "webhook",
          aggregate: id,
          number: 2,
          data: { reason: "gone", name: view.name }
        },
        task: null
      })
      expect((await send("POST", `/webhooks/${id}/enable`)).json).toMatchObject({
        enabled: true,
        disabled_reason: null
      })
      const after = await submit(label)
      await eventually("the next event", () => receiving.at(path).length > 1)
      expect(receiving.at(path)[1]?.json.data.task.id).toBe(after)
    })
  )

  it.effect("is disabled after so many failed deliveries in a row", () =>
    onRig(async ({ define, log, send, submit }, receiving) => {
      const retry = { max_attempts: 2, delay_ms: 1, jitter: 0 }
      const { id, label, path } = await define(receiving, { disable_after: 3, concurrency: 1, retry })
      receiving.answer(path, (count) => ({ status: count <= 2 || count > 3 ? 500 : 200 }))
      const until = async (failures: number) =>
        eventually(
          `${failures} failures`,
          async () => (await send("GET", `/webhooks/${id}`)).json.failures === failures
        )
      await submit(label)
      await until(1)
      await submit(label)
      await until(0)
      for (let count = 0; count < 3; count++) await submit(label)
      await eventually("disabled", async () => !(await send("GET", `/webhooks/${id}`)).json.enabled)
      expect((await send("GET", `/webhooks/${id}`)).json).toMatchObject({ disabled_reason: "failures", failures: 3 })
      expect((await log(id, "?status=failed")).length).toBe(4)
      const replay = await send("POST", `/webhooks/${id}/replay`, { since: "2026-01-01T00:00:00Z" })
      expect(replay.json).toMatchObject({ status: 409, reason: "state" })
    })
  )

  it.effect("is signed with both secrets while the old one is good", () =>
    onRig(async ({ define, send, submit }, receiving) => {
      const { id, label, path, secret } = await define(receiving)
      const rotated = await send("POST", `/webhooks/${id}/rotate`, { overlap_ms: 1_500 })
      expect(rotated.headers["cache-control"]).toBe("no-store")
      expect(rotated.json.previous_secret_until).toMatch(/Z$/u)
      const next = String(rotated.json.secret)
      await submit(label)
      await eventually("both", () => receiving.at(path).length === 1)
      const [both] = receiving.at(path)
      expect(both === undefined ? [] : [signaturesBy(secret, both), signaturesBy(next, both)]).toEqual([1, 1])
      await eventually(
        "the end of the old one",
        async () => (await send("GET", `/webhooks/${id}`)).json.previous_secret_until === null
      )
      await submit(label)
      await eventually("one", () => receiving.at(path).length === 2)
      const [, one] = receiving.at(path)
      expect(one === undefined ? [] : [signaturesBy(secret, one), signaturesBy(next, one)]).toEqual([0, 1])
    })
  )

  it.effect("is sent ended deliveries again, one or those of a time", () =>
    onRig(async ({ define, log, send, submit }, receiving) => {
      const retry = { max_attempts: 1 }
      const { id, label, path } = await define(receiving, { retry, disable_after: 100 })
      receiving.answer(path, (count) => ({ status: count <= 3 ? 500 : 200 }))
      for (let count = 0; count < 3; count++) await submit(label)
      await eventually("three failed", async () => (await log(id, "?status=failed")).length === 3)
      const [last] = await log(id)
      const again = await send("POST", `/webhooks/${id}/deliveries/${last.id}/replay`)
      expect([again.status, again.json.status]).toEqual([200, "pending"])
      await eventually("one delivered", async () => (await log(id, "?status=delivered")).length === 1)
      expect(receiving.at(path)[3]?.headers["webhook-id"]).toBe(last.id)
      const range = await send("POST", `/webhooks/${id}/replay`, {
        since: "2026-01-01T00:00:00Z",
        until: "2026-01-02T00:00:00Z"
      })
      expect(range.json).toEqual({ replayed: 0, more: false })
      const all = await send("POST", `/webhooks/${id}/replay`, { since: "2026-01-01T00:00:00Z" })
      expect(all.json).toEqual({ replayed: 2, more: false })
      await eventually("all delivered", async () => (await log(id, "?status=delivered")).length === 3)
      const pages = [await send("GET", `/webhooks/${id}/deliveries?limit=2`)]
      pages.push(await send("GET", `/webhooks/${id}/deliveries?limit=2&cursor=${pages[0]?.json.next_cursor}`))
      expect(pages.map(({ json }) => json.data.length)).toEqual([2, 1])
      expect((await send("POST", `/webhooks/${id}/deliveries/${id}/replay`)).json).toMatchObject({
        type: "urn:datamcp:problem:delivery-not-found"
      })
    })
  )

  it.effect("answers what became of a ping, also while it is disabled", () =>
    onRig(async ({ define, send }, receiving) => {
      const { id, path, secret } = await define(receiving, { enabled: false, timeout_ms: 300 })
      expect((await send("POST", `/webhooks/${id}/test`)).json).toMatchObject({
        event: "Ping",
        status: "delivered",
        response_status: 204
      })
      const [ping] = receiving.at(path)
      expect(ping?.json).toMatchObject({ type: "Ping", data: { webhook_id: id } })
      expect(ping === undefined ? 0 : signaturesBy(secret, ping)).toBe(1)
      receiving.answer(path, () => ({ status: 302, headers: { location: receiving.url("/elsewhere") } }))
      expect((await send("POST", `/webhooks/${id}/test`)).json).toMatchObject({
        status: "failed",
        response_status: 302,
        error: "302: redirects are not followed"
      })
      expect(receiving.at("/elsewhere")).toEqual([])
      receiving.answer(path, () => ({ delayMillis: 2_000 }))
      const late = await send("POST", `/webhooks/${id}/test`)
      expect(late.json).toMatchObject({ status: "failed", response_status: null })
      expect(late.json.error).toContain("took longer than 300ms")
      expect((await send("GET", `/webhooks/${id}`)).json).toMatchObject({ failures: 0, enabled: false })
    })
  )

  it.effect("refuses what breaks a rule, names the field, and stores nothing", () =>
    onRig(async ({ define, send }, receiving) => {
      const { id, view } = await define(receiving)
      const url = receiving.url("/")
      const count = async () => (await send("GET", "/webhooks?limit=500")).json.data.length
      const before = await count()
      const refusals: ReadonlyArray<readonly [unknown, string]> = [
        [{ name: "a b", url }, "name"],
        [{ name: "x", url: "ftp://example.com/" }, "url"],
        [{ name: "x", url: "http://127.1/" }, "url"],
        [{ name: "x", url: "http://0x7f000001/" }, "url"],
        [{ name: "x", url: "http://[::1]/" }, "url"],
        [{ name: "x", url: "http://[::ffff:169.254.169.254]/" }, "url"],
        [{ name: "x", url: "http://169.254.169.254/latest/meta-data" }, "url"],
        [{ name: "x", url: "http://10.0.0.1/" }, "url"],
        [{ name: "x", url: "https://user:secret@example.com/" }, "url"],
        [{ name: "x", url, filter: { events: ["Nothing"] } }, "filter.events.0"],
        [{ name: "x", url, filter: { agent: "nobody" } }, "filter.agent"],
        [{ name: "x", url, concurrency: 33 }, "concurrency"],
        [{ name: "x", url, timeout_ms: 10_001 }, "timeout_ms"],
        [{ name: "x", url, secret: "whsec_" }, "secret"]
      ]
      for (const [body, field] of refusals) {
        const answer = await send("POST", "/webhooks", body)
        expect([body, answer.status, answer.json.errors?.[0]?.field]).toEqual([body, 422, field])
      }
      expect(await count()).toBe(before)
      expect((await send("POST", "/webhooks", { name: view.name, url })).json).toMatchObject({ reason: "name-taken" })
      expect((await send("PUT", `/webhooks/${id}`, { url: "http://10.0.0.1/" })).status).toBe(422)
      const stale = await send("PUT", `/webhooks/${id}`, { description: "d" }, { "if-match": '"9"' })
      expect(stale.json).toMatchObject({ status: 409, current_version: 1 })
      expect((await send("PUT", `/webhooks/${id}`, { description: "d" }, { "if-match": '"1"' })).json).toMatchObject({
        description: "d",
        version: 2,
        filter: view.filter
      })
      expect((await send("DELETE", `/webhooks/${id}`)).status).toBe(204)
      expect((await send("GET", `/webhooks/${id}`)).json).toMatchObject({
        type: "urn:datamcp:problem:webhook-not-found"
      })
    })
  )

  it.effect("belongs to its namespace, and needs the permissions of webhooks", () =>
    onRig(async ({ define, send }, receiving, platform) => {
      const { id } = await define(receiving)
      const keyOf = async (body: unknown) => String((await send("POST", "/api-keys", body)).json.key)
      const viewer = clientOf({ ...platform, key: await keyOf({ name: "v", role: "viewer" }) })
      expect((await viewer.send("GET", `/webhooks/${id}`)).status).toBe(200)
      expect((await viewer.send("POST", `/webhooks/${id}/test`)).json).toMatchObject({ permission: "webhook:write" })
      const user = clientOf({ ...platform, key: await keyOf({ name: "u", role: "api_user" }) })
      expect((await user.send("GET", "/webhooks")).json).toMatchObject({ permission: "webhook:read" })
      const other = clientOf({ ...platform, key: await keyOf({ name: "o", role: "admin", namespace: "other" }) })
      expect((await other.send("GET", `/webhooks/${id}`)).status).toBe(404)
      expect((await other.send("GET", `/webhooks/${id}/deliveries`)).status).toBe(404)
      expect((await other.send("POST", `/webhooks/${id}/rotate`)).status).toBe(404)
      expect((await other.send("DELETE", `/webhooks/${id}`)).status).toBe(404)
      expect((await other.send("GET", "/webhooks")).json.data).toEqual([])
    })
  )

  it.effect(
    "is managed over NATS and from the command line too",
    () =>
      onRig(async ({ define, send }, receiving, platform) => {
        const { id, view } = await define(receiving)
        const nats = await RawNatsClient.open(platform.nats.natsUrl)
        const ask = async (endpoint: string, body: unknown) => {
          const headers = { Authorization: `Bearer ${platform.key}` }
          const answer = await nats.request(`datamcp.v1.default.${endpoint}`, JSON.stringify(body), headers)
          return answer.json
        }
        expect(await ask("webhooks.get", { id })).toMatchObject({ name: view.name })
        expect(await ask("webhooks.update", { id, description: "over NATS" })).toMatchObject({ version: 2 })
        expect(await ask("webhooks.test", { id })).toMatchObject({ status: "delivered" })
        expect(await ask("webhooks.deliveries", { id })).toMatchObject({ data: [{ event: "Ping" }] })
        expect(await ask("webhooks.replay", { id, since: "2026-01-01T00:00:00Z" })).toEqual({
          replayed: 0,
          more: false
        })
        expect(await ask("webhooks.disable", { id })).toMatchObject({ enabled: false, disabled_reason: "asked" })
        expect(await ask("hooks.list", {})).toMatchObject({ next_cursor: null })
        nats.close()

        const env = { DATAMCP_URL: platform.url, DATAMCP_API_KEY: platform.key }
        const cli = async (...args: ReadonlyArray<string>) => {
          const run = await Effect.runPromise(runCli([...args, "--json"], { env }))
          return { ...run, json: JSON.parse(run.stdout) }
        }
        const made = await cli("webhooks", "create", fresh("cli"), receiving.url("/cli"), "--event", "TaskFailed")
        expect(made).toMatchObject({ code: 0, json: { secret: expect.stringMatching(/^whsec_/u) } })
        expect((await cli("webhooks", "list")).json.data.length).toBeGreaterThan(1)
        expect((await cli("webhooks", "test", made.json.id)).json).toMatchObject({ status: "delivered" })
        expect((await cli("webhooks", "deliveries", made.json.id)).json.data).toHaveLength(1)
        expect((await cli("webhooks", "update", made.json.id, "--concurrency", "1")).json).toMatchObject({
          concurrency: 1,
          filter: { events: ["TaskFailed"] }
        })
        expect((await cli("webhooks", "rotate", made.json.id, "--overlap", "1m")).json.secret).not.toBe(
          made.json.secret
        )
        expect((await cli("webhooks", "create", fresh("cli"), "http://127.1/")).code).toBe(1)
        expect((await cli("webhooks", "delete", made.json.id)).code).toBe(0)
        expect((await send("GET", `/webhooks/${made.json.id}`)).status).toBe(404)
        const hook = await cli("hooks", "create", fresh("cli"), "--task", '{"agent":"echo","payload":{"$body":""}}')
        const called = await askPort(Number(new URL(platform.url).port), {
          ...{ key: null, method: "POST", path: hook.json.path, body: '{"by":"cli"}' },
          headers: { "content-type": "application/json" }
        })
        expect([called.status, called.json.duplicate]).toEqual([202, false])
        expect((await cli("hooks", "disable", hook.json.id)).json.enabled).toBe(false)
        expect((await cli("hooks", "delete", hook.json.id)).code).toBe(0)
      }),
    60_000
  )

  it.effect("never has its secret in the log of the node", () =>
    onRig(async ({ define }, receiving, platform) => {
      const { secret } = await define(receiving)
      expect(platform.logs()).not.toContain(secret.slice(6))
      expect(platform.logs()).not.toContain("whsec_")
    })
  )
})

layer(Rig.layer, { excludeTestServices: true, timeout: "60 seconds" })("a hook", (it) => {
  const task = {
    agent: "echo",
    name: { $text: ["push to ", { $body: "/ref" }] },
    labels: { kind: { $header: "x-kind", default: "none" } },
    payload: { first: { $body: "/commits/0/id" }, all: { $body: "" }, as: { $literal: { $body: "/ref" } } }
  }
  const body = { ref: "main", commits: [{ id: "c1" }] }

  it.effect("submits a task from its template for who knows its secret, once per id of the request", () =>
    onRig(async ({ port, send }) => {
      const made = await send("POST", "/hooks", { name: fresh("hook"), authentication: "secret", task })
      expect(made.status).toBe(201)
      const path = String(made.json.path)
      expect(path).toBe(`/api/v1/hooks/${made.json.id}/${made.json.secret}`)
      const call = (to: string, sent: unknown, headers: Record<string, string> = {}) =>
        askPort(port, {
          ...{ key: null, method: "POST", path: to, body: typeof sent === "string" ? sent : JSON.stringify(sent) },
          headers: { "content-type": "application/json", ...headers }
        })
      const first = await call(path, body, { "webhook-id": "m1", "x-kind": "push" })
      expect([first.status, first.json]).toMatchObject([202, { duplicate: false }])
      const again = await call(path, body, { "webhook-id": "m1", "x-kind": "push" })
      expect(again.json).toMatchObject({ task_id: first.json.task_id, duplicate: true })
      expect((await call(path, { ...body, ref: "other" }, { "webhook-id": "m1" })).status).toBe(422)
      const done = await send("GET", `/tasks/${first.json.task_id}?wait=20s`)
      expect(done.json).toMatchObject({
        name: "push to main",
        labels: { kind: "push" },
        payload: { first: "c1", all: body, as: { $body: "/ref" } },
        status: "completed"
      })
      const events = await send("GET", `/tasks/${first.json.task_id}/events`)
      expect(events.json.data[0]).toMatchObject({ type: "TaskCreated", actor: `hook:${made.json.id}` })

      const missing = await call(path, { ref: "main" })
      expect([missing.status, missing.json.errors?.[0]?.field]).toEqual([422, "body/commits/0/id"])
      expect((await call(path, "{")).status).toBe(400)
      expect((await call(path, body, { "content-type": "text/plain" })).status).toBe(415)
      expect((await call(path, { ...body, fill: "x".repeat(256 * 1024) })).status).toBe(413)

      const wrong = await call(`${path.slice(0, -1)}${path.endsWith("A") ? "B" : "A"}`, body)
      const unknown = await call(`/api/v1/hooks/01900000-0000-7000-8000-000000000000/${made.json.secret}`, body)
      const unsigned = await call(`/api/v1/hooks/${made.json.id}`, body)
      const none = await call("/api/v1/hooks/x/y", body)
      const said = [wrong, unknown, unsigned, none].map(({ json, status }) => [status, json.type, json.detail])
      expect(new Set(said.map((each) => JSON.stringify(each))).size).toBe(1)
      expect(said[0]?.[0]).toBe(404)

      const rotated = await send("POST", `/hooks/${made.json.id}/rotate`)
      expect((await call(path, body)).status).toBe(404)
      expect((await call(rotated.json.path, body)).status).toBe(202)
      await send("PUT", `/hooks/${made.json.id}`, { enabled: false })
      expect((await call(rotated.json.path, body)).status).toBe(404)
      expect((await send("GET", `/hooks/${made.json.id}`)).text).not.toContain(rotated.json.secret)
      expect((await send("DELETE", `/hooks/${made.json.id}`)).status).toBe(204)
    })
  )

  it.effect("takes requests that are signed as Standard Webhooks or GitHub sign them", () =>
    onRig(async ({ port, send }) => {
      const define = async (authentication: string, secret?: string) =>
        (
          await send("POST", "/hooks", {
            ...{ name: fresh("hook"), authentication, task: { agent: "echo", payload: { $body: "" } } },
            ...(secret === undefined ? {} : { secret })
          })
        ).json
      const call = (path: string, text: string, headers: Record<string, string>) =>
        askPort(port, {
          ...{ key: null, method: "POST", path, body: text },
          headers: { "content-type": "application/json", ...headers }
        })

      const github = await define("github", "the secret of a repository")
      const text = '{"zen":  "Keep it logically awesome."}'
      const signature = `sha256=${createHmac("sha256", "the secret of a repository").update(text).digest("hex")}`
      const delivery = { "x-github-delivery": "d1", "x-hub-signature-256": signature }
      const pushed = await call(github.path, text, delivery)
      expect([pushed.status, pushed.json.duplicate]).toEqual([202, false])
      expect((await call(github.path, text, delivery)).json.duplicate).toBe(true)
      expect((await call(github.path, `${text} `, delivery)).status).toBe(404)
      expect((await call(github.path, text, {})).status).toBe(404)

      const standard = await define("standard")
      const key = Buffer.from(String(standard.secret).slice(6), "base64")
      const signed = (id: string, seconds: number) => ({
        "webhook-id": id,
        "webhook-timestamp": String(seconds),
        "webhook-signature": `v1,AAAA v1,${createHmac("sha256", key).update(`${id}.${seconds}.${text}`).digest("base64")}`
      })
      const now = Math.floor(Date.now() / 1000)
      expect((await call(standard.path, text, signed("m1", now))).status).toBe(202)
      expect((await call(standard.path, text, signed("m2", now - 600))).status).toBe(404)
      expect((await call(standard.path, text, { ...signed("m3", now), "webhook-id": "m4" })).status).toBe(404)
    })
  )

  it.effect("refuses templates that it cannot fill, and requests above its rate", () =>
    onRig(async ({ port, send }) => {
      const refusals: ReadonlyArray<readonly [unknown, string]> = [
        [{ agent: "echo", payload: { $eval: "1 + 1" } }, "task.payload.$eval"],
        [{ agent: "echo", payload: { $body: "no pointer" } }, "task.payload.$body"],
        [{ agent: "echo", payload: { $body: "/a", also: 1 } }, "task.payload.also"],
        [{ agent: "echo", payload: { $header: "Authorization" } }, "task.payload.$header"],
        [{ agent: "echo", name: { $text: [1] } }, "task.name.$text"],
        [{ agent: "echo", idempotency_key: "k" }, "task.idempotency_key"],
        [{ agent: "echo", priority: "urgent" }, "task.priority"],
        [{ agent: "echo", unknown: 1 }, "task.unknown"]
      ]
      for (const [template, field] of refusals) {
        const answer = await send("POST", "/hooks", { name: fresh("hook"), authentication: "secret", task: template })
        expect([template, answer.status, answer.json.errors?.[0]?.field]).toEqual([template, 422, field])
      }
      const wrongSecret = { name: fresh("hook"), authentication: "standard", task: {}, secret: "not a whsec secret" }
      expect((await send("POST", "/hooks", wrongSecret)).json.errors[0].field).toBe("secret")

      const busy = await send("POST", "/hooks", {
        ...{ name: fresh("hook"), authentication: "secret", task: { agent: "echo" }, per_minute: 60 }
      })
      const call = () =>
        askPort(port, {
          ...{ key: null, method: "POST", path: busy.json.path, body: "{}" },
          headers: { "content-type": "application/json" }
        })
      const statuses = new Set<number>()
      let last = await call()
      for (let count = 0; count < 20 && last.status !== 429; count++) {
        statuses.add(last.status)
        last = await call()
      }
      expect([...statuses]).toEqual([202])
      expect([last.status, last.headers["retry-after"]]).toEqual([429, "1"])
    })
  )
})
