/**
 * Supervision of real nodes over NATS, HTTP and the command line: each node answers for itself, one that was killed is seen as such, and
 * what was ordered holds through the end of any node, and of all.
 */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "../cli/runCli.ts"
import { asker, eventually } from "../nodes/Platform.ts"
import { type ServedPlatform, servePlatform } from "./ServedPlatform.ts"
import { rawClient } from "./support.ts"

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
  "two nodes show one tree, whoever is asked; `datamcp tree --watch` tells of one that is killed, and of who takes over",
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
      const call = asker(first)
      yield* call("POST", "/agents", {
        ...{ name: "wide", type: "echo", desired_instances: 8, configuration: { max_concurrent_tasks: 1 } }
      })
      for (let n = 0; n < 8; n++) yield* call("POST", "/tasks", { agent: "wide", payload: { sleep_ms: 60_000 } })
      type Seen = {
        readonly nodes: ReadonlyArray<{ readonly node: string; readonly state: string }>
        readonly agents: ReadonlyArray<{
          readonly instances: ReadonlyArray<{ readonly state: string; readonly node: string; readonly running: number }>
        }>
      }
      let killed = false
      const frames = (text: string) =>
        text
          .split("\n")
          .slice(0, -1)
          .map((line) => JSON.parse(line) as Seen)
      const workOn = ({ agents }: Seen, node: string) =>
        agents[0]?.instances.filter((each) => each.state === "running" && each.node === node && each.running > 0).length
      const run = yield* runCli(["tree", "--agent", "wide", "--watch", "--json"], {
        env: { DATAMCP_URL: first.url, DATAMCP_API_KEY: first.key },
        millisMax: 30_000,
        onOutput: (soFar, kill) => {
          const latest = frames(soFar).at(-1)
          if (latest === undefined) return
          if (!killed && (workOn(latest, "second") ?? 0) > 0 && (workOn(latest, "first") ?? 0) > 0) {
            killed = true
            process.kill(second.pid, "SIGKILL")
          }
          if (killed && workOn(latest, "first") === 8) kill("SIGINT")
        }
      })
      const seen = frames(run.stdout)
      const states = seen.map(({ nodes }) => nodes.map(({ node, state }) => `${node} ${state}`).join(", "))
      expect(states).toContain("first up, second unreachable")
      const lost = seen.findIndex(({ nodes }) => nodes.some(({ state }) => state === "unreachable"))
      expect(seen[lost]?.agents[0]?.instances.some(({ state }) => state === "unreachable")).toBe(true)
      expect(workOn(seen.at(-1) ?? { nodes: [], agents: [] }, "first")).toBe(8)
    }),
  150_000
)

type Work = { readonly running: number }

/** Asks the service's endpoints of supervision. */
const endpointsOf = Effect.fnUntraced(function* (platform: ServedPlatform) {
  const client = yield* rawClient(platform.nats.natsUrl)
  return (name: string, body: object, key = platform.key) =>
    Effect.promise(() =>
      client.request(`datamcp.v1.default.supervision.${name}`, body, { Authorization: `Bearer ${key}` })
    )
})

