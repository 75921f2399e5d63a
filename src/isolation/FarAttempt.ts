/**
 * An attempt as a behaviour sees it in an isolated process: the same functions, carried out by its node
 * (`AttemptServer.ts`). Refusals come back as what they would be at home.
 */
import { Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { type Attempt, BehaviourFailure } from "../../actors/Behaviour.ts"
import { ArtifactError, ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { ArtifactId, GraphId, Namespace, SignalName, TaskId, TaskType } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { TaskError, type TaskProgress, TerminalStatus } from "../../protocol/Task.ts"
import type { Line } from "./Line.ts"
import type { AttemptFacts } from "./Messages.ts"

/** Least time between two reports of progress that leave the process; of those in between the last one does. */
const progressEvery = Duration.millis(50)
/** Bytes of an artifact in one message. */
const pieceBytesMax = 1024 * 1024

const trusted = { disableChecks: true } as const

export const farAttempt = (line: Line, facts: AttemptFacts): Attempt => {
  const call = (method: string, argument: Schema.Json) =>
    Effect.mapError(line.call(method, argument), (error) =>
      error instanceof BehaviourFailure
        ? error
        : new BehaviourFailure({ code: "artifact_unavailable", message: error.message, retryable: true })
    )
  return {
    taskId: TaskId.make(facts.taskId, trusted),
    namespace: Namespace.make(facts.namespace, trusted),
    graphId: facts.graphId === undefined ? undefined : GraphId.make(facts.graphId, trusted),
    name: facts.name,
    type: TaskType.make(facts.type, trusted),
    number: facts.number,
    payload: facts.payload,
    idempotencyKey: facts.idempotencyKey,
    timeout: Duration.millis(facts.timeoutMillis),
    progress: reporter(line),
    signal: (name, options = {}) =>
      Effect.map(
        call("signal", {
          name,
          options: {
            ...options,
            ...(options.timeout !== undefined && { timeout: millisOf(options.timeout) }),
            ...(options.hold !== undefined && { hold: millisOf(options.hold) })
          } as Schema.Json
        }),
        (taken) => {
          const signal = decodeSignal(taken)
          return { ...signal, name: SignalName.make(signal.name, trusted) }
        }
      ),
    emit: (stream, chunk) => Effect.asVoid(call("emit", { stream, chunk: chunk === undefined ? null : chunk })),
    submit: (step, commands) =>
      Effect.map(call("submit", { step, commands: commands as unknown as Schema.Json }), (ids) =>
        decodeIds(ids).map((id) => TaskId.make(id, trusted))
      ),
    awaitChildren: (children, options = {}) =>
      Effect.map(
        call("children", {
          ...(children !== undefined && { children: [...children] }),
          ...(options.hold !== undefined && { hold: millisOf(options.hold) })
        }),
        (ends) => decodeEnds(ends).map((end) => ({ ...end, id: TaskId.make(end.id, trusted) }))
      )
  }
}

const millisOf = (duration: Duration.Input) => Duration.toMillis(Duration.fromInputUnsafe(duration))

const decodeIds = Schema.decodeUnknownSync(Schema.Array(Schema.String))
const decodeEnds = Schema.decodeUnknownSync(
  Schema.Array(
    Schema.Struct({
      id: Schema.String,
      status: TerminalStatus,
      data: Schema.optionalKey(Schema.Json),
      error: Schema.optionalKey(TaskError),
      left_out: Schema.optionalKey(Schema.Literal(true))
    })
  )
)
const decodeSignal = Schema.decodeUnknownSync(
  Schema.Struct({
    number: Schema.Int,
    name: Schema.String,
    payload: Schema.Json,
    actor: Schema.String,
    at: Schema.String
  })
)

/** As long as its node keeps it. */
const shortened = ({ current_step: step, message, ...progress }: TaskProgress): TaskProgress => ({
  ...progress,
  ...(step !== undefined && { current_step: step.slice(0, Limits.nameCharactersMax) }),
  ...(message !== undefined && { message: message.slice(0, Limits.progressMessageCharactersMax) })
})

/** The first report goes at once; those that follow faster than `progressEvery` replace each other. */
const reporter = (line: Line): Attempt["progress"] => {
  let waiting: TaskProgress | undefined
  let resting = false
  const flush: Effect.Effect<void> = Effect.suspend(() => {
    if (waiting === undefined) {
      resting = false
      return Effect.void
    }
    line.say({ _tag: "Progress", progress: waiting as Schema.Json })
    waiting = undefined
    resting = true
    return Effect.andThen(Effect.sleep(progressEvery), flush)
  })
  return (progress) =>
    Effect.suspend(() => {
      waiting = shortened(progress)
      return resting ? Effect.void : Effect.asVoid(Effect.forkDetach(flush, { startImmediately: true }))
    })
}

/** The artifacts of the node, in the namespace of the attempt that runs. */
export const farArtifacts = (line: Line) =>
  Layer.sync(ArtifactStore, () => {
    const call = (method: string, argument: Schema.Json) =>
      Effect.mapError(line.call(method, argument), (error) =>
        error instanceof ArtifactError ? error : new ArtifactError({ reason: "unavailable", message: error.message })
      )
    return ArtifactStore.of({
      info: (namespace, id) => Effect.map(call("artifact.info", { namespace, id }), decodeInfo),
      release: (namespace, id) => Effect.asVoid(call("artifact.release", { namespace, id })),
      tidy: () => Effect.fail(new ArtifactError({ reason: "unavailable", message: "only a node tidies up" })),
      put: ({ content, ...about }) =>
        Effect.acquireUseRelease(
          call("artifact.begin", about),
          (handle) =>
            Stream.runForEach(content, (bytes) =>
              Effect.forEach(
                piecesOf(bytes),
                (piece) => call("artifact.write", { handle, piece: Buffer.from(piece).toString("base64") }),
                { discard: true }
              )
            ).pipe(Effect.andThen(call("artifact.end", { handle })), Effect.map(decodeInfo)),
          // After an end it is known no more, and this says nothing.
          (handle, exit) => (exit._tag === "Success" ? Effect.void : Effect.ignore(call("artifact.abort", { handle })))
        ),
      read: (namespace, id) =>
        Stream.unwrap(
          Effect.map(
            Effect.acquireRelease(call("artifact.open", { namespace, id }), (handle) =>
              Effect.ignore(call("artifact.close", { handle }))
            ),
            (handle) =>
              Stream.paginate(undefined, () =>
                Effect.map(call("artifact.next", { handle }), (piece) =>
                  typeof piece === "string"
                    ? ([[new Uint8Array(Buffer.from(piece, "base64"))], Option.some(undefined)] as const)
                    : ([[], Option.none()] as const)
                )
              )
          )
        )
    })
  })

const Info = Schema.Struct({
  id: ArtifactId,
  namespace: Namespace,
  name: Schema.String,
  contentType: Schema.String,
  sizeBytes: Schema.Int,
  sha256: Schema.String,
  createdAt: Schema.String
})
const decodeInfo = Schema.decodeUnknownSync(Info)

const piecesOf = (bytes: Uint8Array) =>
  Array.from({ length: Math.ceil(bytes.length / pieceBytesMax) }, (_, index) =>
    bytes.subarray(index * pieceBytesMax, (index + 1) * pieceBytesMax)
  )
