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
  "POST /api/v1/graphs": { tasks: { a: { type: "echo" } } },
  "POST /api/v1/agents": { name: "a", type: "echo" },
  "PUT /api/v1/agents/:agent": { description: "d" },
  "POST /api/v1/agents/:agent/scale": { desired_instances: 2 },
  "POST /api/v1/agents/:agent/capabilities": { name: "echo" },
  "POST /api/v1/limits": { name: "a", concurrency: 1 },
  "PUT /api/v1/limits/:limit": { concurrency: 2 },
  "POST /api/v1/api-keys": { name: "k", role: "viewer" }
}

export const unknownId = "01900000-0000-7000-8000-999999999999"

const parameters: { readonly [name: string]: string } = {
  id: unknownId,
  agent: "nobody",
  limit: "nothing",
  name: "echo"
}

const found: Array<Route> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, group }) => {
    const name = `${endpoint.method} ${endpoint.path}`
    const path = endpoint.path.replace("/api-keys/:id", "/api-keys/zzzzzzzzzzzzzzzz")
    found.push({
      name,
      method: endpoint.method,
      path: path.replaceAll(/:(?<name>\w+)/gu, (_, parameter: string) => parameters[parameter] ?? parameter),
      group: group.identifier,
      body: bodies[name]
    })
  }
})

export const routes: ReadonlyArray<Route> = found
