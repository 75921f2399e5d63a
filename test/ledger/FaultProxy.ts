/**
 * A TCP proxy between the ledger and Postgres that loses answers on demand: what was sent has been carried out, and nobody
 * hears of it.
 */
import { connect, createServer, type Socket } from "node:net"
import { Effect } from "effect"

export interface FaultProxy {
  readonly port: number
  /** The next bytes that Postgres sends are dropped and their connection is cut. */
  readonly cutNextAnswer: () => void
  /** The next bytes for Postgres are passed on, and only the client's side of their connection is cut. */
  readonly cutNextQuestion: () => void
  /** Connections that are open now fall silent for ever; new ones work. */
  readonly silence: () => void
  /** While refused, every connection is cut and none is made. */
  readonly refuse: (isRefused: boolean) => void
  /** How many connections were cut or silenced: a test that cut nothing shows nothing. */
  readonly faults: () => number
}

export const make = (targetPort: number) =>
  Effect.acquireRelease(
    Effect.callback<FaultProxy & { readonly close: Effect.Effect<void> }>((resume) => {
      const pairs = new Set<{ readonly client: Socket; readonly server: Socket; silent: boolean }>()
      let armed: "answer" | "question" | undefined
      let isRefused = false
      let faults = 0

      const listener = createServer((client) => {
        if (isRefused) {
          client.destroy()
          return
        }
        const server = connect(targetPort, "127.0.0.1")
        const pair = { client, server, silent: false }
        pairs.add(pair)
        const close = () => {
          pairs.delete(pair)
          client.destroy()
          server.destroy()
        }
        client.on("data", (bytes) => {
          if (pair.silent) return
          server.write(bytes)
          if (armed !== "question") return
          armed = undefined
          faults++
          client.destroy()
        })
        server.on("data", (bytes) => {
          if (pair.silent) return
          if (armed !== "answer") {
            client.write(bytes)
            return
          }
          armed = undefined
          faults++
          close()
        })
        for (const socket of [client, server]) {
          socket.setNoDelay(true)
          socket.on("error", () => undefined)
        }
        server.on("close", close)
        // Postgres shall not notice at once that nobody waits any more: what it carries out stays under way.
        client.on("close", () => setTimeout(close, 300).unref())
      })

      listener.listen({ host: "127.0.0.1", port: 0 }, () => {
        const address = listener.address()
        resume(
          Effect.succeed({
            port: address !== null && typeof address === "object" ? address.port : 0,
            cutNextAnswer: () => {
              armed = "answer"
            },
            cutNextQuestion: () => {
              armed = "question"
            },
            silence: () => {
              for (const pair of pairs) {
                pair.silent = true
                faults++
              }
            },
            refuse: (next) => {
              isRefused = next
              if (!next) return
              for (const { client, server } of pairs) {
                faults++
                client.destroy()
                server.destroy()
              }
            },
            faults: () => faults,
            close: Effect.callback<void>((done) => {
              for (const { client, server } of pairs) {
                client.destroy()
                server.destroy()
              }
              listener.close(() => done(Effect.void))
            })
          })
        )
      })
    }),
    ({ close }) => close
  )
