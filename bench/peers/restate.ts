/**
 * Restate 1.7: a service with one handler, invoked one way ("send"). A task is done when its handler returns; what the
 * server writes after that is not waited for. The record is that no invocation is open.
 */
import http2 from "node:http2"
import { type AddressInfo } from "node:net"
import * as restate from "@restatedev/restate-sdk"
import * as clients from "@restatedev/restate-sdk-clients"
import type { Work } from "../Work.ts"
import { type Adapter, inChunks } from "./Adapter.ts"

const service = (done: (task: Work) => void) =>
  restate.service({
    name: "bench",
    handlers: {
      noop: async (_: restate.Context, task: Work) => {
        done(task)
      }
    }
  })

export const client: Adapter["client"] = async (connection, settings) => {
  const ingress = clients.connect({ url: connection.ingressUrl ?? "" })
  const send = ingress.serviceSendClient<ReturnType<typeof service>>({ name: "bench" })
  return {
    // There is no bulk call: single ones, many in flight.
    submitMany: (tasks) =>
      inChunks(tasks, settings.bulk, ([task]) => (task === undefined ? Promise.resolve() : send.noop(task))),
    submit: (task) => send.noop(task),
    remaining: async () => {
      const response = await fetch(`${connection.adminUrl}/query`, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify({ query: "select count(*) as open from sys_invocation where status <> 'completed'" })
      })
      const { rows } = (await response.json()) as { readonly rows: ReadonlyArray<{ readonly open: number }> }
      return rows[0]?.open ?? Number.NaN
    },
    close: () => Promise.resolve()
  }
}

export const worker: Adapter["worker"] = async (connection, _, done) => {
  const handler = restate.createEndpointHandler({ services: [service(done)] })
  const server = http2.createServer(handler as any)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  const response = await fetch(`${connection.adminUrl}/deployments`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ uri: `http://127.0.0.1:${port}` })
  })
  if (!response.ok) throw new Error(`the deployment was refused: ${response.status} ${await response.text()}`)
  return { close: () => new Promise((resolve) => server.close(() => resolve())) }
}
