/** Who may ask what: every route of the contract, without a key, with wrong ones, and with each role's. */
import { describe, expect, it } from "vitest"
import { keys } from "./support/MemoryApp.ts"
import { openGroups, routes, unknownId } from "./support/routes.ts"
import { serverOfFile } from "./support/TestServer.ts"

const server = serverOfFile()

const jsonHeaders = { "content-type": "application/json" }
const bodyOf = (body: unknown) => (body === undefined ? {} : { body: JSON.stringify(body), headers: jsonHeaders })

describe("without a key", () => {
  it.each(routes.filter(({ group }) => group === "health"))("$name answers", async ({ method, path }) => {
    expect((await server().ask({ method, path, key: null })).status).toBe(200)
  })

  it.each(routes.filter(({ group }) => !openGroups.has(group)))("$name answers 401", async ({ body, method, path }) => {
    const answer = await server().ask({ method, path, key: null, ...bodyOf(body) })
    expect(answer.status).toBe(401)
    expect(answer.headers["content-type"]).toBe("application/problem+json")
    expect(answer.headers["www-authenticate"]).toMatch(/^(Bearer|Basic) realm="datamcp"/u)
    expect(answer.json).toMatchObject({ type: "urn:datamcp:problem:unauthenticated", status: 401, instance: path })
  })
})

describe("with a key that is none", () => {
  it.each([
    "Bearer dma_unknownunknown1_x",
    "Bearer",
    "Bearer ",
    "bearer\tdma_adminadminadmin1_secret",
    `Bearer ${keys.admin} ${keys.admin}`,
    `Bearer ${keys.admin.toUpperCase()}`,
    `Bearer ${keys.admin.slice(0, -1)}`,
    keys.admin,
    `Token ${keys.admin}`,
    `Basic ${Buffer.from(`x:${keys.admin}`).toString("base64")}`,
    `Bearer ${"x".repeat(8_000)}`
  ])("%j is refused by every route that demands a bearer", async (authorization) => {
    for (const { body, method, path, group } of routes) {
      if (openGroups.has(group) || group === "system") continue
      const { headers, ...sent } = { headers: {}, ...bodyOf(body) }
      const answer = await server().ask({ method, path, key: null, ...sent, headers: { ...headers, authorization } })
      expect([method, path, answer.status]).toEqual([method, path, 401])
    }
  })

  it.each(["api_key", "key", "access_token", "x"])(
    "a key in the query parameter %s is refused, header or not",
    async (name) => {
      for (const key of [null, keys.admin]) {
        const answer = await server().ask({ path: `/api/v1/tasks?${name}=${keys.admin}`, key })
        expect(answer.status).toBe(401)
        expect(answer.json.detail).toMatch(/URL shows an API key/u)
        expect(answer.text).not.toContain(keys.admin)
      }
    }
  )

  it("a revoked key is refused", async () => {
    expect((await server().ask({ path: "/api/v1/me", key: keys.viewer })).status).toBe(200)
    server().state.revoked.add(keys.viewer)
    expect((await server().ask({ path: "/api/v1/me", key: keys.viewer })).status).toBe(401)
    server().state.revoked.delete(keys.viewer)
  })

  it("nobody gets in when keys cannot be checked", async () => {
    const answer = await server().ask({ path: "/api/v1/me", key: keys.away })
    expect(answer.status).toBe(503)
    expect(answer.headers["retry-after"]).toBe("3")
    expect(answer.json).toMatchObject({ type: "urn:datamcp:problem:unavailable", retry_after_seconds: 2.5 })
  })
})

describe("pages that a browser opens", () => {
  const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString("base64")}` })

  it.each(["/docs", "/openapi.json", "/metrics"])(
    "%s asks the browser for a key and takes it as password",
    async (path) => {
      const refused = await server().ask({ path, key: null })
      expect(refused.headers["www-authenticate"]).toBe('Basic realm="datamcp", charset="UTF-8"')
      expect((await server().ask({ path, key: null, headers: basic(`any:${keys.admin}`) })).status).toBe(200)
      expect((await server().ask({ path, key: null, headers: basic(`:${keys.admin}`) })).status).toBe(200)
      expect((await server().ask({ path, key: keys.admin })).status).toBe(200)
      for (const wrong of ["any:wrong", `${keys.admin}:`, keys.admin, ":", ""]) {
        expect((await server().ask({ path, key: null, headers: basic(wrong) })).status).toBe(401)
      }
    }
  )

  it("metrics need the permission metrics:read", async () => {
    const answer = await server().ask({ path: "/metrics", key: keys.api_user })
    expect(answer.status).toBe(403)
    expect(answer.json).toMatchObject({ type: "urn:datamcp:problem:forbidden", permission: "metrics:read" })
    const metrics = await server().ask({ path: "/metrics", key: keys.viewer })
    expect(metrics.headers["content-type"]).toMatch(/^text\/plain; version=0\.0\.4/u)
    expect(metrics.text).toContain('datamcp_http_requests_total{route="GET /metrics",status="4xx"')
  })

  it("the docs page runs its own scripts only", async () => {
    const { headers, text } = await server().ask({ path: "/docs" })
    expect(headers["content-type"]).toMatch(/^text\/html/u)
    expect(headers["content-security-policy"]).toMatch(/default-src 'none'; script-src 'sha256-.+' 'sha256-.+';/u)
    expect(headers["content-security-policy"]).not.toMatch(/unsafe-inline'.*script|unsafe-eval/u)
    expect(text).toContain("Submit a task")
  })
})

describe("a role", () => {
  it.each([
    ["viewer", "POST", "/api/v1/tasks", { type: "echo" }, "task:create"],
    ["viewer", "POST", "/api/v1/agents", { name: "x", type: "echo" }, "agent:create"],
    ["api_user", "POST", "/api/v1/agents", { name: "x", type: "echo" }, "agent:create"],
    ["api_user", "DELETE", `/api/v1/tasks/${unknownId}`, undefined, "task:delete"],
    ["viewer", "POST", "/api/v1/tasks/actions", { action: "cancel", filter: { name: "x" } }, "task:cancel"],
    ["operator", "PUT", "/api/v1/retention", { rules: [] }, "retention:update"],
    ["agent", "GET", "/api/v1/agents", undefined, "agent:read"],
    ["operator", "POST", "/api/v1/api-keys", { name: "k", role: "admin" }, "key:create"],
    ["operator", "GET", "/api/v1/api-keys", undefined, "key:read"]
  ] as const)("%s may not %s %s", async (role, method, path, body, permission) => {
    const answer = await server().ask({ method, path, key: keys[role], ...bodyOf(body) })
    expect(answer.status).toBe(403)
    expect(answer.json).toMatchObject({ type: "urn:datamcp:problem:forbidden", permission })
  })

  it("is told to who asks /me", async () => {
    const { json } = await server().ask({ path: "/api/v1/me", key: keys.agent })
    expect(json).toEqual({
      actor: "key:agentagentagent1",
      namespace: "default",
      role: "agent",
      permissions: ["task:create", "task:read", "artifact:create", "artifact:read"]
    })
  })
})
