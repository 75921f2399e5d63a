/**
 * A TCP proxy for one edge (node to Postgres, node to NATS, client to node) that does to it what networks do.
 *
 * It never invents, doubles or reorders bytes: TCP does not either. A partition holds bytes rather than dropping them, as TCP
 * would send them again once it heals, and hides the end of either side meanwhile. What it did is counted: a run in which
 * nothing was done to an edge shows nothing.
 */
import { connect, createServer, type Socket } from "node:net"
import type { Chance } from "./Chance.ts"

/** `up`: from who connected to the server; `down`: back. */
export type Direction = "up" | "down"

export interface ProxyCounters {
  connections: number
  /** Connections that were closed, by FIN or, as `resets`, by RST. */
  cuts: number
  resets: number
  /** Connections that were refused while none may be made. */
  refused: number
  /** Chunks that were kept back by a partition. */
  held: number
  delayed: number
  throttled: number
  /** Chunks of which only the first part went on before their connection was cut. */
  truncated: number
}

export interface FaultProxy {
  readonly name: string
  readonly port: number
  readonly counters: Readonly<ProxyCounters>
  /** Faults of every kind so far. */
  readonly faults: () => number
  readonly open: () => number
  /** Ends all connections; new ones are made. */
  readonly cut: () => void
  readonly reset: () => void
  /** While refused, all connections are cut and none is made. */
  readonly refuse: (isRefused: boolean) => void
  /** Nothing passes in these directions until it is called with fewer. Connections stay. */
  readonly partition: (directions: ReadonlyArray<Direction>) => void
  readonly delay: (delay: { readonly millis: number; readonly jitterMillis: number } | undefined) => void
  readonly throttle: (bytesPerSecond: number | undefined) => void
  /** Of the next chunk in this direction only so many bytes pass; then its connection is cut. */
  readonly truncateNext: (direction: Direction, bytes: number) => void
  /** The next chunk for the server whose bytes contain `text` passes; its answer does not, and the connection is cut. */
  readonly loseAnswerTo: (text: string) => void
  /** Takes all faults back. */
  readonly heal: () => void
  readonly close: () => Promise<void>
}

interface Chunk {
  readonly bytes: Buffer
  readonly at: number
}

/** One direction of one connection. */
interface Flow {
  readonly direction: Direction
  readonly from: Socket
  readonly to: Socket
  readonly waiting: Array<Chunk>
  ended: boolean
  releaseAt: number
  timer: NodeJS.Timeout | undefined
}

interface Pair {
  readonly client: Socket
  readonly server: Socket
  readonly flows: ReadonlyArray<Flow>
  /** Its question has passed; the answer will not. */
  doomed: boolean
}

