/**
 * An endpoint as a user would run it: a real HTTP server that records what it gets and answers as it is told. It checks
 * signatures after the text of Standard Webhooks, with nothing of ours.
 */
import { createHmac } from "node:crypto"
import { createServer, type IncomingHttpHeaders } from "node:http"
import { Effect } from "effect"

export interface Received {
  readonly path: string
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly json: any
  readonly at: number
}

export interface Answer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly delayMillis?: number
  readonly body?: string
}

export interface Receiver {
  readonly port: number
  readonly url: (path: string) => string
  /** What came to a path, oldest first. */
  readonly at: (path: string) => ReadonlyArray<Received>
  /** How requests to a path are answered from now on; 204 when nothing is said. `count` is of that path, from 1. */
  readonly answer: (path: string, how: (count: number) => Answer) => void
}

export const receiver = Effect.map(
  Effect.acquireRelease(
    Effect.promise(async () => {
      const received = new Map<string, Array<Received>>()
      const answers = new Map<string, (count: number) => Answer>()
      const server = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          const { headers, method = "", url: path = "" } = request
          const text = Buffer.concat(chunks).toString()
          const list = received.get(path) ?? []
          received.set(path, list)
          list.push({
            path,
            method,
            headers,
            text,
            json: text === "" ? undefined : JSON.parse(text),
            at: performance.now()
          })
          const {
            body = "",
            delayMillis = 0,
            headers: sent = {},
            status = 204
          } = answers.get(path)?.(list.length) ?? {}
          setTimeout(() => response.writeHead(status, sent).end(body), delayMillis)
        })
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      const address = server.address()
      const port = address !== null && typeof address === "object" ? address.port : 0
      const made: Receiver = {
        port,
        url: (path) => `http://127.0.0.1:${port}${path}`,
        at: (path) => received.get(path) ?? [],
        answer: (path, how) => {
          answers.set(path, how)
        }
      }
      return { made, server }
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  ),
  ({ made }) => made
)

/** How many of a message's signatures are made with a secret. */
export const signaturesBy = (secret: string, { headers, text }: Received): number => {
  const key = Buffer.from(secret.slice("whsec_".length), "base64")
  const signed = `${String(headers["webhook-id"])}.${String(headers["webhook-timestamp"])}.${text}`
  const expected = `v1,${createHmac("sha256", key).update(signed).digest("base64")}`
  return String(headers["webhook-signature"])
    .split(" ")
    .filter((signature) => signature === expected).length
}

/** Waits until a condition holds, at most 20 s. */
export const eventually = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
  const end = performance.now() + 20_000
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited 20 s in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
