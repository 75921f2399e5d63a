/**
 * A client of datamcp over NATS: submits a task, waits for its recorded end, prints what it came to.
 *
 *   node examples/nats-client/client.mjs '{"hello":"world"}'
 *
 * Needs a platform (`npm start`). Run it in the folder where that was started, or set NATS_URL (with user and password
 * where the server wants them) and DATAMCP_API_KEY. What goes over the wire stands in docs/nats-protocol.md.
 */
import { readFileSync } from "node:fs"
import { connect, headers } from "@nats-io/transport-node"

const started = () => JSON.parse(readFileSync(".datamcp/connection.json", "utf8")).nats
const named = process.env.NATS_URL === undefined ? undefined : new URL(process.env.NATS_URL)
const server =
  named === undefined
    ? started()
    : { url: named.host, user: decodeURIComponent(named.username), password: decodeURIComponent(named.password) }
const key = process.env.DATAMCP_API_KEY ?? readFileSync(".datamcp/admin.key", "utf8").trim()
const namespace = process.env.DATAMCP_NAMESPACE ?? "default"

const nats = await connect({ servers: server.url, user: server.user || undefined, pass: server.password || undefined })

/**
 * One request, one answer. Throws what the service refuses, by its title and detail.
 *
 * @param {string} endpoint such as `tasks.submit`
 * @param {unknown} request
 * @param {{ idempotencyKey?: string, patience?: number }} [options] patience in milliseconds
 * @returns {Promise<any>}
 */
const ask = async (endpoint, request, { idempotencyKey, patience = 5_000 } = {}) => {
  const head = headers()
  head.set("Authorization", `Bearer ${key}`)
  if (idempotencyKey !== undefined) head.set("Idempotency-Key", idempotencyKey)
  const answer = await nats.request(`datamcp.v1.${namespace}.${endpoint}`, JSON.stringify(request), {
    headers: head,
    timeout: patience
  })
  const refusal = answer.headers?.get("Nats-Service-Error-Code")
  if (refusal) throw new Error(`${refusal} ${answer.headers?.get("Nats-Service-Error")}`)
  return answer.json()
}

try {
  const payload = JSON.parse(process.argv[2] ?? '{"hello":"world"}')
  // Sent again with the same key, it is the same task: a lost answer is no reason to fear a second run.
  const task = await ask("tasks.submit", { agent: "echo", payload }, { idempotencyKey: `example-${Date.now()}` })
  console.log(`accepted ${task.id}`)

  let seen = task
  while (!["completed", "failed", "timeout", "cancelled"].includes(seen.status)) {
    seen = await ask("tasks.wait", { id: task.id, timeout_ms: 30_000 }, { patience: 35_000 })
  }
  console.log(`${seen.status} after attempt ${seen.attempt}: ${JSON.stringify(seen.result.data ?? seen.result.error)}`)
  process.exitCode = seen.status === "completed" ? 0 : 1
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
} finally {
  await nats.close()
}
