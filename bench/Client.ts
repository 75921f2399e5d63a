/**
 * The client of the benchmark: one process that speaks to the platform as its users do, over HTTP and NATS, with the
 * plain libraries they would take.
 */
import { connect, headers } from "@nats-io/transport-node"
import { Pool } from "undici"
import type { Platform } from "./Platform.ts"

export interface Client {
  /** One task over HTTP; returns its id. */
  readonly submitHttp: (task: object) => Promise<string>
  /** One task over NATS; returns its id. */
  readonly submitNats: (task: object) => Promise<string>
  /** Many tasks in one request over NATS; returns how many were accepted. */
  readonly batchNats: (tasks: ReadonlyArray<object>) => Promise<number>
  /** Waits for the end of a task over NATS; returns its status. */
  readonly waitNats: (id: string) => Promise<string>
  readonly request: (method: "GET" | "POST" | "PUT", path: string, body?: object) => Promise<any>
  readonly close: () => Promise<void>
}

export const makeClient = async (platform: Platform): Promise<Client> => {
  const { password, url, user } = platform.nats
  const nats = await connect({
    servers: url,
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password })
  })
  const pool = new Pool(platform.url, { connections: 64, pipelining: 1 })
  const authorization = `Bearer ${platform.key}`
  const subject = (verb: string) => `datamcp.v1.default.tasks.${verb}`

  const ask = async (verb: string, body: unknown, timeout = 30_000) => {
    const head = headers()
    head.set("Authorization", authorization)
    const reply = await nats.request(subject(verb), JSON.stringify(body), { timeout, headers: head })
    const answer = JSON.parse(reply.string())
    const code = reply.headers?.get("Nats-Service-Error-Code")
    if (code !== undefined && code !== "") throw new Error(`${verb}: ${code} ${JSON.stringify(answer)}`)
    return answer
  }

  const request: Client["request"] = async (method, path, body) => {
    const response = await pool.request({
      method,
      path,
      headers: { authorization, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) })
    })
    const answer = await response.body.json()
    if (response.statusCode >= 300)
      throw new Error(`${method} ${path}: ${response.statusCode} ${JSON.stringify(answer)}`)
    return answer
  }

  return {
    submitHttp: async (task) => (await request("POST", "/api/v1/tasks", task)).id,
    submitNats: async (task) => (await ask("submit", task)).id,
    batchNats: async (tasks) => (await ask("batch", { tasks }, 60_000)).accepted,
    waitNats: async (id) => (await ask("wait", { id, timeout_ms: 30_000 }, 40_000)).status,
    request,
    close: async () => {
      await nats.drain()
      await pool.close()
    }
  }
}
