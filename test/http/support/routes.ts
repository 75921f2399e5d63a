/** Every endpoint of the contract, from the contract, with a request that it accepts. */
import { HttpApi } from "effect/http-api"
import { Api } from "../../../protocol/api/Api.ts"

export interface Route {
  /** As in logs: `POST /api/v1/tasks`. */
  readonly name: string
  readonly method: string
  /** With parameters filled in by values of the right form. */
  readonly path: string
  readonly group: string
  /** A body that is accepted; undefined when the route takes none. */
  readonly body: unknown
}

const bodies: { readonly [name: string]: unknown } = {
  "POST /api/v1/tasks": { type: "echo" },
  "POST /api/v1/tasks/batch": [{ type: "echo" }],
  "POST /api/v1/tasks/:id/cancel": {},
  "POST /api/v1/tasks/:id/signals/:name": { decision: "approve" },
  "POST /api/v1/tasks/:id/pause": {},
  "POST /api/v1/tasks/actions": { action: "cancel", filter: { status: "queued" }, dry_run: true },
  "POST /api/v1/tasks/:id/priority": { priority: "high" },
  "POST /api/v1/tasks/:id/agent": { agent: "echo" },
  "POST /api/v1/dead-letters/:id/acknowledge": {},
  "POST /api/v1/dead-letters/:id/replay": {},
  "POST /api/v1/dead-letters/replay": { filter: { error: "timeout" } },
  "PUT /api/v1/retention": { rules: [] },
  "POST /api/v1/graphs": { tasks: { a: { type: "echo" } } },
  "POST /api/v1/agents": { name: "a", type: "echo" },
  "PUT /api/v1/agents/:agent": { description: "d" },
  "POST /api/v1/agents/:agent/scale": { desired_instances: 2 },
  "POST /api/v1/agents/:agent/rollback": { version: 1 },
  "POST /api/v1/agents/:agent/rollout": { percent: 50 },
  "POST /api/v1/agents/:agent/capabilities": { name: "echo" },
  "POST /api/v1/limits": { name: "a", concurrency: 1 },
  "PUT /api/v1/limits/:limit": { concurrency: 2 },
  "POST /api/v1/schedules": { name: "s", cron: "@daily", task: { type: "echo" } },
  "PUT /api/v1/schedules/:schedule": { description: "d" },
  "POST /api/v1/schedules/preview": { cron: "@daily" },
  "POST /api/v1/api-keys": { name: "k", role: "viewer" },
  "POST /api/v1/webhooks": { name: "w", url: "https://example.com/" },
  "PUT /api/v1/webhooks/:id": { description: "d" },
  "POST /api/v1/webhooks/:id/rotate": { overlap_ms: 1 },
  "POST /api/v1/webhooks/:id/replay": { since: "2026-11-23T10:00:00Z" },
  "POST /api/v1/hooks": { name: "h", authentication: "secret", task: { type: "echo" } },
  "PUT /api/v1/hooks/:id": { description: "d" },
  "POST /api/v1/hooks/:id/rotate": {}
}

export const unknownId = "01900000-0000-7000-8000-999999999999"

const parameters: { readonly [name: string]: string } = {
  id: unknownId,
  agent: "nobody",
  schedule: "nothing",
  limit: "nothing",
  name: "echo",
  delivery: unknownId,
  version: "1"
}

const found: Array<Route> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, group }) => {
    const name = `${endpoint.method} ${endpoint.path}`
    // Of all signals an approval has a shape that the door knows.
    const path = endpoint.path
      .replace("/api-keys/:id", "/api-keys/zzzzzzzzzzzzzzzz")
      .replace("/signals/:name", "/signals/approval")
    found.push({
      name,
      method: endpoint.method,
      path: path.replaceAll(/:(?<name>\w+)/gu, (_, parameter: string) => parameters[parameter] ?? parameter),
      group: group.identifier,
      body: bodies[name]
    })
  }
})

/** Groups that demand no key. */
export const openGroups: ReadonlySet<string> = new Set(["health", "hookCalls"])

export const routes: ReadonlyArray<Route> = found
