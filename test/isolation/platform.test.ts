/** Poison on a whole node: it ends in the dead letters, and whoever works beside it does not notice. */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { runCli } from "../cli/runCli.ts"
import { askPort } from "../http/support/TestServer.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"

const environment = {
  DATAMCP_BEHAVIOURS:
    "./test/isolation/poison.ts,./examples/behaviours/textStatistics.ts,./examples/behaviours/wordTotal.ts",
  DATAMCP_BEHAVIOUR_ENV: "ALLOWED",
  ALLOWED: "yes",
  FORBIDDEN: "no",
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../node_modules/.cache/compile", import.meta.url))
}

const clientOf = (url: string, key: string) => {
  const ask = (method: string, path: string, body?: unknown) =>
    askPort(Number(new URL(url).port), {
      ...{ method, path: `/api/v1${path}`, key },
      ...(body !== undefined && { body: JSON.stringify(body), headers: { "content-type": "application/json" } })
    })
  return { get: (path: string) => ask("GET", path), post: (path: string, body: unknown) => ask("POST", path, body) }
}
type Client = ReturnType<typeof clientOf>

/** Waits until a condition that others decide holds, at most 20 s. */
const until = async (condition: () => boolean | Promise<boolean>) => {
  const end = performance.now() + 20_000
  while (!(await condition())) {
    if (performance.now() > end) throw new Error("waited 20 s in vain")
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Processes that have the poison of this test loaded below a node, by their environment: others run tests too. */
const poisoned = (mark: string) =>
  readdirSync("/proc").filter((name) => {
    if (!/^\d+$/u.test(name)) return false
    const read = (file: string) =>
      Result.getOrElse(
        Result.try(() => readFileSync(`/proc/${name}/${file}`, "utf8")),
        () => ""
      )
    return read("cmdline").includes("isolation/poison.ts") && read("environ").includes(mark)
  })

/** How each kind of poison ends, by status and code. */
const ends: Readonly<Record<string, readonly [status: string, code: string]>> = {
  throw: ["failed", "crashed"],
  hang: ["timeout", "timeout"],
  exit: ["failed", "process_exited"],
  spin: ["failed", "unresponsive"],
  large: ["failed", "result_too_large"],
  native: ["failed", "memory_limit"]
}

const takePoison = async ({ get, post }: Client) => {
  const agent = await post("/agents", {
    name: "poison",
    type: "poison",
    configuration: {
      timeout_ms: 6_000,
      retry: { max_attempts: 2, delay_ms: 10, jitter: 0 },
      isolation: { memory_mb: 640, processes: 3, unresponsive_ms: 1_500 }
    }
  })
  expect(agent.status).toBe(201)
  expect((await post("/agents", { name: "counter", type: "text-statistics" })).status).toBe(201)

  const ids = new Map<string, string>()
  for (const deed of Object.keys(ends)) {
    const accepted = await post("/tasks", { agent: "poison", payload: { do: deed, bytes: 100_000_000 } })
    ids.set(deed, accepted.json.id)
  }
  const isOver = async () =>
    (await Promise.all([...ids.values()].map((id) => get(`/tasks/${id}`)))).every(({ json }) =>
      ["failed", "timeout"].includes(json.status)
    )
  // Neighbours on the same node: one in the node itself, one with processes of its own.
  const neighbours = [
    ["echo", { n: 1 }],
    ["counter", { text: "One two." }]
  ] as const
  let slowest = 0
  let served = 0
  while (!(await isOver())) {
    for (const [name, payload] of neighbours) {
      const began = performance.now()
      const accepted = await post("/tasks", { agent: name, payload })
      const done = await get(`/tasks/${accepted.json.id}?wait=20s`)
      expect(done.json.status).toBe("completed")
      slowest = Math.max(slowest, performance.now() - began)
      served++
    }
  }
  expect(served).toBeGreaterThan(4)
  expect(slowest).toBeLessThan(10_000)
  const dead = await get("/dead-letters?limit=100")
  for (const [deed, [status, code]] of Object.entries(ends)) {
    const id = ids.get(deed)
    const task = (await get(`/tasks/${id}`)).json
    expect([deed, task.status, task.result?.error?.code]).toEqual([deed, status, code])
    // What can never fit is not tried again.
    expect([deed, (await get(`/tasks/${id}/attempts`)).json.data.length]).toEqual([deed, deed === "large" ? 1 : 2])
    expect(dead.text).toContain(id)
  }
  expect((await get("/agents/poison")).json.status).not.toBe("error")

  const { json } = await post("/tasks", { agent: "poison", payload: { do: "environment" } })
  const seen = (await get(`/tasks/${json.id}?wait=20s`)).json.result.data
  expect(seen).toContain("ALLOWED")
  expect(seen.filter((name: string) => /FORBIDDEN|DATABASE|NATS|DATAMCP/u.test(name))).toEqual([])
}

const look = async ({ get, post }: Client) => {
  const list = await get("/behaviours")
  const known = list.json.data.map(({ isolated, type }: { isolated: boolean; type: string }) => [type, isolated])
  expect(known).toEqual([
    ["approval", false],
    ["echo", false],
    ["http", false],
    ["poison", true],
    ["sql", false],
    ["text-statistics", true],
    ["word-total", true]
  ])
  const small = await post("/agents", { name: "x", type: "poison", configuration: { isolation: { memory_mb: 1 } } })
  expect([small.status, small.json.errors[0].field]).toEqual([422, "configuration.isolation.memory_mb"])
  const inside = await post("/agents", { name: "x", type: "echo", configuration: { isolation: { processes: 1 } } })
  expect([inside.status, inside.json.errors[0].field]).toEqual([422, "configuration.isolation"])
  const wrong = await post("/agents", { name: "x", type: "poison", configuration: { settings: { wrong: true } } })
  expect([wrong.status, wrong.json.errors]).toEqual([
    422,
    [{ field: "configuration.settings", message: "wrong is wrong" }]
  ])
}

/** Tasks that submit tasks that submit tasks, all of one agent with one slot and one process. */
const divide = async ({ get, post }: Client) => {
  const configuration = { max_concurrent_tasks: 1, isolation: { processes: 1 } }
  expect((await post("/agents", { name: "totals", type: "word-total", configuration })).status).toBe(201)
  const texts = ["To be,", "or not", "to be."]
  const { json } = await post("/tasks", { agent: "totals", payload: { texts } })
  const task = (await get(`/tasks/${json.id}?wait=20s`)).json
  expect([task.status, task.attempt, task.result.data]).toEqual(["completed", 1, { words: 6, tasks: 5 }])
  const events = (await get(`/tasks/${json.id}/events`)).json.data
  expect(events.find(({ type }: { type: string }) => type === "TaskPaused").data).toMatchObject({
    waiting_for: "children",
    open: 2
  })
}

/** A task of each kind that does not end by itself, one of which would not even hear of it. */
const leaveRunning = async ({ get, post }: Client) => {
  await post("/agents", { name: "late", type: "poison", configuration: { isolation: { processes: 2 } } })
  const tasks = await Promise.all(
    ["hang", "spin"].map((deed) => post("/tasks", { agent: "late", payload: { do: deed } }))
  )
  await until(async () => {
    const states = await Promise.all(tasks.map(({ json }) => get(`/tasks/${json.id}`)))
    return states.every(({ json }) => json.status === "running")
  })
}

describe("isolated behaviours on a node", () => {
  it.live(
    "take nobody else down, and end with the node that is killed",
    () =>
      Effect.gen(function* () {
        const mark = `ALLOWED=${process.pid}-${performance.now()}`
        const platform = yield* servePlatform({ ...environment, ALLOWED: mark.slice("ALLOWED=".length) })
        const client = clientOf(platform.url, platform.key)
        yield* Effect.promise(() => look(client))
        const cli = yield* runCli(["behaviours", "list"], {
          env: { DATAMCP_URL: platform.url, DATAMCP_API_KEY: platform.key }
        })
        expect(cli.stdout).toMatch(/^poison +yes +no +Does what it is told/mu)
        yield* Effect.promise(() => divide(client))
        yield* Effect.promise(() => takePoison(client))
        yield* Effect.promise(() => leaveRunning(client))
        yield* Effect.promise(() => until(() => poisoned(mark).length >= 2))
        yield* platform.kill
        yield* Effect.promise(() => until(() => poisoned(mark).length === 0))
      }),
    180_000
  )
})
