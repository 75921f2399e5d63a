/** Who is told and does not listen: readers that do not read, a subscriber that stands still, an endpoint that never answers. */
import { readFileSync } from "node:fs"
import { createServer, type Server } from "node:http"
import { connect, type Socket } from "node:net"
import { type Fault, type FaultRun, quantile, seconds } from "../Fault.ts"
import { bodyOf, call, submitOnce } from "../Load.ts"
import type { RigNode } from "../Rig.ts"
import { latencies } from "./nodes.ts"

const residentMiB = (node: RigNode) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.process().pid()}/status`, "utf8"))?.[1] ?? 0) / 1_024

/** A reader of a task's stream that stops reading once the answer has begun. */
interface Reader {
  readonly socket: Socket
  /** Reads on, to the end or until it is cut. */
  readonly readOn: () => Promise<void>
  /** Numbers of the chunks that came so far. */
  readonly numbers: ReadonlyArray<number>
  readonly isEnded: () => boolean
}

const openReader = (run: FaultRun, node: RigNode, task: string, after: number, reads: boolean): Reader => {
  const socket = connect(node.port, "127.0.0.1")
  const numbers: Array<number> = []
  let rest = ""
  let ended = false
  const gone = new Promise<void>((resolve) => {
    socket.on("close", () => resolve())
  })
  socket.on("error", () => undefined)
  socket.on("data", (bytes) => {
    // The last frame may be cut in the middle: it counts once it is whole.
    const frames = (rest + bytes.toString("latin1")).split("\n\n")
    rest = frames.pop() ?? ""
    for (const frame of frames) {
      const number = /^id: (\d+)$/m.exec(frame)?.[1]
      if (number !== undefined) numbers.push(Number(number))
      ended ||= frame.includes("event: end")
    }
    if (!reads) socket.pause()
    else if (ended) socket.destroy()
  })
  const head = ["accept: text/event-stream", `last-event-id: ${after}`, `authorization: Bearer ${run.rig.adminKey}`]
  socket.write(`GET /api/v1/tasks/${task}/stream HTTP/1.1\r\nhost: it\r\n${head.join("\r\n")}\r\n\r\n`)
  return {
    socket,
    numbers,
    readOn: () => {
      reads = true
      socket.resume()
      return gone
    },
    isEnded: () => ended
  }
}

/** Chunks of a stream larger than what two sockets keep, and how many read it without reading. */
const chunks = 400
const chunkBytes = 60_000
const readers = 20

const isWhole = (numbers: ReadonlyArray<number>) =>
  numbers.length === chunks && numbers.every((number, at) => number === at + 1)

/** Subscribes to everything, many times over, and reads nothing of it. */
const stallSubscriber = (port: number): Socket => {
  const socket = connect(port, "127.0.0.1")
  socket.on("error", () => undefined)
  const subscriptions = Array.from({ length: 100 }, (_, number) => `SUB > ${number + 1}\r\n`).join("")
  socket.once("data", () => {
    socket.pause()
    socket.write(`CONNECT {"verbose":false,"pedantic":false,"name":"stalled"}\r\n${subscriptions}PING\r\n`)
  })
  return socket
}

const openEndpoint = (answers: boolean, told: (at: number, body: string) => void) =>
  new Promise<{ readonly server: Server; readonly port: number }>((resolve) => {
    const server = createServer((request, response) => {
      let body = ""
      request.on("data", (bytes) => {
        body += bytes
      })
      request.on("end", () => {
        told(Date.now(), body)
        if (answers) response.end()
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve({ server, port: address !== null && typeof address === "object" ? address.port : 0 })
    })
  })

export const slowReaders: Fault = {
  id: "F28",
  title: "readers of streams do not read, a subscriber of NATS stands still, an endpoint of webhooks never answers",
  pass: "nodes grow by less than 64 MiB, others are as fast, who is slow is cut and goes on without a gap",
  ...{ nodes: 2, perSecond: 60, seconds: 150 },
  environment: { DATAMCP_WEBHOOKS_ALLOW_PRIVATE: "127.0.0.1" },
  inject: async (run) => {
    const [node] = run.rig.nodes
    if (node === undefined) return []
    const late: Array<number> = []
    let hung = 0
    const good = await openEndpoint(true, (at, body) => late.push(at - Date.parse(JSON.parse(body).timestamp)))
    const hanging = await openEndpoint(false, () => hung++)
    const sockets: Array<Socket> = []
    try {
      const hook = (name: string, port: number) =>
        call(run.rig, node, "POST", "/webhooks", {
          body: {
            ...{ name, url: `http://127.0.0.1:${port}/`, concurrency: 32, disable_after: 1_000 },
            filter: { events: ["TaskCompleted"], agent: "echo" }
          }
        })
      if (!(await hook("good", good.port)).ok) throw new Error("a webhook could not be made")
      const emit = { chunks, bytes: chunkBytes }
      const written = await submitOnce(run, node, {
        kind: "submit",
        key: "stream",
        body: { agent: "echo", payload: { emit } }
      })
      const task = written.taskId ?? ""
      const status = async () => (await bodyOf(await call(run.rig, node, "GET", `/tasks/${task}`))).status
      while ((await status()) !== "completed") await seconds(0.5)
      // A reader that reads, before: how long the stream takes, and memory that has seen it once.
      const read = async (from: RigNode) => {
        const began = performance.now()
        const reader = openReader(run, from, task, 0, true)
        await reader.readOn()
        return { reader, millis: performance.now() - began }
      }
      const before = await read(node)
      if (!isWhole(before.reader.numbers)) throw new Error(`a reader saw ${before.reader.numbers.length} chunks`)
      const calm = latencies(run, 0)
      const memory = residentMiB(node)
      const lateBefore = late.splice(0)

      run.injected("an endpoint of a webhook never answers")
      await hook("hanging", hanging.port)
      run.injected(`${readers} readers of a stream stop reading`)
      const stalled = Array.from({ length: readers }, () => openReader(run, node, task, 0, false))
      for (const { socket } of stalled) sockets.push(socket)
      run.injected("a subscriber of everything stops reading")
      const subscriber = stallSubscriber(run.rig.nats.port)
      sockets.push(subscriber)
      const from = run.history.operations.length
      const began = performance.now()
      let subscriberCut: number | undefined
      let largest = memory
      const during: Array<number> = []
      const watch = async (until: () => boolean) => {
        while (!until()) {
          await seconds(1)
          const resident = residentMiB(node)
          if (resident > largest + 8) run.tell(`the node has grown by ${Math.round(resident - memory)} MiB`)
          largest = Math.max(largest, resident)
          if (subscriberCut !== undefined) continue
          const names = await Promise.resolve(run.rig.nats.connections).then((effect) => run.rig.run(effect))
          if (!names.some(({ name }) => name === "stalled") && performance.now() - began > 1_000) {
            subscriberCut = performance.now() - began
            run.tell(`the subscriber was cut after ${Math.round(subscriberCut)} ms`)
          }
        }
      }
      await watch(() => performance.now() - began > 10_000)
      const meanwhile = await read(node)
      during.push(meanwhile.millis)
      // Half of them read on: what they missed is there.
      const whileStalled = largest
      const half = stalled.slice(0, readers / 2)
      await Promise.all(half.map((reader) => reader.readOn()))
      const wholeAfter = half.filter((reader) => isWhole(reader.numbers) && reader.isEnded()).length
      run.tell(`${wholeAfter} of ${half.length} readers that read on found everything`)
      // A node cuts a connection on which nothing moves after `HttpLimits.stallTime`, or twice that.
      await watch(() => !run.goesOn() && (run.millis < 140_000 || performance.now() - began > 165_000))
      // The others were cut, if that was long enough: what is left in their sockets is read, then they come again.
      const rest = stalled.slice(readers / 2)
      const cutInTime = await Promise.all(
        rest.map(async (reader) => {
          await Promise.race([reader.readOn(), seconds(20)])
          const got = reader.numbers
          const again = openReader(run, node, task, got.at(-1) ?? 0, true)
          await again.readOn()
          return {
            wasCut: !reader.isEnded(),
            whole: isWhole([...got, ...again.numbers].slice(0, reader.isEnded() ? chunks : undefined))
          }
        })
      )
      const under = latencies(run, from)
      const cut = cutInTime.filter(({ wasCut }) => wasCut).length
      const round = Math.round
      return [
        {
          name: "growth of the node while they do not read",
          value: round(whileStalled - memory),
          unit: "MiB",
          most: 64
        },
        { name: "growth when half of them read on at once", value: round(largest - memory), unit: "MiB", most: 160 },
        { name: "bytes that nobody read", value: readers * chunks * chunkBytes, unit: "" },
        { name: "a reader that reads, before", value: round(before.millis), unit: "ms" },
        { name: "meanwhile", value: round(meanwhile.millis), unit: "ms", most: Math.max(5_000, 4 * before.millis) },
        { name: "readers that read on and missed nothing", value: wholeAfter, unit: "", least: half.length },
        { name: "readers cut", value: cut, unit: "", ...(run.millis >= 140_000 && { least: rest.length }) },
        {
          name: "of them found all when they came again",
          value: cutInTime.filter(({ wasCut, whole }) => wasCut && whole).length,
          ...{ unit: "", least: cut }
        },
        { name: "subscriber cut after", value: round(subscriberCut ?? Infinity), unit: "ms", most: 60_000 },
        { name: "requests to the endpoint that hangs", value: hung, unit: "", least: 1 },
        { name: "good webhooks, p99 late before", value: round(quantile(lateBefore, 0.99)), unit: "ms" },
        { name: "good webhooks, p99 late meanwhile", value: round(quantile(late, 0.99)), unit: "ms", most: 5_000 },
        { name: "good webhooks meanwhile", value: late.length, unit: "", least: 1 },
        { name: "accept p50 before", value: round(calm.p50), unit: "ms" },
        { name: "accept p50 meanwhile", value: round(under.p50), unit: "ms", most: Math.max(500, 4 * calm.p50) },
        { name: "accept p99 before", value: round(calm.p99), unit: "ms" },
        { name: "accept p99 meanwhile", value: round(under.p99), unit: "ms" }
      ]
    } finally {
      for (const socket of sockets) socket.destroy()
      for (const { server } of [good, hanging]) {
        server.closeAllConnections()
        server.close()
      }
    }
  }
}