export const openFaultProxy = (options: {
  readonly name: string
  readonly targetPort: number
  /** Of jitter. */
  readonly chance: Chance
}): Promise<FaultProxy> => {
  const counters: ProxyCounters = {
    ...{ connections: 0, cuts: 0, resets: 0, refused: 0, held: 0, delayed: 0, throttled: 0, truncated: 0 }
  }
  const pairs = new Set<Pair>()
  const blocked = new Set<Direction>()
  let isRefused = false
  let lag: { readonly millis: number; readonly jitterMillis: number } | undefined
  let rate: number | undefined
  let truncating: { readonly direction: Direction; readonly bytes: number } | undefined
  let losing: string | undefined

  const end = (pair: Pair, by: "cut" | "reset") => {
    if (!pairs.delete(pair)) return
    counters[by === "cut" ? "cuts" : "resets"]++
    for (const { timer } of pair.flows) clearTimeout(timer)
    for (const socket of [pair.client, pair.server]) {
      if (by === "reset") socket.resetAndDestroy()
      else socket.destroy()
    }
  }

  /** Passes on what may go by now, and then the end. */
  const pump = (pair: Pair, flow: Flow) => {
    clearTimeout(flow.timer)
    flow.timer = undefined
    if (blocked.has(flow.direction)) return
    const now = performance.now()
    while (flow.waiting[0] !== undefined && flow.waiting[0].at <= now) {
      const chunk = flow.waiting.shift()
      if (chunk !== undefined) flow.to.write(chunk.bytes)
    }
    const next = flow.waiting[0]
    if (next !== undefined) {
      flow.timer = setTimeout(() => pump(pair, flow), Math.max(1, next.at - now))
    } else if (flow.ended && pairs.delete(pair)) {
      for (const { timer } of pair.flows) clearTimeout(timer)
      pair.client.end()
      pair.server.end()
    }
    if (flow.from.isPaused()) flow.from.resume()
  }

  const pass = (pair: Pair, flow: Flow, bytes: Buffer) => {
    if (flow.direction === "down" && pair.doomed) return end(pair, "cut")
    if (truncating?.direction === flow.direction) {
      const { bytes: kept } = truncating
      truncating = undefined
      counters.truncated++
      flow.to.write(bytes.subarray(0, kept), () => end(pair, "cut"))
      return
    }
    if (flow.direction === "up" && losing !== undefined && bytes.includes(losing)) {
      losing = undefined
      counters.truncated++
      pair.doomed = true
    }
    let at = performance.now()
    if (lag !== undefined) {
      counters.delayed++
      at += lag.millis + options.chance.next() * lag.jitterMillis
    }
    at = Math.max(at, flow.releaseAt)
    if (rate !== undefined) {
      counters.throttled++
      at += (bytes.length / rate) * 1_000
    }
    flow.releaseAt = at
    flow.waiting.push({ bytes, at })
    if (blocked.has(flow.direction)) counters.held++
    if (blocked.has(flow.direction) || flow.waiting.length > waitingChunksMax) flow.from.pause()
    pump(pair, flow)
  }

  const listener = createServer((client) => {
    if (isRefused) {
      counters.refused++
      client.resetAndDestroy()
      return
    }
    counters.connections++
    const server = connect(options.targetPort, "127.0.0.1")
    const flow = (direction: Direction, from: Socket, to: Socket): Flow => ({
      ...{ direction, from, to, waiting: [], ended: false, releaseAt: 0, timer: undefined }
    })
    const flows = [flow("up", client, server), flow("down", server, client)]
    const pair: Pair = { client, server, flows, doomed: false }
    pairs.add(pair)
    for (const each of flows) {
      each.from.setNoDelay(true)
      each.from.on("error", () => undefined)
      each.from.on("data", (bytes: Buffer) => pass(pair, each, bytes))
      each.from.on("close", () => {
        each.ended = true
        pump(pair, each)
      })
    }
  })

  const pumpAll = () => {
    for (const pair of pairs) for (const flow of pair.flows) pump(pair, flow)
  }

  const partition = (directions: ReadonlyArray<Direction>) => {
    blocked.clear()
    for (const direction of directions) blocked.add(direction)
    // Every connection that is open now is held, whether or not it has something to say.
    if (directions.length > 0) counters.held += pairs.size
    pumpAll()
  }

  const proxy = (port: number): FaultProxy => ({
    name: options.name,
    port,
    counters,
    faults: () =>
      counters.cuts +
      counters.resets +
      counters.refused +
      counters.held +
      counters.delayed +
      counters.throttled +
      counters.truncated,
    open: () => pairs.size,
    cut: () => {
      for (const pair of pairs) end(pair, "cut")
    },
    reset: () => {
      for (const pair of pairs) end(pair, "reset")
    },
    refuse: (next) => {
      isRefused = next
      if (next) for (const pair of pairs) end(pair, "cut")
    },
    partition,
    delay: (next) => {
      lag = next
    },
    throttle: (next) => {
      rate = next
    },
    truncateNext: (direction, bytes) => {
      truncating = { direction, bytes }
    },
    loseAnswerTo: (text) => {
      losing = text
    },
    heal: () => {
      isRefused = false
      lag = rate = truncating = losing = undefined
      partition([])
    },
    close: () =>
      new Promise((resolve) => {
        for (const pair of pairs) {
          pair.client.destroy()
          pair.server.destroy()
        }
        pairs.clear()
        listener.close(() => resolve())
      })
  })

  return new Promise((resolve) => {
    listener.listen({ host: "127.0.0.1", port: 0 }, () => {
      const address = listener.address()
      resolve(proxy(address !== null && typeof address === "object" ? address.port : 0))
    })
  })
}

/** Chunks of one flow that may wait before its source is asked to wait too. */
const waitingChunksMax = 256
