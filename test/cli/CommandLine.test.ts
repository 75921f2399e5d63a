/** What every command keeps to, seen from a shell: what is printed where, exit codes, and where a key goes. */
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "./runCli.ts"
import { json, problem, stubPlatform } from "./StubPlatform.ts"
import { completed, task, taskId } from "./things.ts"

const key = "dma_0123456789abcdef_secret"
/** A URL where somebody listened and nobody does any more. */
const nobody = Effect.scoped(Effect.map(stubPlatform, ({ url }) => url))

const folderWithKey = (mode: number) => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-cli-"))
  mkdirSync(join(folder, ".datamcp"))
  writeFileSync(join(folder, ".datamcp", "admin.key"), `${key}\n`)
  chmodSync(join(folder, ".datamcp", "admin.key"), mode)
  return folder
}

const stubWithTasks = Effect.map(stubPlatform, (stub) => {
  stub.on("GET /api/v1/tasks", json(200, { data: [task(), completed()], next_cursor: "abc" }))
  stub.on(`GET /api/v1/tasks/${taskId}`, json(200, completed()))
  return { stub, env: { DATAMCP_URL: stub.url, DATAMCP_API_KEY: key } }
})

describe("output", () => {
  it.live("with --json is exactly one document and nothing else", () =>
    Effect.gen(function* () {
      const { env } = yield* stubWithTasks
      const list = yield* runCli(["tasks", "list", "--json"], { env })
      expect(list.stderr).toBe("")
      expect(JSON.parse(list.stdout)).toMatchObject({
        data: [{ status: "running" }, { status: "completed" }],
        next_cursor: "abc"
      })
      const get = yield* runCli(["--json", "tasks", "get", taskId], { env })
      expect(JSON.parse(get.stdout)).toMatchObject({ id: taskId, result: { data: { hello: "world" } } })
      expect([list.code, get.code]).toEqual([0, 0])
    })
  )

  it.live("into a pipe has no escape sequences", () =>
    Effect.gen(function* () {
      const { env } = yield* stubWithTasks
      const run = yield* runCli(["tasks", "list"], { env })
      expect(run.stdout).toContain(taskId)
      expect(run.stdout + run.stderr).not.toContain("\u001B")
    })
  )

  it.live("shows control characters of a name instead of obeying them", () =>
    Effect.gen(function* () {
      const { env, stub } = yield* stubWithTasks
      stub.on(
        "GET /api/v1/tasks",
        json(200, { data: [task({ name: "\u001B[2Jgone\nforged line" })], next_cursor: null })
      )
      const run = yield* runCli(["tasks", "list"], { env })
      expect(run.stdout).not.toContain("\u001B")
      expect(run.stdout).toContain("\\u{1b}[2Jgone forged line")
      expect(run.stdout.trim().split("\n")).toHaveLength(2)
    })
  )
})

