/**
 * Fires schedules: a singleton that sweeps for those whose due time has come, in small batches, by Postgres's clock.
 *
 *   take --> missed? --------------------------------------> leave out, go on to the next that counts
 *     |----> submitted by who came before? ----------------> settle: fired
 *     '----> owner's rights --> overlap --> submit ---------> settle: fired | skipped | refused
 *
 * Invariant: one submission per schedule and due time. Its idempotency key is made for both, so it may be sent again
 * after any crash, by anybody; settling is conditional, and comes after COMMIT. A key is remembered for
 * `Limits.idempotencyKeyHours`; a due time that was begun earlier and never settled is not submitted again.
 */
import { Context, Duration, Effect, Layer, Metric, Result } from "effect"
import * as Limits from "../protocol/Limits.ts"
import * as Metrics from "../protocol/Metrics.ts"
import { type Permission, Principal } from "../protocol/Permission.ts"
import { Bus } from "./ports/Bus.ts"
import { Ledger, type LedgerUnavailable } from "./ports/Ledger.ts"
import { Owners } from "./ports/Owners.ts"
import { Placement } from "./ports/Placement.ts"
import { type DueSchedule, type Made, type Next, ScheduleStore, type Settlement } from "./ports/ScheduleStore.ts"
import * as Recurrence from "./Recurrence.ts"
import * as ScheduledRun from "./ScheduledRun.ts"
import { Scheduler } from "./Scheduler.ts"

export const TimekeeperLimits = Context.Reference<{
  readonly every: Duration.Duration
  /** Schedules of one sweep. */
  readonly batch: number
  /** Schedules that are fired at a time. */
  readonly concurrency: number
}>("datamcp/actors/TimekeeperLimits", {
  defaultValue: () => ({ every: Duration.millis(200), batch: 100, concurrency: 100 })
})

/** How long after its beginning a run is still known to be submitted once: an hour less than its key is remembered. */
const knownMillis = (Limits.idempotencyKeyHours - 1) * 3_600_000

/** Open tasks of an earlier run that are cancelled per transaction. */
const cancelBatchTasks = 500

export class Timekeeper extends Context.Service<
  Timekeeper,
  {
    /** One sweep: how many due schedules went on. What cannot be done now stays due. */
    readonly sweep: Effect.Effect<number, { readonly message: string }>
  }
