/** Submissions that are larger than other commands: few at a time, and large for their payload only. */
import { connect, type Socket } from "node:net"
import { describe, expect, it } from "vitest"
import * as Limits from "../../protocol/Limits.ts"
import { keys } from "./support/MemoryApp.ts"
import { serverOfFile } from "./support/TestServer.ts"

const server = serverOfFile()
const json = { "content-type": "application/json" }
const path = "/api/v1/tasks"

/** A submission that says that it is large and goes no further than its first byte. */
const begun = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      const head = ["POST /api/v1/tasks HTTP/1.1", "host: x", `authorization: Bearer ${keys.admin}`]
      const body = ["content-type: application/json", "content-length: 5000000", "", "{"]
      socket.write([...head, ...body].join("\r\n"))
      resolve(socket)
    })
    socket.on("error", reject)
  })

const submit = (command: object) => server().ask({ method: "POST", path, headers: json, body: JSON.stringify(command) })

const large = { type: "echo", payload: "x".repeat(2_000_000) }

describe("a large submission", () => {
  it("is accepted for its payload, and for nothing else", async () => {
    expect((await submit(large)).status).toBe(202)
    const metadata = await submit({ type: "echo", metadata: { text: "x".repeat(Limits.bodyBytesMax) } })
    expect(metadata.json).toMatchObject({ status: 413, limit: Limits.bodyBytesMax, unit: "bytes" })
  })

  it("is refused with 429 while as many as may be are being received, and small ones are not", async () => {
    const open = await Promise.all(Array.from({ length: 4 }, () => begun(server().port)))
    let answer = await submit(large)
    for (let tries = 0; answer.status === 202 && tries < 50; tries++) answer = await submit(large)
    expect(answer.json).toMatchObject({ status: 429, type: "urn:datamcp:problem:overloaded" })
    expect(answer.headers["retry-after"]).toBe("1")
    expect((await submit({ type: "echo" })).status).toBe(202)
    for (const socket of open) socket.destroy()
    do answer = await submit(large)
    while (answer.status === 429)
    expect(answer.status).toBe(202)
  })
})
