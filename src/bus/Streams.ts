/**
 * Owns the two streams: what they are like, that they exist, and that they exist again after the store was lost.
 *
 *   TASKS   dispatch messages, each gone once it is acknowledged (or after an hour: the ledger has the task)
 *   EVENTS  recorded events for replay, an hour of them (older ones are read from Postgres)
 *
 * Bounds discard the oldest and never refuse the newest: a full stream must not stop accepts. Nothing is ever deleted
 * here, and what an operator has added (placement, larger bounds while we run, replicas unless we are told how many) is left
 * as it is.
 *
 * Replicas are for going on, not for keeping: a stream on one server that is lost is made again on another and filled from
 * Postgres, which takes seconds; one on three goes on when a server dies, for a Raft group per stream and consumer.
 */
import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo
} from "@nats-io/jetstream"
import { nanos } from "@nats-io/transport-node"
import { Context, Deferred, Effect, Layer, Metric } from "effect"
import { BusUnavailable } from "../../actors/ports/Bus.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { dispatchAll, dispatchStream, eventAll, eventStream } from "../../protocol/Subjects.ts"
import { Nats } from "./Nats.ts"

type Description = Partial<StreamConfig> & {
  readonly name: string
  readonly retention: RetentionPolicy
  readonly max_bytes: number
}

const hour = nanos(3_600_000)
const mebibyte = 1024 * 1024

const descriptions: ReadonlyArray<Description> = [
  {
    name: dispatchStream,
    description: "datamcp: queued tasks on their way to agents; can be rebuilt from Postgres",
    subjects: [dispatchAll],
    retention: RetentionPolicy.Workqueue,
    storage: StorageType.File,
    discard: DiscardPolicy.Old,
    max_age: hour,
    max_bytes: 1024 * mebibyte,
    max_msg_size: mebibyte,
    // One for each lane in use of each active agent. Without a number nats-server stops at 1,000.
    max_consumers: 20_000,
    // Longer than a publisher repeats a message, and short, because the server keeps every id that long in memory.
    duplicate_window: nanos(15_000)
  },
  {
    name: eventStream,
    description: "datamcp: recorded events of the last hour; all of them are in Postgres",
    subjects: [eventAll],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.Old,
    max_age: hour,
    max_bytes: 512 * mebibyte,
    max_msg_size: mebibyte,
    max_consumers: 1_000,
    duplicate_window: nanos(1_000)
  }
]

/** How many servers of a cluster keep each stream. Undefined: one for new streams, and those that are there as they are. */
export const StreamReplicas = Context.Reference<1 | 3 | 5 | undefined>("datamcp/bus/StreamReplicas", {
  defaultValue: () => undefined
})

export class Streams extends Context.Service<
  Streams,
  {
    /**
     * Makes what is missing; the streams that it made are its answer. Callers that come while it runs share the run.
     * Fails when JetStream does not answer or refuses.
     */
    readonly heal: Effect.Effect<ReadonlyArray<string>, BusUnavailable>
  }
>()("datamcp/bus/Streams") {
  /** Makes or updates the streams. Fails with `BusUnavailable`, whose cause says what to do. */
  static readonly layer = Layer.effect(
    Streams,
    Effect.gen(function* () {
      const nats = yield* Nats
      const scope = yield* Effect.scope
      const replicas = yield* StreamReplicas
      const wanted = descriptions.map((description) => ({
        ...description,
        ...(replicas === undefined ? {} : { num_replicas: replicas })
      }))
      if (nats.connection.info?.jetstream !== true) {
        return yield* unavailable("make its streams", new Error("JetStream is off; start nats-server with -js"))
      }
      yield* Effect.forEach(wanted, (description) => establish(nats, description), { discard: true })

      let running: Deferred.Deferred<ReadonlyArray<string>, BusUnavailable> | undefined
      const run = Effect.map(
        Effect.forEach(wanted, (description) => addIfMissing(nats, description)),
        (made) => made.flat()
      )
      const heal = Effect.suspend(() => {
        if (running !== undefined) return Deferred.await(running)
        const answer = Deferred.makeUnsafe<ReadonlyArray<string>, BusUnavailable>()
        running = answer
        // In the layer's scope: a caller that goes away must not take the others' answer with it.
        return run.pipe(
          Effect.onExit((exit) =>
            Effect.sync(() => {
              running = undefined
              Deferred.doneUnsafe(answer, exit)
            })
          ),
          Effect.forkIn(scope),
          Effect.andThen(Deferred.await(answer))
        )
      })
      return Streams.of({ heal })
    })
  )
}