it.live(
  "what was ordered over NATS and what a supervisor gave up hold through the end of their node, and of all nodes",
  () =>
    Effect.gen(function* () {
      const behaviours = { DATAMCP_BEHAVIOURS: "./test/nats/crashes.ts" }
      const first = yield* servePlatform({ DATAMCP_NODE_NAME: "first", ...behaviours })
      const second = yield* servePlatform({ DATAMCP_NODE_NAME: "second", ...behaviours }, first)
      const call = asker(first)
      const supervision = yield* endpointsOf(first)
      yield* call("POST", "/agents", {
        name: "held",
        type: "echo",
        desired_instances: 2,
        configuration: { max_concurrent_tasks: 1 }
      })
      const viewer = (yield* call("POST", "/api-keys", { name: "looks on", role: "viewer" })).json.key

      const instances = (platform: ServedPlatform) =>
        Effect.flatMap(endpointsOf(platform), (ask) =>
          Effect.map(ask("show", { agent: "held" }, viewer), ({ json }) => json.agents[0].instances)
        )
      const long = [
        (yield* call("POST", "/tasks", { agent: "held", payload: { sleep_ms: 5_000 } })).json.id,
        (yield* call("POST", "/tasks", { agent: "held", payload: { sleep_ms: 5_000 } })).json.id
      ]
      yield* eventually("both work", instances(first), (found) => found.every(({ running }: Work) => running === 1))

      const order = { agent: "held", index: 0, reason: "wrong answers" }
      expect((yield* supervision("quarantine", order, viewer)).json).toMatchObject({ status: 403 })
      expect((yield* supervision("quarantine", { ...order, index: 2 })).json).toMatchObject({ status: 422 })
      expect((yield* supervision("release", { ...order, agent: "nobody" })).json).toMatchObject({ status: 404 })
      const quarantine = { by: expect.stringMatching(/^key:/u), reason: "wrong answers" }
      const given = yield* supervision("quarantine", order)
      expect(given.json).toMatchObject({ agent: "held", index: 0, quarantine })
      // Once is enough.
      expect((yield* supervision("quarantine", order)).json).toMatchObject({ version: given.json.version })
      expect((yield* supervision("restart", { agent: "held", index: 0 })).json).toMatchObject({ status: 409 })
      expect((yield* supervision("restart", { agent: "held", index: 1 })).json).toMatchObject({ restarts_ordered: 1 })

      const [{ epoch }] = yield* eventually("it gives back", instances(first), ([held]) => held.running === 0)

      /** Tasks end, although one instance may not work: nobody has taken its lease since. */
      const works = Effect.fnUntraced(function* (platform: ServedPlatform) {
        const ask = asker(platform)
        const ids: Array<string> = []
        for (let n = 0; n < 8; n++) ids.push((yield* ask("POST", "/tasks", { agent: "held", payload: n })).json.id)
        for (const id of [...long, ...ids]) {
          expect((yield* ask("GET", `/tasks/${id}?wait=30s`)).json).toMatchObject({ status: "completed", attempt: 1 })
        }
        const [held] = yield* instances(platform)
        expect(held).toMatchObject({ index: 0, state: "quarantined", epoch, running: 0, quarantine })
      })
      yield* works(second)
      yield* call("POST", "/agents", {
        name: "crashing",
        type: "crashes",
        configuration: { retry: { max_attempts: 1 }, max_concurrent_tasks: 4 }
      })
      const tasks = Array.from({ length: 30 }, () => ({ agent: "crashing" }))
      expect((yield* call("POST", "/tasks/batch", tasks)).json).toMatchObject({ accepted: 30 })
      const seen = (ask: typeof supervision) =>
        Effect.map(ask("show", { agent: "crashing", state: "quarantined" }), ({ json }) => json.agents)
      const down = yield* eventually("it is given up", seen(supervision), ({ length }) => length === 1)
      const quarantined = {
        agent: "crashing",
        status: "error",
        status_reason: expect.stringMatching(/crashed 21 times within 60 s/u),
        instances: [{ state: "quarantined", quarantine: { by: "supervisor" } }]
      }
      expect(down).toMatchObject([quarantined])
      expect((yield* supervision("restart", { agent: "crashing", index: 0 })).json).toMatchObject({ status: 409 })
      yield* first.kill
      yield* works(second)
      expect(yield* second.stop).toMatchObject({ code: 0 })
      const third = yield* servePlatform({ DATAMCP_NODE_NAME: "third", ...behaviours }, second)
      yield* works(third)

      const after = yield* endpointsOf(third)
      const ask = asker(third)
      expect(yield* seen(after)).toMatchObject([quarantined])
      const waiting = (yield* ask("POST", "/tasks", { agent: "crashing" })).json
      // Work of others goes on, and is looked for again and again meanwhile.
      for (let n = 0; n < 5; n++) {
        const { id } = (yield* ask("POST", "/tasks", { agent: "echo", payload: { sleep_ms: 100 } })).json
        expect((yield* ask("GET", `/tasks/${id}?wait=20s`)).json.status).toBe("completed")
      }
      expect((yield* ask("GET", `/tasks/${waiting.id}`)).json).toMatchObject({ status: "queued", attempt: 0 })
      const mended = yield* ask("PUT", "/agents/crashing", { configuration: { settings: { mended: true } } })
      expect(mended.status).toBe(200)
      expect((yield* ask("POST", "/agents/crashing/resume", {})).status).toBe(200)
      expect(yield* seen(after)).toEqual([])
      expect((yield* ask("GET", `/tasks/${waiting.id}?wait=20s`)).json).toMatchObject({
        ...{ status: "completed", attempt: 1, result: { data: "mended" } }
      })
      expect((yield* after("release", { agent: "held", index: 0 })).json).toMatchObject({ quarantine: null })
      yield* eventually(
        "it works again",
        Effect.gen(function* () {
          yield* asker(third)("POST", "/tasks", { agent: "held", payload: { sleep_ms: 200 } })
          return (yield* after("show", { agent: "held" })).json.agents[0].instances[0]
        }),
        ({ running, state }) => state === "running" && running > 0
      )
    }),
  150_000
)