>()("datamcp/actors/Timekeeper") {
  static readonly layer = Layer.effect(
    Timekeeper,
    Effect.gen(function* () {
      const store = yield* ScheduleStore
      const owners = yield* Owners
      const scheduler = yield* Scheduler
      const ledger = yield* Ledger
      const bus = yield* Bus
      const { batch, concurrency } = yield* TimekeeperLimits

      const fire = Effect.fnUntraced(function* (schedule: DueSchedule, owner: Owner) {
        const compiled = Recurrence.compile(schedule, schedule.anchorMillis)
        // It was checked when it was stored; zones come and go with versions of their data.
        if (Result.isFailure(compiled)) {
          const reason = compiled.failure.map(({ field, message }) => `${field}: ${message}`).join("; ")
          return yield* store.settle(schedule, { _tag: "Refused", reason }, undefined)
        }
        const recurrence = compiled.success
        const following = nextAt(schedule, Recurrence.following(recurrence, schedule.dueMillis))

        const begun = schedule.attemptedForMillis
        const earlier = begun === undefined ? undefined : yield* madeEarlier(schedule)
        if (earlier !== undefined) return yield* store.settle(schedule, { _tag: "Fired", ...earlier }, following)
        if (begun !== undefined && begun > knownMillis) {
          const reason = "whether it was submitted before a long outage is not known any more"
          return yield* store.settle(schedule, { _tag: "Skipped", reason }, following)
        }
        const decision = Recurrence.decide(recurrence, schedule)
        if (decision._tag === "Miss") return yield* store.leaveOut(schedule, nextAt(schedule, decision.next))
        return yield* store.settle(schedule, yield* runOrDefect(schedule, owner), following)
      })

      /** A defect is recorded, so that it cannot keep the schedule from its next run. */
      const runOrDefect = (schedule: DueSchedule, owner: Owner) =>
        Effect.catchDefect(run(schedule, owner), (defect) =>
          Effect.andThen(
            Effect.logError("a run of a schedule met a defect", defect),
            Effect.map(
              madeEarlier(schedule),
              (made): Settlement =>
                made === undefined ? refused("an internal error; the log has more") : { _tag: "Fired", ...made }
            )
          )
        )

      /** What a submission of this due time made, that its sender did not live to settle. */
      const madeEarlier = (schedule: DueSchedule): Effect.Effect<Made | undefined, LedgerUnavailable> =>
        Effect.map(
          // The template may be another by now: who used the key is what counts.
          ledger.earlier(schedule.namespace, { key: ScheduledRun.keyOf(schedule), fingerprint: "" }),
          (existing) => (existing === undefined ? undefined : ScheduledRun.madeOf(existing))
        )

      const run = Effect.fnUntraced(function* (schedule: DueSchedule, owner: Owner) {
        if (owner === undefined) return refused(`${schedule.owner}, which it runs for, has no rights any more`)
        const needed: ReadonlyArray<Permission> =
          schedule.overlap === "cancel_previous" ? ["task:create", "task:cancel"] : ["task:create"]
        const missing = needed.find((permission) => !owner.permissions.has(permission))
        if (missing !== undefined) return refused(`${schedule.owner}, which it runs for, has no right to ${missing}`)
        if (schedule.overlap === "skip" && (yield* openTasks(schedule, 1)).length > 0) {
          return { _tag: "Skipped", reason: "the run before it has not ended" } satisfies Settlement
        }
        if (schedule.overlap === "cancel_previous") yield* cancelPrevious(schedule)
        return yield* Effect.provideService(submit(schedule), Principal, owner)
      })

      const openTasks = (schedule: DueSchedule, limit: number) =>
        schedule.last.taskId === undefined && schedule.last.graphId === undefined
          ? Effect.succeed([])
          : store.openTasks(schedule.namespace, schedule.last, limit)

      const cancelPrevious = Effect.fnUntraced(function* (schedule: DueSchedule) {
        const by = { actor: schedule.owner, reason: "the next run of its schedule is due" }
        while (true) {
          const open = yield* openTasks(schedule, cancelBatchTasks)
          if (open.length === 0) return
          for (const { id, ranOn } of yield* ledger.cancel(schedule.namespace, open, by)) {
            if (ranOn !== undefined) yield* bus.notify({ _tag: "Interrupt", agent: ranOn, tasks: [id] })
          }
        }
      })

      const submit = (schedule: DueSchedule) => {
        const { graph, task } = ScheduledRun.commandOf(schedule)
        const submitted =
          task !== undefined
            ? Effect.map(scheduler.submitOne(task), ({ id }): Made => ({ taskId: id, graphId: undefined }))
            : Effect.map(scheduler.submitGraph(graph), ({ id }): Made => ({ taskId: undefined, graphId: id }))
        return submitted.pipe(
          Effect.map((made): Settlement => ({ _tag: "Fired", ...made })),
          Effect.catchTags({
            InvalidInput: ({ detail, title }) => Effect.succeed(refused(detail ?? title)),
            TooLarge: ({ detail, title }) => Effect.succeed(refused(detail ?? title)),
            CoalesceMismatch: ({ detail, title }) => Effect.succeed(refused(detail ?? title)),
            UniqueKeyHeld: ({ detail, title }) =>
              Effect.succeed({ _tag: "Skipped", reason: detail ?? title } satisfies Settlement),
            // With an older template: submitted it is.
            IdempotencyMismatch: () =>
              Effect.map(
                madeEarlier(schedule),
                (made): Settlement => ({ _tag: "Fired", taskId: undefined, graphId: undefined, ...made })
              )
          })
        )
      }

      /** Whether it went on. What cannot be done now stays due. */
      const settled = (schedule: DueSchedule, owner: Owner) =>
        fire(schedule, owner).pipe(
          Effect.as(true),
          Effect.catch((error) => Effect.as(Effect.logDebug("a schedule could not be fired now", error), false)),
          Effect.catchDefect((defect) => Effect.as(Effect.logError("a schedule could not be settled", defect), false)),
          Effect.annotateLogs({ schedule: schedule.id })
        )

      /** Each owner is asked for once per sweep: one may own all that is due. */
      const ownersOf = Effect.fnUntraced(function* (due: ReadonlyArray<DueSchedule>) {
        const found = new Map<string, Owner>()
        for (const { namespace, owner } of due) {
          const name = `${namespace}/${owner}`
          if (!found.has(name)) found.set(name, yield* owners.principalOf(owner, namespace))
        }
        return ({ namespace, owner }: DueSchedule) => found.get(`${namespace}/${owner}`)
      })

      const sweep = Effect.gen(function* () {
        const due = yield* store.take(batch)
        const ownerOf = yield* ownersOf(due)
        const all = yield* Effect.forEach(due, (schedule) => settled(schedule, ownerOf(schedule)), { concurrency })
        return all.filter((wentOn) => wentOn).length
      })

      return Timekeeper.of({ sweep })
    })
  )

  /** Sweeps for as long as its scope, on one node of the cluster. */
  static readonly loop = Layer.effectDiscard(
    Effect.gen(function* () {
      const timekeeper = yield* Timekeeper
      const placement = yield* Placement
      const { batch, every } = yield* TimekeeperLimits
      yield* placement.singleton(
        "timekeeper",
        timekeeper.sweep.pipe(
          Effect.catchCause((cause) => Effect.as(Effect.logDebug("the timekeeper could not sweep", cause), 0)),
          Effect.tap((fired) =>
            fired > 0 ? Metric.update(Metrics.reconciled({ kind: "schedules" }), fired) : Effect.void
          ),
          Effect.flatMap((fired) => (fired >= batch ? Effect.yieldNow : Effect.sleep(every))),
          Effect.forever
        )
      )
    })
  )
}

/** Undefined: nobody any more. */
type Owner = Principal["Service"] | undefined

const refused = (reason: string): Settlement => ({ _tag: "Refused", reason })

const nextAt = (schedule: DueSchedule, due: number | undefined): Next | undefined =>
  due === undefined
    ? undefined
    : { dueMillis: due, startMillis: Recurrence.startOf(schedule.id, due, schedule.jitterMillis) }
