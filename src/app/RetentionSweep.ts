/**
 * Carries retention out: deletes what the rules of a namespace say, a stretch of its tasks at a time, and clears results
 * whose time to live is over. On one node of the cluster.
 *
 *   stretch of tasks, old to new --> those due --> [ archive --> ] delete --> note where it stands --> next stretch
 *
 * What is archived is deleted after the archive has been committed: a crash between the two archives it once more, and
 * loses nothing. What a living task depends on stays, and so does what an idempotency key still stands for (72 h).
 */
import { gzip } from "node:zlib"
import { Clock, Context, DateTime, Duration, Effect, Layer, Stream } from "effect"
import { ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import { type DueRetention, type DueTask, RetentionStore } from "../ledger/RetentionStore.ts"
import { firstOf } from "./OperationRunner.ts"

export const RetentionLimits = Context.Reference<{
  /** Tasks that one step looks at. */
  readonly windowRows: number
  /** Most tasks of one deletion, and of one archive. */
  readonly tasks: number
  /** Most events of the tasks of one deletion. */
  readonly events: number
  /** Most bytes of payloads and results in one archive, before compression. */
  readonly archiveBytes: number
  /** Pause after each step. */
  readonly pause: Duration.Duration
  /** Pause after the last stretch, before the walk begins anew. */
  readonly rest: Duration.Duration
  /** How often it is looked for what is due. */
  readonly every: Duration.Duration
}>("datamcp/app/RetentionLimits", {
  defaultValue: () => ({
    windowRows: 5_000,
    tasks: 500,
    events: 20_000,
    archiveBytes: 8 * 1024 * 1024,
    pause: Duration.millis(50),
    rest: Duration.seconds(60),
    every: Duration.seconds(1)
  })
})

/** Retention of tasks: one step of the walk that is due. False when none is. */
export const makeStep = Effect.gen(function* () {
  const store = yield* RetentionStore
  const ledger = yield* Ledger
  const artifacts = yield* ArtifactStore
  const limits = yield* RetentionLimits

  const step = Effect.fn("RetentionSweep.step")(function* (retention: DueRetention) {
    const nowMillis = yield* Clock.currentTimeMillis
    const { edge, tasks } = yield* store.stretch(retention, { windowRows: limits.windowRows, nowMillis })
    let deleted = 0
    for (let left = tasks; left.length > 0; ) {
      const some = firstOf(left.slice(0, limits.tasks), limits.events)
      deleted += yield* remove(retention, some)
      left = left.slice(some.length)
    }
    yield* store.advance(retention, {
      position: edge,
      deleted,
      after: edge === undefined ? limits.rest : limits.pause
    })
    if (deleted > 0) {
      yield* Effect.logInfo("ended tasks were deleted as the rules say").pipe(
        Effect.annotateLogs({ namespace: retention.namespace, tasks: deleted })
      )
    }
  })

  /** Deletes those of these tasks that may go; returns how many. */
  const remove = Effect.fnUntraced(function* ({ namespace, rules }: DueRetention, tasks: ReadonlyArray<DueTask>) {
    const archived = tasks.filter(({ rule }) => rules[rule]?.archive === true)
    const others = tasks.filter(({ rule }) => rules[rule]?.archive !== true)
    let deleted = yield* removeAll(
      namespace,
      others.map(({ id }) => id)
    )
    if (archived.length === 0) return deleted
    const deletable = yield* ledger.deletable(
      namespace,
      archived.map(({ id }) => id)
    )
    for (const ids of portions(deletable, limits.archiveBytes)) {
      yield* archive(namespace, ids)
      deleted += yield* removeAll(namespace, ids)
    }
    return deleted
  })

  const removeAll = Effect.fnUntraced(function* (namespace: DueRetention["namespace"], ids: ReadonlyArray<TaskId>) {
    if (ids.length === 0) return 0
    const { done } = yield* ledger.control(namespace, ids, { _tag: "Delete", keepKeyed: true }, { actor: "retention" })
    return done.length
  })

  const archive = Effect.fnUntraced(function* (namespace: DueRetention["namespace"], ids: ReadonlyArray<TaskId>) {
    const documents = yield* store.documents(namespace, ids)
    const packed = yield* compressed(`${documents.join("\n")}\n`)
    const at = DateTime.formatIso(yield* DateTime.now)
    const { id } = yield* artifacts.put({
      namespace,
      name: `retention-${at.replaceAll(":", "-")}.ndjson.gz`,
      contentType: "application/gzip",
      content: Stream.make(packed)
    })
    yield* store.archived(namespace, id, documents.length)
  })

  return Effect.gen(function* () {
    const retention = yield* store.next
    if (retention === undefined) return false
    yield* step(retention).pipe(
      // One namespace's trouble must not keep the others waiting.
      Effect.catchCause((cause) =>
        Effect.logWarning("retention could not go on", cause).pipe(
          Effect.annotateLogs({ namespace: retention.namespace }),
          Effect.andThen(
            store.advance(retention, { position: retention.position ?? undefined, deleted: 0, after: limits.rest })
          )
        )
      )
    )
    return true
  })
})

/** Both run for as long as the scope; on other nodes they wait to take over. */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const placement = yield* Placement
    const ledger = yield* Ledger
    const { every, tasks } = yield* RetentionLimits
    const step = yield* makeStep
    const loop = (name: string, sweep: Effect.Effect<boolean, { readonly message: string }>) =>
      placement.singleton(
        name,
        sweep.pipe(
          Effect.catchCause((cause) => Effect.as(Effect.logDebug(`${name} could not sweep`, cause), false)),
          Effect.flatMap((again) => (again ? Effect.yieldNow : Effect.sleep(every))),
          Effect.forever
        )
      )
    yield* loop("retention", step)
    yield* loop(
      "results",
      Effect.map(ledger.expireResults(tasks), (cleared) => cleared >= tasks)
    )
  })
)

const compressed = (text: string) =>
  Effect.callback<Uint8Array>((resume) => {
    gzip(text, (error, packed) => resume(error === null ? Effect.succeed(packed) : Effect.die(error)))
  })

/** Ids in portions of at most so many bytes, at least one in each. */
export const portions = (
  tasks: ReadonlyArray<{ readonly id: TaskId; readonly bytes: number }>,
  bytesMax: number
): ReadonlyArray<ReadonlyArray<TaskId>> => {
  const all: Array<Array<TaskId>> = []
  let size = Number.POSITIVE_INFINITY
  for (const { bytes, id } of tasks) {
    if (size + bytes > bytesMax) {
      all.push([])
      size = 0
    }
    size += bytes
    all.at(-1)?.push(id)
  }
  return all
}
