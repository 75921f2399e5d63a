/**
 * Carries out what an isolated attempt asks of its node, on the attempt that the node itself holds.
 *
 * Invariant: an attempt reaches its own task and the artifacts of its own namespace, nothing else, whatever its process
 * says; what it has opened is closed with the attempt's scope; open calls, and open artifacts, are bounded.
 */
import { type Cause, Effect, Exit, Fiber, FiberMap, Queue, Result, Schema, Scope, Stream } from "effect"
import { type Attempt, BehaviourFailure } from "../../actors/Behaviour.ts"
import { ArtifactError, type ArtifactInfo, ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import type { ChildEnd } from "../../actors/ports/ChildLedger.ts"
import { ArtifactId, Namespace, TaskId } from "../../protocol/Ids.ts"
import type { JsonShape } from "../../protocol/JsonShape.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Senders } from "../../protocol/Signal.ts"
import { SubmitTask } from "../../protocol/Task.ts"
import type { Call, ToProcess } from "./Messages.ts"

type Refusal = BehaviourFailure | ArtifactError

/** Artifacts that an attempt may have open at a time, to read or to write. */
const openArtifactsMax = 32
/** Pieces of an artifact that wait to be stored. */
const piecesMax = 4

/** Answers calls by `tell` for as long as the scope is open; false when the process breaks the bound on open calls. */
export const serve = Effect.fnUntraced(function* (attempt: Attempt, tell: (message: ToProcess) => void) {
  const calls = yield* FiberMap.make<number>()
  const run = yield* FiberMap.runtime(calls)<ArtifactStore>()
  const methods = yield* methodsOf(attempt)
  let open = 0

  return ({ argument, call, method }: Call): boolean => {
    if (method === "forget") {
      run(call, Effect.void)
      return true
    }
    // Beside those that wait for an answer there may be some that were just answered, or given up.
    if (open >= 2 * Limits.isolatedCallsMax) return false
    open++
    run(
      call,
      Effect.suspend(() => methods[method]?.(argument) ?? Effect.fail(malformed(method))).pipe(
        Effect.matchEager({
          onFailure: (failure) => tell({ _tag: "Refusal", call, failure: told(failure) }),
          onSuccess: (value) => tell({ _tag: "Answer", call, value: value ?? null })
        }),
        Effect.ensuring(
          Effect.sync(() => {
            open--
          })
        )
      )
    )
    return true
  }
})

const told = (failure: Refusal): Extract<ToProcess, { readonly _tag: "Refusal" }>["failure"] =>
  failure._tag === "ArtifactError"
    ? { _tag: "Fault", reason: failure.reason, message: failure.message }
    : {
        _tag: "Failure",
        ...{ code: failure.code, message: failure.message, retryable: failure.retryable },
        ...(failure.retryAfterMillis !== undefined && { retryAfterMillis: failure.retryAfterMillis }),
        ...(failure.details !== undefined && { details: failure.details })
      }

type Method = (argument: Schema.Json) => Effect.Effect<Schema.Json | undefined, Refusal, ArtifactStore>

/** A method with its argument decoded. */
const method =
  <S extends Schema.ConstraintDecoder<unknown>, A extends Schema.Json | undefined>(
    schema: S,
    perform: (argument: S["Type"]) => Effect.Effect<A, Refusal, ArtifactStore>
  ): Method =>
  (argument) => {
    const decoded = Schema.decodeUnknownResult(schema, { onExcessProperty: "error" })(argument)
    return Result.isSuccess(decoded) ? perform(decoded.success) : Effect.fail(malformed(decoded.failure.message))
  }

const malformed = (what: string) =>
  new BehaviourFailure({ code: "call_invalid", message: `a call is not understood: ${what}`, retryable: false })

const methodsOf = Effect.fnUntraced(function* (attempt: Attempt) {
  const scope = yield* Effect.scope
  const readers = new Map<
    number,
    { readonly next: Effect.Effect<Schema.Json, Refusal>; readonly scope: Scope.Closeable }
  >()
  const writers = new Map<number, Writer>()
  let handles = 0

  const own = <A>(namespace: Namespace, perform: Effect.Effect<A, Refusal, ArtifactStore>) =>
    namespace === attempt.namespace
      ? perform
      : Effect.fail(new ArtifactError({ reason: "not-found", message: "an attempt reaches its own namespace only" }))

  const roomForOne = Effect.suspend(() =>
    readers.size + writers.size < openArtifactsMax
      ? Effect.succeed(++handles)
      : Effect.fail(
          new ArtifactError({ reason: "unavailable", message: `an attempt opens at most ${openArtifactsMax}` })
        )
  )

  const read = Effect.fnUntraced(function* (id: ArtifactId) {
    const handle = yield* roomForOne
    const own = yield* Scope.fork(scope)
    const store = yield* ArtifactStore
    const pull = yield* Scope.provide(Stream.toPull(store.read(attempt.namespace, id)), own)
    let waiting: Array<Uint8Array> = []
    const next: Effect.Effect<Schema.Json, Refusal> = Effect.suspend(() => {
      const piece = waiting.shift()
      if (piece !== undefined) return Effect.succeed(Buffer.from(piece).toString("base64"))
      return Effect.matchEffect(pull, {
        onSuccess: (pieces) => {
          waiting = [...pieces]
          return next
        },
        onFailure: (end) => (end instanceof ArtifactError ? Effect.fail(end) : Effect.succeed(null))
      })
    })
    readers.set(handle, { next, scope: own })
    return handle
  })

  const write = Effect.fnUntraced(function* (about: {
    readonly name: string
    readonly contentType: string
    owner?: TaskId
  }) {
    const handle = yield* roomForOne
    const store = yield* ArtifactStore
    const pieces = yield* Queue.bounded<Uint8Array, ArtifactError | Cause.Done>(piecesMax)
    const stored = yield* Effect.forkIn(
      Effect.onExit(
        store.put({ ...about, namespace: attempt.namespace, content: Stream.fromQueue(pieces) }),
        // Who hands over more waits no longer for room.
        (exit) => (Exit.isSuccess(exit) ? Effect.void : Queue.shutdown(pieces))
      ),
      scope
    )
    writers.set(handle, { pieces, stored })
    return handle
  })

  const writer = (handle: number) => {
    const found = writers.get(handle)
    return found === undefined ? Effect.fail(malformed("no such artifact is open")) : Effect.succeed(found)
  }

  const methods: Readonly<Record<string, Method | undefined>> = {
    signal: method(SignalCall, ({ name, options: { from, hold, message, shape, timeout } }) =>
      Effect.map(
        attempt.signal(name, {
          ...(from !== undefined && { from }),
          ...(message !== undefined && { message }),
          ...(shape !== undefined && { shape }),
          ...(hold !== undefined && { hold }),
          ...(timeout !== undefined && { timeout })
        }),
        (taken) => ({ ...taken })
      )
    ),
    emit: method(EmitCall, ({ chunk, stream }) => Effect.as(attempt.emit(stream, chunk), null)),
    submit: method(SubmitCall, ({ commands, step }) =>
      Effect.map(attempt.submit(step, commands), (ids): ReadonlyArray<string> => ids)
    ),
    children: method(ChildrenCall, ({ children, hold }) =>
      Effect.map(
        attempt.awaitChildren(children, { ...(hold !== undefined && { hold }) }),
        (ends): ReadonlyArray<Schema.Json> => ends.map(encodeEnd)
      )
    ),
    "artifact.info": method(ArtifactCall, ({ id, namespace }) =>
      own(
        namespace,
        ArtifactStore.use((store) => Effect.map(store.info(namespace, id), infoOf))
      )
    ),
    "artifact.release": method(ArtifactCall, ({ id, namespace }) =>
      own(
        namespace,
        ArtifactStore.use((store) => Effect.as(store.release(namespace, id), null))
      )
    ),
    "artifact.open": method(ArtifactCall, ({ id, namespace }) => own(namespace, read(id))),
    "artifact.next": method(HandleCall, ({ handle }) => readers.get(handle)?.next ?? Effect.succeed(null)),
    "artifact.close": method(HandleCall, ({ handle }) => {
      const reader = readers.get(handle)
      readers.delete(handle)
      return reader === undefined ? Effect.succeed(null) : Effect.as(Scope.close(reader.scope, Exit.void), null)
    }),
    "artifact.begin": method(BeginCall, ({ contentType, name, namespace, owner }) =>
      owner !== undefined && owner !== attempt.taskId
        ? Effect.fail(malformed("an artifact belongs to the task that makes it, or to none"))
        : own(namespace, write({ name, contentType, ...(owner !== undefined && { owner }) }))
    ),
    "artifact.write": method(WriteCall, ({ handle, piece }) =>
      Effect.flatMap(writer(handle), ({ pieces }) =>
        // What the store has refused already is told at the end.
        Effect.as(Queue.offer(pieces, new Uint8Array(Buffer.from(piece, "base64"))), null)
      )
    ),
    "artifact.end": method(HandleCall, ({ handle }) =>
      Effect.flatMap(writer(handle), ({ pieces, stored }) => {
        writers.delete(handle)
        return Effect.map(Effect.andThen(Queue.end(pieces), Fiber.join(stored)), infoOf)
      })
    ),
    "artifact.abort": method(HandleCall, ({ handle }) =>
      Effect.flatMap(writer(handle), ({ stored }) => {
        writers.delete(handle)
        return Effect.as(Fiber.interrupt(stored), null)
      })
    )
  }
  return methods
})

interface Writer {
  readonly pieces: Queue.Queue<Uint8Array, ArtifactError | Cause.Done>
  readonly stored: Fiber.Fiber<ArtifactInfo, ArtifactError>
}

const encodeEnd = ({ data, error, id, left_out, status }: ChildEnd): Schema.Json => ({
  ...{ id, status },
  ...(data !== undefined && { data }),
  ...(error !== undefined && { error: { ...error } }),
  ...(left_out === true && { left_out })
})

const infoOf = (info: ArtifactInfo): Schema.Json => ({ ...info })

const Shape: Schema.Codec<JsonShape> = Schema.Struct({
  type: Schema.optionalKey(Schema.Literals(["object", "array", "string", "number", "integer", "boolean", "null"])),
  description: Schema.optionalKey(Schema.String),
  enum: Schema.optionalKey(Schema.Array(Schema.Json)),
  properties: Schema.optionalKey(
    Schema.Record(
      Schema.String,
      Schema.suspend(() => Shape)
    )
  ),
  required: Schema.optionalKey(Schema.Array(Schema.String)),
  additionalProperties: Schema.optionalKey(Schema.Boolean),
  items: Schema.optionalKey(Schema.suspend(() => Shape)),
  minItems: Schema.optionalKey(Schema.Number),
  maxItems: Schema.optionalKey(Schema.Number),
  minLength: Schema.optionalKey(Schema.Number),
  maxLength: Schema.optionalKey(Schema.Number),
  minimum: Schema.optionalKey(Schema.Number),
  maximum: Schema.optionalKey(Schema.Number)
})

const { idempotency_key: _key, parent_id: _parent, ...childFields } = SubmitTask.fields

const SignalCall = Schema.Struct({
  name: Schema.String,
  options: Schema.Struct({
    timeout: Schema.optionalKey(Schema.Number),
    hold: Schema.optionalKey(Schema.Number),
    message: Schema.optionalKey(Schema.String),
    shape: Schema.optionalKey(Shape),
    from: Schema.optionalKey(Senders)
  })
})
const EmitCall = Schema.Struct({ stream: Schema.String, chunk: Schema.Json })
const SubmitCall = Schema.Struct({
  step: Schema.String,
  commands: Schema.Array(Schema.Struct(childFields)).check(Schema.isMaxLength(Limits.batchTasksMax))
})
const ChildrenCall = Schema.Struct({
  children: Schema.optionalKey(Schema.Array(TaskId)),
  hold: Schema.optionalKey(Schema.Number)
})
const ArtifactCall = Schema.Struct({ namespace: Namespace, id: ArtifactId })
const HandleCall = Schema.Struct({ handle: Schema.Int })
const WriteCall = Schema.Struct({ handle: Schema.Int, piece: Schema.String })
const BeginCall = Schema.Struct({
  namespace: Namespace,
  name: Schema.String,
  contentType: Schema.String,
  owner: Schema.optionalKey(TaskId)
})
