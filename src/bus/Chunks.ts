/**
 * Chunks on their way to whoever reads a stream as it grows: core NATS, one subject per task, heard only by nodes with a
 * reader of it. Nothing is kept here: Postgres has every chunk before it goes out, and its number tells what was lost.
 */
import { Effect, Result, Schema } from "effect"
import type { Bus } from "../../actors/ports/Bus.ts"
import { ChunkMessage } from "../../protocol/Chunk.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import type { Evidence } from "./Evidence.ts"
import type { Nats } from "./Nats.ts"

/** Bytes of chunks in one message; below the 1 MiB that a server takes. */
const messageBytesMax = 512 * 1024

export const make = Effect.fnUntraced(function* (nats: Nats["Service"], evidence: Evidence) {
  const context = yield* Effect.context<never>()

  const send = (subject: string, namespace: string, texts: ReadonlyArray<string>) => {
    const text = `{"namespace":${JSON.stringify(namespace)},"chunks":[${texts.join(",")}]}`
    if (!nats.publish(subject, text)) Metrics.busDropped({ kind: "chunk" }).updateUnsafe(1, context)
  }

  const publish: Bus["Service"]["publishChunks"] = (namespace, chunks) =>
    Effect.sync(() => {
      const [first] = chunks
      if (first === undefined || !nats.connected()) return
      const subject = Subjects.chunk({ namespace, taskId: first.task_id })
      let part: Array<string> = []
      let bytes = 0
      for (const chunk of chunks) {
        const text = JSON.stringify(chunk)
        if (bytes > 0 && bytes + Buffer.byteLength(text) > messageBytesMax) {
          send(subject, namespace, part)
          part = []
          bytes = 0
        }
        part.push(text)
        bytes += Buffer.byteLength(text)
      }
      send(subject, namespace, part)
    })

  const onChunks = ({ namespace, taskId }: Parameters<Bus["Service"]["onChunks"]>[0], handle: Heard) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        nats.connection.subscribe(Subjects.chunk({ namespace, taskId }), {
          callback: (error, { data, subject }) => {
            if (error !== null) return
            const message = decode(new TextDecoder().decode(data))
            if (Result.isFailure(message)) {
              return evidence.undecodable({ kind: "chunk", subject, bytes: data.length, reason: "it holds no chunks" })
            }
            const own = message.success.chunks.filter((chunk) => chunk.task_id === taskId)
            evidence.guard("chunk", () => handle(own))
          }
        })
      ),
      (subscription) => Effect.sync(() => subscription.unsubscribe())
      // A caller reads what was before after this: nothing may fall between.
    ).pipe(Effect.andThen(nats.flushed))

  return { publish, onChunks }
})

type Heard = Parameters<Bus["Service"]["onChunks"]>[1]

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(ChunkMessage))
