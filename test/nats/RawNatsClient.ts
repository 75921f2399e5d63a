/**
 * A NATS client of its own, on a bare socket: the text protocol of nats-server and what docs/nats-protocol.md says,
 * nothing else. Shares no code with the platform or with the NATS libraries it uses, so that it proves the text.
 */
import { randomBytes } from "node:crypto"
import { connect, type Socket } from "node:net"

export interface RawMessage {
  readonly subject: string
  readonly reply: string | undefined
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** Such as `503` when nobody listens on the subject; undefined for ordinary messages. */
  readonly status: string | undefined
  readonly body: Buffer
}

export interface RawAnswer extends RawMessage {
  readonly json: any
}

const crlf = "\r\n"
const requestMillis = 10_000

export class RawNatsClient {
  readonly #socket: Socket
  readonly #inbox = `_INBOX.${randomBytes(11).toString("hex")}`
  readonly #subscribers = new Map<string, (message: RawMessage) => void>()
  readonly #waiting = new Map<string, (message: RawMessage) => void>()
  readonly #errors: Array<string> = []
  #unread: Buffer = Buffer.alloc(0)
  #pongs: Array<() => void> = []
  #count = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on("data", (bytes: Buffer) => this.#read(bytes))
  }

  /** Connects to `nats://host:port`. */
  static async open(url: string): Promise<RawNatsClient> {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port) })
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject))
    socket.on("error", () => undefined)
    const client = new RawNatsClient(socket)
    const options = {
      verbose: false,
      pedantic: true,
      headers: true,
      no_responders: true,
      lang: "raw",
      version: "0",
      protocol: 1
    }
    socket.write(`CONNECT ${JSON.stringify(options)}${crlf}`)
    client.subscribe(`${client.#inbox}.*`, (message) => {
      const waiting = client.#waiting.get(message.subject)
      client.#waiting.delete(message.subject)
      waiting?.(message)
    })
    await client.flush()
    return client
  }

  close() {
    this.#socket.destroy()
  }

  /** What the server has complained of. */
  get errors(): ReadonlyArray<string> {
    return this.#errors
  }

  /** Resolves when the server has seen everything sent so far. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#pongs.push(resolve)
      this.#socket.write(`PING${crlf}`)
    })
  }

  subscribe(subject: string, handle: (message: RawMessage) => void) {
    const sid = String(++this.#count)
    this.#subscribers.set(sid, handle)
    this.#socket.write(`SUB ${subject} ${sid}${crlf}`)
  }

  publish(
    subject: string,
    body: string | Uint8Array,
    options: { headers?: Record<string, string>; reply?: string } = {}
  ) {
    const payload = Buffer.from(body)
    const target = options.reply === undefined ? subject : `${subject} ${options.reply}`
    if (options.headers === undefined) {
      this.#socket.write(
        Buffer.concat([Buffer.from(`PUB ${target} ${payload.length}${crlf}`), payload, Buffer.from(crlf)])
      )
      return
    }
    const lines = Object.entries(options.headers).map(([name, value]) => `${name}: ${value}${crlf}`)
    const head = Buffer.from(`NATS/1.0${crlf}${lines.join("")}${crlf}`)
    const sizes = `${head.length} ${head.length + payload.length}`
    this.#socket.write(Buffer.concat([Buffer.from(`HPUB ${target} ${sizes}${crlf}`), head, payload, Buffer.from(crlf)]))
  }

  /** Sends a request and waits for its one answer. */
  request(subject: string, body: unknown, headers: Record<string, string> = {}): Promise<RawAnswer> {
    const reply = `${this.#inbox}.${++this.#count}`
    const text = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer from ${subject}`)), requestMillis)
      this.#waiting.set(reply, (message) => {
        clearTimeout(timer)
        resolve({ ...message, json: message.body.length === 0 ? undefined : JSON.parse(message.body.toString()) })
      })
      this.publish(subject, text, { headers, reply })
    })
  }

  /** Asks what every node answers, and waits for `count` answers. */
  requestMany(subject: string, count = 1): Promise<ReadonlyArray<any>> {
    const reply = `_INBOX.${randomBytes(11).toString("hex")}`
    const found: Array<any> = []
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${found.length} of ${count} answers to ${subject}`)),
        requestMillis
      )
      this.subscribe(reply, ({ body }) => {
        found.push(JSON.parse(body.toString()))
        if (found.length < count) return
        clearTimeout(timer)
        resolve(found)
      })
      this.publish(subject, "", { reply })
    })
  }

  #read(bytes: Buffer) {
    this.#unread = Buffer.concat([this.#unread, bytes])
    for (;;) {
      const end = this.#unread.indexOf(crlf)
      if (end < 0) return
      const words = this.#unread.subarray(0, end).toString().split(" ")
      const operation = words[0] ?? ""
      if (operation === "MSG" || operation === "HMSG") {
        const size = Number(words.at(-1))
        const from = end + crlf.length
        if (this.#unread.length < from + size + crlf.length) return
        const content = Buffer.from(this.#unread.subarray(from, from + size))
        this.#unread = this.#unread.subarray(from + size + crlf.length)
        this.#deliver(operation === "HMSG", words, content)
        continue
      }
      this.#unread = this.#unread.subarray(end + crlf.length)
      if (operation === "PING") this.#socket.write(`PONG${crlf}`)
      if (operation === "PONG") this.#pongs.shift()?.()
      if (operation === "-ERR") this.#errors.push(words.slice(1).join(" "))
    }
  }

  #deliver(hasHeaders: boolean, words: ReadonlyArray<string>, content: Buffer) {
    const [, subject = "", sid = ""] = words
    const reply = words.length > (hasHeaders ? 5 : 4) ? words[3] : undefined
    const headSize = hasHeaders ? Number(words.at(-2)) : 0
    const [first = "", ...lines] = content.subarray(0, headSize).toString().split(crlf)
    const headers = lines.flatMap((line) => {
      const colon = line.indexOf(":")
      return colon < 0 ? [] : [[line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const]
    })
    const status = /^NATS\/1\.0 +(\d+)/u.exec(first)?.[1]
    const body = content.subarray(headSize)
    this.#subscribers.get(sid)?.({ subject, reply, headers: Object.fromEntries(headers), status, body })
  }
}
