/** The receivers that docs/webhooks.md shows accept what is sent, and nothing else. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { secretText, signatures } from "../../src/webhooks/Signature.ts"
import { writeFiles } from "../docs/shellBlocks.ts"

const folder = mkdtempSync(join(tmpdir(), "datamcp-receivers-"))
beforeAll(() => writeFiles("docs/webhooks.md", folder))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const secret = new Uint8Array(32).fill(5)
const other = new Uint8Array(32).fill(6)
const body = '{"type":"Ping","data":"ü"}'

const headersAt = (seconds: number, by: ReadonlyArray<Uint8Array>) => {
  const timestamp = String(Math.floor(seconds))
  return {
    "webhook-id": "m1",
    "webhook-timestamp": timestamp,
    "webhook-signature": signatures(by, { id: "m1", timestamp, body })
  }
}

const now = Date.now() / 1000
const cases = [
  { name: "one signature", headers: headersAt(now, [secret]), body, genuine: true },
  { name: "during a rotation", headers: headersAt(now, [other, secret]), body, genuine: true },
  { name: "another secret", headers: headersAt(now, [other]), body, genuine: false },
  { name: "another body", headers: headersAt(now, [secret]), body: `${body} `, genuine: false },
  { name: "an old message", headers: headersAt(now - 400, [secret]), body, genuine: false }
]

describe("the receiver of docs/webhooks.md", () => {
  it.each(cases)("in Node tells $name", async ({ body, genuine, headers }) => {
    const { isGenuine } = await import(pathToFileURL(join(folder, "receivers/receiver.mjs")).href)
    expect(isGenuine(secretText(secret), headers, body)).toBe(genuine)
  })

  const python = spawnSync("python3", ["--version"]).status === 0
  it.skipIf(!python).each(cases)("in Python tells $name", ({ body, genuine, headers }) => {
    const program = [
      "import json, sys",
      "from receiver import is_genuine",
      "secret, headers, body = json.load(sys.stdin)",
      "print(is_genuine(secret, headers, body.encode()))"
    ].join("\n")
    const ran = spawnSync("python3", ["-c", program], {
      cwd: join(folder, "receivers"),
      input: JSON.stringify([secretText(secret), headers, body]),
      encoding: "utf8"
    })
    expect([ran.stderr, ran.stdout.trim()]).toEqual(["", genuine ? "True" : "False"])
  })
})
