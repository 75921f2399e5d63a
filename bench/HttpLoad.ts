/**
 * A load generator for HTTP that costs little itself: requests made once, one in flight per connection, answers only looked at for
 * status and length. It checks every answer's status and counts those that are not as they should be.
 */
import { connect } from "node:net"

export interface Load {
  readonly url: string
  readonly key: string
  readonly connections: number
  readonly seconds: number
  /** The n-th request. */
  readonly request: (n: number) => { readonly method: "GET" | "POST"; readonly path: string; readonly body?: object }
  /** The status that answers shall have. */
  readonly status: number
}

export interface Loaded {
  readonly millis: ReadonlyArray<number>
  readonly errors: number
  readonly elapsedMillis: number
}

export const httpLoad = async (load: Load): Promise<Loaded> => {
  const { hostname, port } = new URL(load.url)
  const millis: Array<number> = []
  let errors = 0
  let serial = 0
  const began = performance.now()
  const end = began + load.seconds * 1_000
  const texts = new Map<object, string>()
  const next = () => {
    const { body, method, path } = load.request(serial++)
    let text = ""
    if (body !== undefined) {
      text = texts.get(body) ?? JSON.stringify(body)
      if (texts.size < 1_000) texts.set(body, text)
    }
    const head = `${method} ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nAuthorization: Bearer ${load.key}\r\n`
    return body === undefined
      ? `${head}\r\n`
      : `${head}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
  }
  await Promise.all(
    Array.from({ length: load.connections }, async () => {
      const socket = connect(Number(port), hostname)
      socket.setNoDelay(true)
      let sentAt = performance.now()
      socket.write(next())
      let received: Buffer = Buffer.alloc(0)
      let open = true
      for await (const chunk of socket) {
        received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
        const answer = answerIn(received)
        if (answer === undefined) continue
        received = received.subarray(answer.bytes)
        const now = performance.now()
        millis.push(now - sentAt)
        if (answer.status !== load.status) errors++
        if (now >= end) {
          open = false
          break
        }
        sentAt = now
        socket.write(next())
      }
      // Closed by the server while a request was under way.
      if (open) errors++
    })
  )
  return { millis, errors, elapsedMillis: performance.now() - began }
}

/** Status and whole length of the first answer, once all of it is here. */
const answerIn = (bytes: Buffer): { readonly status: number; readonly bytes: number } | undefined => {
  const headEnd = bytes.indexOf("\r\n\r\n")
  if (headEnd < 0) return undefined
  const head = bytes.toString("latin1", 0, headEnd)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length === undefined) throw new Error(`an answer without a length: ${head}`)
  const whole = headEnd + 4 + Number(length)
  return bytes.length < whole ? undefined : { status: Number(head.slice(9, 12)), bytes: whole }
}
