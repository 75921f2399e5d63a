/**
 * Owns the receiving of request bodies into memory: each within its bytes and its time, all together within one bound.
 *
 * A body that passes a bound is dropped as soon as it does, whatever its Content-Length said. It must not know what a
 * body means.
 */

import type { IncomingMessage } from "node:http"
import { Context, Duration, Effect, Layer, Schedule } from "effect"
import { MalformedRequest, RequestTimeout } from "../../protocol/api/TransportProblem.ts"
import { Overloaded, TooLarge } from "../../protocol/Problem.ts"
import { HttpLimits } from "./HttpLimits.ts"

export type BodyProblem = TooLarge | Overloaded | RequestTimeout | MalformedRequest

/** What `collect` gives: the whole body, or why there is none. */
export type Collected = { readonly bytes: Buffer } | { readonly problem: BodyProblem }

interface Pending {
  readonly deadline: number
  readonly expire: () => void
}

export class RequestBodies extends Context.Service<
  RequestBodies,
  {
    /** The body of a request, at most `bytesMax` bytes of it. */
    readonly read: (request: IncomingMessage, bytesMax: number) => Effect.Effect<Buffer, BodyProblem>
    /** The same for callers below Effect: `done` is called once, unless the returned function was called before. */
    readonly collect: (request: IncomingMessage, bytesMax: number, done: (collected: Collected) => void) => () => void
  }
>()("datamcp/http/RequestBodies") {
  static readonly layer = Layer.effect(
    RequestBodies,
    Effect.gen(function* () {
      const { bodyTime, bufferedBytesMax } = yield* HttpLimits
      const bodyMillis = Duration.toMillis(bodyTime)
      const pending = new Set<Pending>()
      let bufferedBytes = 0

      // One sweep for all bodies: a timer for each would cost more than receiving a small one.
      const sweep = Effect.sync(() => {
        const now = performance.now()
        for (const body of pending) if (body.deadline <= now) body.expire()
      })
      yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced("1 second")))

      const collect = (request: IncomingMessage, bytesMax: number, done: (collected: Collected) => void) => {
        const declared = Number(request.headers["content-length"] ?? 0)
        if (declared > bytesMax) {
          done({ problem: tooLarge(bytesMax) })
          return () => {}
        }
        const chunks: Array<Buffer> = []
        let size = 0
        const onData = (chunk: Buffer) => {
          size += chunk.length
          bufferedBytes += chunk.length
          chunks.push(chunk)
          if (size > bytesMax) finish({ problem: tooLarge(bytesMax) })
          else if (bufferedBytes > bufferedBytesMax) finish({ problem: overloaded() })
        }
        const onEnd = () => {
          const [only] = chunks
          finish({ bytes: chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, size) })
        }
        const onCut = () => finish({ problem: new MalformedRequest({ detail: "The body was cut off." }) })
        const stop = () => {
          if (!pending.delete(body)) return false
          bufferedBytes -= size
          request.off("data", onData).off("end", onEnd).off("close", onCut)
          if (!request.complete) request.pause()
          return true
        }
        const finish = (collected: Collected) => {
          if (stop()) done(collected)
        }
        const body: Pending = {
          deadline: performance.now() + bodyMillis,
          expire: () => finish({ problem: late(bodyMillis) })
        }
        pending.add(body)
        request.on("data", onData).on("end", onEnd).on("close", onCut)
        return () => {
          stop()
        }
      }

      const read = (request: IncomingMessage, bytesMax: number) =>
        Effect.callback<Buffer, BodyProblem>((resume) => {
          const cancel = collect(request, bytesMax, (collected) =>
            resume("bytes" in collected ? Effect.succeed(collected.bytes) : Effect.fail(collected.problem))
          )
          return Effect.sync(cancel)
        })

      return RequestBodies.of({ read, collect })
    })
  )
}

const tooLarge = (limit: number) =>
  new TooLarge({ detail: `The body is larger than the limit of ${limit} bytes.`, field: "", limit, unit: "bytes" })

const overloaded = () =>
  new Overloaded({ detail: "Too many bytes of bodies are being received at this moment.", retry_after_seconds: 1 })

const late = (millis: number) => new RequestTimeout({ detail: `The body did not arrive within ${millis / 1000} s.` })
