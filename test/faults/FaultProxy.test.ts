import { connect, createServer, type Socket } from "node:net"
import { afterEach, describe, expect, it } from "vitest"
import { fromSeed } from "./Chance.ts"
import { type FaultProxy, openFaultProxy } from "./FaultProxy.ts"

const open: Array<() => void> = []

/** A server that sends back what it gets, and notes it; behind a proxy. */
const echoBehindProxy = async (): Promise<{ readonly proxy: FaultProxy; readonly got: () => string }> => {
  let got = ""
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on("error", () => undefined)
    socket.on("data", (bytes) => {
      got += bytes.toString()
      socket.write(bytes)
    })
  })
  const port = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve(address !== null && typeof address === "object" ? address.port : 0)
    })
  })
  const proxy = await openFaultProxy({ name: "edge", targetPort: port, chance: fromSeed(1) })
  open.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    void proxy.close()
  })
  return { proxy, got: () => got }
}

interface Client {
  readonly send: (text: string) => void
  readonly received: () => string
  readonly ended: () => "fin" | "reset" | undefined
}

const clientOf = (proxy: FaultProxy): Promise<Client> =>
  new Promise((resolve) => {
    let received = ""
    let ended: "fin" | "reset" | undefined
    const socket = connect(proxy.port, "127.0.0.1")
    open.push(() => socket.destroy())
    const client = { send: (text: string) => socket.write(text), received: () => received, ended: () => ended }
    socket.on("data", (bytes) => {
      received += bytes.toString()
    })
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNRESET") ended = "reset"
    })
    socket.on("close", () => {
      ended ??= "fin"
      resolve(client)
    })
    socket.on("connect", () => resolve(client))
  })

const until = async (what: string, reached: () => boolean) => {
  for (let tries = 0; tries < 400; tries++) {
    if (reached()) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error(`it did not come: ${what}`)
}
const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

afterEach(() => {
  for (const close of open.splice(0)) close()
})

describe("the fault proxy", () => {
  it("passes bytes both ways unchanged and counts no fault while it is told nothing", async () => {
    const { proxy } = await echoBehindProxy()
    const client = await clientOf(proxy)
    const text = "x".repeat(300_000)
    client.send(text)
    await until("the echo", () => client.received().length === text.length)
    expect(client.received()).toBe(text)
    expect(proxy.faults()).toBe(0)
    expect(proxy.counters.connections).toBe(1)
  })

  it("cuts and resets what is open, takes new connections at once, and none while it refuses", async () => {
    const { proxy } = await echoBehindProxy()
    const [first, second] = [await clientOf(proxy), await clientOf(proxy)]
    await until("both", () => proxy.open() === 2)
    proxy.cut()
    await until("the end", () => first.ended() !== undefined && second.ended() !== undefined)
    const third = await clientOf(proxy)
    third.send("a")
    await until("the echo", () => third.received() === "a")
    proxy.reset()
    await until("the reset", () => third.ended() === "reset")
    proxy.refuse(true)
    const refused = await clientOf(proxy)
    await until("the refusal", () => refused.ended() !== undefined)
    expect(proxy.counters).toMatchObject({ cuts: 2, resets: 1, refused: 1 })
    proxy.heal()
    const fourth = await clientOf(proxy)
    fourth.send("b")
    await until("the echo", () => fourth.received() === "b")
  })

  it("holds what a partition keeps from passing, one way or both, and lets it go when it heals", async () => {
    const { got, proxy } = await echoBehindProxy()
    const client = await clientOf(proxy)
    await until("it", () => proxy.open() === 1)
    proxy.partition(["down"])
    client.send("one way")
    await until("the question", () => got() === "one way")
    await pause(50)
    expect(client.received()).toBe("")
    proxy.heal()
    await until("the answer", () => client.received() === "one way")
    proxy.partition(["up", "down"])
    client.send(", both")
    await pause(50)
    expect(got()).toBe("one way")
    expect(client.ended()).toBeUndefined()
    proxy.heal()
    await until("the rest", () => client.received() === "one way, both")
    expect(proxy.counters.held).toBeGreaterThan(0)
  })

  it("delays with jitter without changing the order, and throttles to a rate", async () => {
    const { proxy } = await echoBehindProxy()
    const client = await clientOf(proxy)
    proxy.delay({ millis: 60, jitterMillis: 40 })
    const began = performance.now()
    for (let number = 0; number < 10; number++) {
      client.send(`${number},`)
      await pause(2)
    }
    await until("all", () => client.received().length === 20)
    expect(client.received()).toBe("0,1,2,3,4,5,6,7,8,9,")
    expect(performance.now() - began).toBeGreaterThan(120)
    proxy.heal()
    proxy.throttle(10_000)
    const from = performance.now()
    client.send("y".repeat(2_000))
    await until("all", () => client.received().length === 2_020)
    // 2,000 bytes up and down again at 10,000 a second.
    expect(performance.now() - from).toBeGreaterThan(350)
    expect(proxy.counters.delayed).toBeGreaterThan(0)
    expect(proxy.counters.throttled).toBeGreaterThan(0)
  })

  it("cuts a message in the middle", async () => {
    const { got, proxy } = await echoBehindProxy()
    const client = await clientOf(proxy)
    proxy.truncateNext("up", 3)
    client.send("truncated")
    await until("the end", () => client.ended() !== undefined)
    await until("the part", () => got() === "tru")
    expect(proxy.counters.truncated).toBe(1)
  })

  it("loses the answer to a question that it has passed on, and only to that one", async () => {
    const { got, proxy } = await echoBehindProxy()
    const client = await clientOf(proxy)
    proxy.loseAnswerTo("COMMIT")
    client.send("begin")
    await until("the first answer", () => client.received() === "begin")
    client.send("COMMIT")
    await until("the end", () => client.ended() !== undefined)
    expect(got()).toBe("beginCOMMIT")
    expect(client.received()).toBe("begin")
    const next = await clientOf(proxy)
    next.send("COMMIT")
    await until("its answer", () => next.received() === "COMMIT")
  })
})
