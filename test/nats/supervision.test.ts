/** The supervision tree of two real nodes: each answers for itself, and one that is frozen away is seen as such. */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { servePlatform } from "./ServedPlatform.ts"

const ask = (url: string, key: string, path: string, body?: unknown) =>
  Effect.promise(async () => {
    const answer = await fetch(`${url}/api/v1${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) })
    })
    return { status: answer.status, json: (await answer.json()) as { readonly nodes: ReadonlyArray<object> } }
  })

it.live(
  "two nodes show one tree, whoever is asked, and one that was killed is unreachable",
  () =>
    Effect.gen(function* () {
      const first = yield* servePlatform({ DATAMCP_NODE_NAME: "first" })
      const second = yield* servePlatform({ DATAMCP_NODE_NAME: "second" }, first)
      const tree = (url: string) => ask(url, first.key, "/supervision")
      const nodes = [
        { node: "first", state: "up" },
        { node: "second", state: "up" }
      ]
      expect((yield* tree(first.url)).json.nodes).toMatchObject(nodes)
      expect((yield* tree(second.url)).json.nodes).toMatchObject(nodes)
      expect((yield* ask(first.url, first.key, "/agents/echo/instances/99/quarantine", {})).status).toBe(422)
      expect((yield* ask(first.url, first.key, "/supervision?limit=51")).status).toBe(422)
      yield* second.kill
      expect((yield* tree(first.url)).json.nodes).toMatchObject([
        { node: "first", state: "up" },
        { node: "second", state: "unreachable" }
      ])
    }),
  90_000
)
