/** Two first starts in one clone: one installs, the other waits; a killed one is in nobody's way. */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it, vi } from "@effect/vitest"
import { ownFolder } from "../support/Servers.ts"

const lockModule = fileURLToPath(new URL("../../bin/installLock.mjs", import.meta.url))

/** A process that takes the lock, notes when it has it and when it lets go, and holds it for a while. */
const worker = (root: string, name: string, holdMillis: number) => `
  import { appendFileSync } from "node:fs"
  import { setTimeout } from "node:timers/promises"
  import { withInstallLock } from ${JSON.stringify(lockModule)}
  await withInstallLock(${JSON.stringify(root)}, async () => {
    appendFileSync(${JSON.stringify(join(root, "log"))}, "${name} in\\n")
    await setTimeout(${holdMillis})
    appendFileSync(${JSON.stringify(join(root, "log"))}, "${name} out\\n")
  })`

const run = (root: string, name: string, holdMillis: number) =>
  promisify(execFile)(process.execPath, ["--input-type=module", "-e", worker(root, name, holdMillis)])

const makeRoot = () => ownFolder("install-")
const logOf = (root: string) => readFileSync(join(root, "log"), "utf8").trim().split("\n")

describe("the lock of an installing start", () => {
  it("lets one in at a time", async () => {
    const root = makeRoot()
    await Promise.all(["a", "b", "c"].map((name) => run(root, name, 50)))
    const log = logOf(root)
    expect(log).toHaveLength(6)
    for (const pair of [0, 2, 4]) expect(log[pair]?.replace("in", "out")).toBe(log[pair + 1])
    expect(existsSync(join(root, ".datamcp/install.lock"))).toBe(false)
  })

  it("is taken over from a killed process", async () => {
    const root = makeRoot()
    const killed = spawn(process.execPath, ["--input-type=module", "-e", worker(root, "killed", 60_000)])
    await vi.waitFor(() => expect(existsSync(join(root, "log"))).toBe(true), { timeout: 10_000 })
    killed.kill("SIGKILL")
    await once(killed, "exit")
    await Promise.all([run(root, "a", 20), run(root, "b", 20)])
    const log = logOf(root)
    expect(log[0]).toBe("killed in")
    expect(log).toHaveLength(5)
    for (const pair of [1, 3]) expect(log[pair]?.replace("in", "out")).toBe(log[pair + 1])
  })

  it("is taken over when its process id now belongs to somebody else", async () => {
    const root = makeRoot()
    mkdirSync(join(root, ".datamcp"))
    writeFileSync(join(root, ".datamcp/install.lock"), `${process.pid} started-at-another-time`)
    appendFileSync(join(root, "log"), "")
    await run(root, "a", 1)
    expect(logOf(root)).toEqual(["a in", "a out"])
  })
})
