/**
 * A plain load balancer in front of HTTP servers: round robin over those whose readiness answers 200, with kept connections and
 * no second try, so that every refusal of a server is seen. Each answer says in `x-served-by` which one gave it.
 */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect, Schedule } from "effect"

/** How often readiness is asked. */
const askEvery = "100 millis"

/** Balances between these URLs while the scope is open. Starts once one of them is ready. */
export const loadBalancer = Effect.fnUntraced(function* (urls: ReadonlyArray<string>) {
  const agent = new Agent({ keepAlive: true })
  const ready = new Set<number>()
  const failures: Array<string> = []
  let turn = 0

  const next = (): number | undefined => {
    for (const _ of urls) {
      turn = (turn + 1) % urls.length
      if (ready.has(turn)) return turn
    }
    return undefined
  }

  const carry = (incoming: IncomingMessage, answer: ServerResponse) => {
    const target = next()
    const url = target === undefined ? undefined : urls[target]
    if (url === undefined) return answer.writeHead(502).end()
    const outgoing = request(new URL(incoming.url ?? "/", url), {
      ...{ method: incoming.method, agent },
      headers: { ...incoming.headers, connection: "keep-alive" }
    })
    outgoing.on("response", (response) => {
      const { connection: _, "keep-alive": __, ...headers } = response.headers
      answer.writeHead(response.statusCode ?? 502, { ...headers, "x-served-by": String(target) })
      response.pipe(answer)
    })
    outgoing.on("error", (error) => {
      if (!answer.headersSent && !answer.destroyed)
        failures.push(`${incoming.method} ${incoming.url}: ${error.message}`)
      if (answer.headersSent) answer.destroy()
      else answer.writeHead(502).end()
    })
    answer.on("close", () => {
      if (!answer.writableFinished) outgoing.destroy()
    })
    return incoming.pipe(outgoing)
  }

  const look = (url: string, target: number) =>
    Effect.promise(async () => {
      const isReady = await fetch(`${url}/health/ready`).then(
        ({ ok }) => ok,
        () => false
      )
      if (isReady) ready.add(target)
      else ready.delete(target)
    })
  yield* Effect.forEach(urls, (url, target) =>
    Effect.forkScoped(Effect.repeat(look(url, target), Schedule.spaced(askEvery)))
  )

  const server = yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const made = createServer(carry)
      made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
    }),
    (made) =>
      Effect.sync(() => {
        made.closeAllConnections()
        made.close()
        agent.destroy()
      })
  )
  const address = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${address.port}`,
    /** Numbers of the servers that are ready, in no order. */
    ready: () => [...ready],
    /** Requests that a server did not answer. */
    failures: () => failures
  }
})
