/**
 * The process's end of the line to its node: what it says, and the calls that it makes, each of which gets one answer.
 *
 * Invariant: at most `Limits.isolatedCallsMax` calls are open at a time, others wait; nothing longer than the node takes
 * is sent, so that a large value fails where it was made instead of ending the process.
 */
import { Socket } from "node:net"
import { Deferred, Effect, type Schema, Semaphore } from "effect"
import { BehaviourFailure } from "../../actors/Behaviour.ts"
import { ArtifactError } from "../../actors/ports/ArtifactStore.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type FrameKind, frameOf, frameReader } from "./Frames.ts"
import type { FromProcess, ToProcess } from "./Messages.ts"

/** The pipe of the frames. */
const lineDescriptor = 3

export interface Line {
  /** Sends a message; false, and nothing is sent, when it is longer than the node takes. */
  readonly say: (message: FromProcess) => boolean
  /** Sends a result's JSON. Its sender knows that it is short enough. */
  readonly giveResult: (text: string) => void
  /** Asks the node for something that an attempt may do. */
  readonly call: (method: string, argument: Schema.Json) => Effect.Effect<Schema.Json, BehaviourFailure | ArtifactError>
  /** Succeeds once everything that was said has left the process. */
  readonly drained: () => Promise<void>
}

export const open = (options: {
  readonly hear: (message: Exclude<ToProcess, { readonly _tag: "Answer" | "Refusal" }>) => void
  readonly onEnd: () => void
}): Line => {
  const socket = new Socket({ fd: lineDescriptor })
  const open = new Map<number, Deferred.Deferred<Schema.Json, BehaviourFailure | ArtifactError>>()
  const slots = Semaphore.makeUnsafe(Limits.isolatedCallsMax)
  let calls = 0

  const send = (kind: FrameKind, text: string) => socket.write(frameOf(kind, text))

  const say: Line["say"] = (message) => {
    const text = JSON.stringify(message)
    if (Buffer.byteLength(text) > Limits.isolatedMessageBytesMax) return false
    send("message", text)
    return true
  }

  const answered = (message: ToProcess) => {
    if (message._tag !== "Answer" && message._tag !== "Refusal") return options.hear(message)
    const waiting = open.get(message.call)
    open.delete(message.call)
    if (waiting === undefined) return
    Deferred.doneUnsafe(
      waiting,
      message._tag === "Answer" ? Effect.succeed(message.value) : Effect.fail(failureOf(message.failure))
    )
  }

  const call: Line["call"] = (method, argument) =>
    Effect.suspend(() => {
      const number = ++calls
      const answer = Deferred.makeUnsafe<Schema.Json, BehaviourFailure | ArtifactError>()
      if (!say({ _tag: "Call", call: number, method, argument })) return Effect.fail(tooLong(method))
      open.set(number, answer)
      return Effect.onInterrupt(Deferred.await(answer), () =>
        Effect.sync(() => {
          open.delete(number)
          say({ _tag: "Call", call: number, method: "forget", argument: null })
        })
      )
    }).pipe(Semaphore.withPermits(slots, 1))

  socket
    .on(
      "data",
      frameReader({
        bytesMax: { message: Number.POSITIVE_INFINITY, result: 0 },
        onFrame: ({ text }) => answered(JSON.parse(text)),
        onBreach: options.onEnd
      })
    )
    .on("end", options.onEnd)
    .on("error", options.onEnd)
    .on("close", options.onEnd)

  return {
    say,
    call,
    giveResult: (text) => send("result", text),
    drained: () => new Promise((resolve) => socket.write("", () => resolve()))
  }
}

const failureOf = (failure: Extract<ToProcess, { readonly _tag: "Refusal" }>["failure"]) => {
  const { _tag, ...fields } = failure
  return "reason" in fields ? new ArtifactError(fields) : new BehaviourFailure(fields)
}

const tooLong = (method: string) =>
  new BehaviourFailure({
    code: "message_too_large",
    message: `${method}: what is handed over has more than ${Limits.isolatedMessageBytesMax} bytes of JSON`,
    retryable: false
  })