describe("a failure", () => {
  it.live("of a server that is away says how to start one and exits with 3", () =>
    Effect.gen(function* () {
      const url = yield* nobody
      const run = yield* runCli(["tasks", "list"], { env: { DATAMCP_URL: url, DATAMCP_API_KEY: key } })
      expect(run.code).toBe(3)
      expect(run.stdout).toBe("")
      expect(run.stderr).toBe(
        `error: Cannot reach datamcp at ${url}: nothing listens there.\n` +
          "Start it with `npm start`, or name another with --url or DATAMCP_URL.\n"
      )
    })
  )

  it.live("with --json puts one problem document on standard output", () =>
    Effect.gen(function* () {
      const env = { DATAMCP_URL: yield* nobody, DATAMCP_API_KEY: key }
      const run = yield* runCli(["tasks", "list", "--json"], { env })
      expect(JSON.parse(run.stdout)).toMatchObject({ type: "urn:datamcp:problem:unreachable" })
      const wrong = yield* runCli(["tasks", "lst", "--json"])
      expect(JSON.parse(wrong.stdout)).toMatchObject({ type: "urn:datamcp:problem:usage" })
    })
  )

  it.live("of a key that is not accepted says where keys are looked for and exits with 3", () =>
    Effect.gen(function* () {
      const { env, stub } = yield* stubWithTasks
      stub.on("GET /api/v1/tasks", problem(401, "unauthenticated", "A valid API key is required"))
      const run = yield* runCli(["tasks", "list"], { env })
      expect(run.code).toBe(3)
      expect(run.stderr).toContain("A valid API key is required")
      expect(run.stderr).toContain("DATAMCP_API_KEY")
      expect(run.stderr).not.toContain("secret")
    })
  )

  it.live("of a refused call tells the problem with its fields and exits with 1", () =>
    Effect.gen(function* () {
      const { env, stub } = yield* stubWithTasks
      const errors = [{ field: "payload", message: "is larger than the limit", limit: 262144 }]
      stub.on("POST /api/v1/tasks", problem(422, "invalid-input", "The input breaks a rule", { errors }))
      const run = yield* runCli(["tasks", "submit", "echo"], { env })
      expect(run.code).toBe(1)
      expect(run.stderr).toContain("payload: is larger than the limit")
    })
  )

  it.live("of something else that answers there is told as such", () =>
    Effect.gen(function* () {
      const { env, stub } = yield* stubWithTasks
      stub.on("GET /api/v1/tasks", (_asked, response) =>
        response.writeHead(200, { "content-type": "text/html" }).end("<h1>It works!</h1>")
      )
      const run = yield* runCli(["tasks", "list"], { env })
      expect(run.code).toBe(3)
      expect(run.stderr).toContain("answer breaks the contract")
      expect(run.stderr).not.toMatch(/\n\s+at /u)
    })
  )

  it.live("of usage exits with 2 and sends nothing", () =>
    Effect.gen(function* () {
      const { env, stub } = yield* stubWithTasks
      const runs = yield* Effect.forEach(
        [
          ["tasks", "lst"],
          ["tasks", "list", "--jsn"],
          ["tasks", "get", "no-uuid"],
          ["tasks", "get", taskId, "--wait", "2h"],
          ["tasks", "submit", "echo", "--payload", "{broken"],
          ["tasks", "submit", "Not A Type"],
          ["tasks", "list", "--limit", "100000"],
          ["agents", "create", "a.b", "--type", "echo"],
          ["keys", "create", "k", "--role", "boss"],
          ["artifacts", "put", "/nonexistent"],
          ["tasks", "list", "--url", "ftp://example.com"]
        ],
        (args) => Effect.map(runCli(args, { env }), (run) => ({ args, run })),
        { concurrency: 3 }
      )
      for (const { args, run } of runs) {
        expect({ args, code: run.code }).toEqual({ args, code: 2 })
        expect(run.stdout).toBe("")
        expect(run.stderr).toMatch(/^error: /u)
      }
      expect(stub.asked).toEqual([])
    })
  )
})

describe("the key", () => {
  it.live("comes from the file that only its owner can read", () =>
    Effect.gen(function* () {
      const { stub } = yield* stubWithTasks
      const run = yield* runCli(["tasks", "list", "--url", stub.url], { cwd: folderWithKey(0o600) })
      expect(run.code).toBe(0)
      expect(stub.asked[0]?.headers["authorization"]).toBe(`Bearer ${key}`)
    })
  )

  it.live("is not taken from a file that others can read", () =>
    Effect.gen(function* () {
      const { stub } = yield* stubWithTasks
      const run = yield* runCli(["tasks", "list", "--url", stub.url], { cwd: folderWithKey(0o644) })
      expect(run.code).toBe(3)
      expect(run.stderr).toMatch(/others can read it \(mode 0644\).*\n.*chmod 600/u)
      expect(stub.asked).toEqual([])
    })
  )

  it.live("of the file is never sent to another machine", () =>
    Effect.gen(function* () {
      const run = yield* runCli(["tasks", "list", "--url", "http://192.0.2.1:8002"], { cwd: folderWithKey(0o600) })
      expect(run.code).toBe(3)
      expect(run.stderr).toContain("this machine's server only")
    })
  )

  it.live("given as a flag works, with a warning that does not repeat it", () =>
    Effect.gen(function* () {
      const { stub } = yield* stubWithTasks
      const run = yield* runCli(["tasks", "list", "--url", stub.url, "--key", key])
      expect(run.code).toBe(0)
      expect(run.stderr).toContain("list of processes")
      expect(run.stdout + run.stderr).not.toContain(key)
    })
  )

  it.live("does not follow a redirect", () =>
    Effect.gen(function* () {
      const { env, stub } = yield* stubWithTasks
      const other = yield* stubPlatform
      stub.on("GET /api/v1/tasks", (_asked, response) =>
        response.writeHead(307, { location: `${other.url}/api/v1/tasks` }).end()
      )
      const run = yield* runCli(["tasks", "list"], { env })
      expect(run.code).toBe(3)
      expect(other.asked).toEqual([])
    })
  )

  it.live("that is missing is told before anything is sent", () =>
    Effect.gen(function* () {
      const { stub } = yield* stubWithTasks
      const empty = mkdtempSync(join(tmpdir(), "datamcp-cli-"))
      const run = yield* runCli(["status", "--url", stub.url], { env: { DATAMCP_DATA: empty } })
      expect(run.code).toBe(3)
      expect(run.stderr).toContain("npm start")
      expect(stub.asked).toEqual([])
    })
  )
})