/** As described, whatever it was before, as far as the server lets a stream be changed. */
const establish = Effect.fnUntraced(function* (nats: Nats["Service"], description: Description) {
  const { name } = description
  const existing = yield* find(nats, name)
  if (existing === undefined) return yield* add(nats, description)
  if (existing.config.retention !== description.retention) {
    return yield* unavailable(
      `use stream ${name}`,
      new Error(
        `a stream ${name} with retention "${existing.config.retention}" exists already and is not ours; use another NATS account, or delete it if nobody needs it`
      )
    )
  }
  yield* nats
    .request(`update stream ${name}`, () => nats.manager.streams.update(name, description))
    .pipe(
      Effect.catch((error) =>
        error.cause instanceof JetStreamApiError
          ? Effect.logWarning(`stream ${name} cannot be changed and is used as it is: ${error.cause.message}`)
          : Effect.fail(error)
      )
    )
})

const addIfMissing = Effect.fnUntraced(function* (nats: Nats["Service"], description: Description) {
  if ((yield* find(nats, description.name)) !== undefined) return []
  yield* add(nats, description)
  yield* Effect.logWarning(`stream ${description.name} was gone and has been made again`)
  return [description.name]
})

/** With smaller bounds where the server has no room for ours: it sets `max_bytes` aside on disk. */
const add = Effect.fnUntraced(function* (nats: Nats["Service"], description: Description) {
  const adding = (bytes: number) =>
    nats
      .request(`make stream ${description.name}`, () => nats.manager.streams.add({ ...description, max_bytes: bytes }))
      .pipe(Effect.tap(Metric.update(Metrics.busStreamsMade({ stream: description.name }), 1)))
  const less = description.max_bytes / 16
  yield* adding(description.max_bytes).pipe(
    Effect.catchIf(
      (error) => isApiError(error.cause, ...noRoom),
      () =>
        Effect.andThen(
          Effect.logWarning(
            `NATS has no room for ${description.max_bytes / mebibyte} MiB of stream ${description.name}; it gets ${less / mebibyte} MiB`
          ),
          adding(less)
        )
    ),
    Effect.catchIf(
      (error) => isApiError(error.cause, ...tooFewServers),
      () =>
        unavailable(
          `make stream ${description.name}`,
          new Error(
            `DATAMCP_NATS_REPLICAS is ${description.num_replicas}, and this NATS has not as many servers with JetStream in one cluster that answer`
          )
        )
    )
  )
})

/** Account, memory or disk of the server: "insufficient resources", "insufficient storage resources", "resource limits exceeded". */
const noRoom = [10_023, 10_047, 10_002]

/** "replicas > 1 not supported in non-clustered mode", "no suitable peers for placement". */
const tooFewServers = [10_074, 10_005]

const find = (nats: Nats["Service"], name: string) =>
  nats
    .request(`look for stream ${name}`, () => nats.manager.streams.info(name))
    .pipe(
      Effect.catchIf(
        (error) => isApiError(error.cause, JetStreamApiCodes.StreamNotFound),
        () => Effect.succeed<StreamInfo | undefined>(undefined)
      )
    )

/** Whether JetStream answered with one of these error codes. */
export const isApiError = (cause: unknown, ...codes: ReadonlyArray<number>) =>
  cause instanceof JetStreamApiError && codes.includes(cause.code)

const unavailable = (operation: string, cause: unknown) => Effect.fail(new BusUnavailable({ operation, cause }))
