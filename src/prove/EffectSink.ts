/**
 * The world outside the platform: counts every call that tasks make, and answers each with a receipt of its own.
 *
 * It keeps nothing from happening twice; it only sees that it does. It lives in the prover's process, which is never killed, so what it has
 * seen is never lost.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { Effect } from "effect"
import type { Piece } from "./Work.ts"

export interface EffectSink {
  readonly port: number
  /** Where the task of this number calls. */
  readonly urlOf: (piece: Piece) => string
  /** How often the task of this number has called. */
  readonly callsOf: (number: number) => number
  /** All calls so far. */
  readonly calls: () => number
  /** Calls that named no task, or one of another number than their key. */
  readonly strangers: () => number
}

/** The number of the call that a receipt `{"receipt": "<number>/<call>"}` was given for, of the task of this number. */
export const callOf = (receipt: string | null, number: number): number | undefined => {
  const parts = /^(\d{1,7})\/(\d{1,9})$/u.exec(receipt ?? "")
  return parts !== null && Number(parts[1]) === number ? Number(parts[2]) : undefined
}

const path = /^\/effects\/(?<number>\d{1,7})\?hold=(?<hold>\d{1,5})(?<refused>&refuse)?$/u

/** Listens until the scope closes; fails when it may not listen at `host`. */
export const open = Effect.fnUntraced(function* (host: string, tasks: number) {
  const perTask = new Uint32Array(tasks)
  let calls = 0
  let strangers = 0
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    request.resume()
    const parts = path.exec(request.url ?? "")?.groups
    const number = Number(parts?.["number"] ?? Number.NaN)
    const before = perTask[number]
    if (request.method !== "POST" || parts === undefined || before === undefined) {
      strangers++
      response.writeHead(404).end()
      return
    }
    calls++
    perTask[number] = before + 1
    const refused = parts["refused"] !== undefined
    setTimeout(() => {
      response
        .writeHead(refused ? 422 : 200, { "content-type": "application/json" })
        .end(JSON.stringify(refused ? { refused: true } : { receipt: `${number}/${before + 1}` }))
    }, Number(parts["hold"]))
  }
  const server = createServer({ keepAliveTimeout: 30_000 }, serve)
  const port = yield* Effect.acquireRelease(
    Effect.callback<number, Error>((resume) => {
      server.once("error", (error) => resume(Effect.fail(error)))
      server.listen({ host, port: 0 }, () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )
  const shownHost = host.includes(":") ? `[${host}]` : host
  return {
    port,
    urlOf: ({ holdMillis, kind, number }) =>
      `http://${shownHost}:${port}/effects/${number}?hold=${holdMillis}${kind === "refused" ? "&refuse" : ""}`,
    callsOf: (number) => perTask[number] ?? 0,
    calls: () => calls,
    strangers: () => strangers
  } satisfies EffectSink
})
