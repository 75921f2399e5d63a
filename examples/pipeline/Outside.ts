/**
 * The world outside of the platform, as one small server on the loopback: it serves the data sets, takes reports that are
 * published, and is told by the webhook.
 */
import { createReadStream } from "node:fs"
import { createServer, type IncomingHttpHeaders, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { catalogue } from "./catalogue.ts"
import { isGenuine } from "./Receiver.ts"

const dataSet = (name: string) =>
  fileURLToPath(new URL(`../../node_modules/vega-datasets/data/${name}`, import.meta.url))

export interface Told {
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly genuine: boolean
}

export interface Outside {
  readonly url: string
  /** Reports by the idempotency key that they came with: what comes again is taken once. */
  readonly published: ReadonlyMap<string, any>
  /** What the webhook has told, oldest first; what is not genuine as well. */
  readonly told: ReadonlyArray<Told>
  /** The webhook's secret, once it is known. */
  secret: string
  readonly close: () => void
}

export const openOutside = async (): Promise<Outside> => {
  const published = new Map<string, any>()
  const told: Array<Told> = []
  const server = createServer((request, response) => {
    void answer(request).then(
      ({ body, status }) => {
        response.writeHead(status, { "content-type": "application/json" })
        if (typeof body === "string") response.end(body)
        else body.on("error", () => response.destroy()).pipe(response)
      },
      () => response.destroy()
    )
  })

  const answer = async (request: IncomingMessage) => {
    const { headers, method, url: path } = request
    if (method === "GET" && path === "/files.json") {
      const files = catalogue.map((entry) => ({ ...entry, url: `${outside.url}/files/${entry.name}` }))
      return { status: 200, body: JSON.stringify({ files }) }
    }
    if (method === "GET") {
      const file = catalogue.find(({ name }) => path === `/files/${name}`)
      return file === undefined
        ? { status: 404, body: "" }
        : { status: 200, body: createReadStream(dataSet(file.name)) }
    }
    const body = await text(request)
    if (path === "/published") {
      published.set(String(headers["idempotency-key"]), JSON.parse(body))
      return { status: 201, body: "{}" }
    }
    if (path === "/told") {
      const genuine = isGenuine(outside.secret, headers, body)
      told.push({ headers, body, genuine })
      return { status: genuine ? 200 : 401, body: "" }
    }
    return { status: 404, body: "" }
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  const outside: Outside = {
    url: `http://127.0.0.1:${port}`,
    published,
    told,
    secret: "",
    close: () => {
      server.closeAllConnections()
      server.close()
    }
  }
  return outside
}
