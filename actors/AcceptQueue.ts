/**
 * The scheduler's mailbox: routed tasks wait here for a transaction, are accepted with whatever else waits, dispatched,
 * and answered.
 *
 * While its transactions are in flight the mailbox gathers, and the next one takes all that is there: one fsync serves
 * many submissions. Invariants: an answer follows its COMMIT; the tasks of one submission are committed and dispatched in
 * their order; too many waiting tasks refuse the next before anything of it is stored; nobody waits past the end.
 */
import { Context, Deferred, Effect, Queue } from "effect"
import * as Metrics from "../protocol/Metrics.ts"
import { Overloaded, type Unavailable } from "../protocol/Problem.ts"
import { type Routed, unavailable } from "./Admission.ts"
import * as CommitTurns from "./CommitTurns.ts"
import { Dispatcher } from "./Dispatcher.ts"
import { type AcceptOutcome, Ledger, type NewGraph } from "./ports/Ledger.ts"

export const SchedulerLimits = Context.Reference<{
  /** Tasks that may wait to be accepted; more are refused with `Overloaded`. */
  readonly mailboxTasks: number
  /** Tasks of one transaction; one with many dependencies or a large payload counts as several. */
  readonly commitTasks: number
  /** Most transactions in flight; those beyond the first begin full. */
  readonly commits: number
}>("datamcp/actors/SchedulerLimits", {
  defaultValue: () => ({ mailboxTasks: 20_000, commitTasks: 500, commits: 2 })
})

type Outcomes = ReadonlyArray<AcceptOutcome>

/** At most `commitTasks` of one caller, and where their outcomes go. */
interface Portion {
  readonly routed: ReadonlyArray<Routed>
  readonly weight: number
  readonly outcomes: Deferred.Deferred<Outcomes, Unavailable>
}

/** Starts the actor in the scope; when that closes, whoever still waits is told that the outcome is not known. */
export const make = Effect.gen(function* () {
  const ledger = yield* Ledger
  const dispatcher = yield* Dispatcher
  const limits = yield* SchedulerLimits
  const mailbox = yield* Queue.unbounded<Portion>()
  const unanswered = new Set<Portion>()
  let waitingTasks = 0
  /** Of what is in the mailbox. */
  let waitingWeight = 0
  let closed = false
  const turns = CommitTurns.make({ lanes: limits.commits, isFull: () => waitingWeight >= limits.commitTasks })
  yield* Metrics.gaugeReads(Metrics.schedulerMailboxDepth, () => waitingTasks)

  const answer = (portion: Portion, outcomes: Effect.Effect<Outcomes, Unavailable>) => {
    unanswered.delete(portion)
    Deferred.doneUnsafe(portion.outcomes, outcomes)
  }

  // Before the actor's fibers, so that it runs after they have ended.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const portion of unanswered) answer(portion, Effect.fail(unavailable()))
    })
  )

  const gather = Effect.gen(function* () {
    const portions = [yield* Queue.take(mailbox)]
    // Whoever else became ready in the same turn of the event loop comes along.
    yield* Effect.yieldNow
    yield* turns.begin
    let weight = portions[0]?.weight ?? 0
    while (weight < limits.commitTasks) {
      const next = Queue.takeUnsafe(mailbox)
      if (next === undefined || next._tag === "Failure") break
      portions.push(next.value)
      weight += next.value.weight
    }
    for (const { routed } of portions) waitingTasks -= routed.length
    waitingWeight -= weight
    return portions
  })

  /** One transaction for portions of a kind: simple ones go their short way even when others need the long one. */
  const commit = (portions: ReadonlyArray<Portion>) =>
    portions.length === 0
      ? Effect.void
      : ledger.accept(portions.flatMap(({ routed }) => routed.map(({ task }) => task))).pipe(
          Effect.tap((outcomes) =>
            dispatchAccepted(
              portions.flatMap(({ routed }) => routed),
              outcomes
            )
          ),
          Effect.matchCause({
            onSuccess: (outcomes) => {
              let from = 0
              for (const portion of portions) {
                const until = from + portion.routed.length
                answer(portion, Effect.succeed(outcomes.slice(from, until)))
                from = until
              }
            },
            onFailure: (cause) => {
              const expected = cause.reasons.some((reason) => reason._tag === "Fail")
              for (const portion of portions) {
                answer(portion, expected ? Effect.fail(unavailable()) : Effect.die(cause))
              }
            }
          })
        )

  const dispatchAccepted = (routed: ReadonlyArray<Routed>, outcomes: Outcomes) =>
    dispatcher.dispatch(
      routed.flatMap(({ order, task }, index) => {
        const outcome = outcomes[index]
        return outcome?._tag === "Accepted" && outcome.status === "queued" && task.agentId !== undefined
          ? [{ agentId: task.agentId, order }]
          : []
      })
    )

  const commitAll = (portions: ReadonlyArray<Portion>) => {
    const linked = portions.filter(isLinked)
    return linked.length === 0
      ? commit(portions)
      : Effect.andThen(commit(portions.filter((portion) => !isLinked(portion))), commit(linked))
  }
  yield* gather.pipe(
    Effect.flatMap((portions) => Effect.forkScoped(Effect.ensuring(commitAll(portions), Effect.sync(turns.end)))),
    Effect.forever,
    Effect.forkScoped
  )

  const overloaded = (tasks: number) =>
    waitingTasks + tasks <= limits.mailboxTasks
      ? undefined
      : new Overloaded({
          detail: `${waitingTasks} tasks wait to be accepted; at most ${limits.mailboxTasks} may`,
          retry_after_seconds: 1
        })

  const post = (routed: ReadonlyArray<Routed>): Effect.Effect<Outcomes, Unavailable> => {
    if (closed) return Effect.fail(unavailable())
    const portion: Portion = { routed, weight: weightOf(routed), outcomes: Deferred.makeUnsafe() }
    unanswered.add(portion)
    waitingWeight += portion.weight
    Queue.offerUnsafe(mailbox, portion)
    turns.grown()
    return Deferred.await(portion.outcomes)
  }

  /** Each task by itself; outcomes in order. Refused at once when too many wait. */
  const accept = (routed: ReadonlyArray<Routed>): Effect.Effect<Outcomes, Overloaded | Unavailable> =>
    Effect.suspend((): Effect.Effect<Outcomes, Overloaded | Unavailable> => {
      const refusal = overloaded(routed.length)
      if (refusal !== undefined) return Effect.fail(refusal)
      waitingTasks += routed.length
      if (routed.length === 0) return Effect.succeed([])
      if (routed.length === 1 || weightOf(routed) <= limits.commitTasks) return post(routed)
      // One portion after the other: the next could commit before it, and its tasks would start first.
      let unposted = routed.length
      return Effect.forEach(portionsOf(routed, limits.commitTasks), (portion) =>
        Effect.suspend(() => {
          unposted -= portion.length
          return post(portion)
        })
      ).pipe(
        Effect.map((parts) => parts.flat()),
        Effect.ensuring(
          Effect.sync(() => {
            waitingTasks -= unposted
          })
        )
      )
    })

  /** All of them, and their graph, or none. They count as waiting until they are answered. */
  const acceptAtomically = (
    routed: ReadonlyArray<Routed>,
    graph: NewGraph | undefined
  ): Effect.Effect<Outcomes, Overloaded | Unavailable> =>
    Effect.suspend((): Effect.Effect<Outcomes, Overloaded | Unavailable> => {
      const refusal = overloaded(routed.length)
      if (refusal !== undefined) return Effect.fail(refusal)
      waitingTasks += routed.length
      return ledger
        .accept(
          routed.map(({ task }) => task),
          { atomic: true, ...(graph !== undefined && { graph }) }
        )
        .pipe(
          Effect.mapError(unavailable),
          Effect.tap((outcomes) => dispatchAccepted(routed, outcomes)),
          Effect.ensuring(
            Effect.sync(() => {
              waitingTasks -= routed.length
            })
          )
        )
    })

  return { accept, acceptAtomically }
})

const isLinked = ({ routed }: Portion) =>
  routed.some(
    ({ task }) =>
      task.dependencies.length > 0 ||
      task.parentId !== undefined ||
      task.idempotency !== undefined ||
      task.conditions !== undefined
  )

/** About how much work tasks are to Postgres, where one without much to it is 1. */
const weightOf = (routed: ReadonlyArray<Routed>) => {
  let weight = 0
  for (const { task } of routed) {
    weight += 1 + Math.floor(task.dependencies.length / dependenciesLikeATask)
    weight += Math.floor((task.payload?.length ?? 0) / charactersLikeATask)
  }
  return weight
}
const dependenciesLikeATask = 20
const charactersLikeATask = 8_192

const portionsOf = (routed: ReadonlyArray<Routed>, weightMax: number) => {
  const portions: Array<Array<Routed>> = []
  let weight = Number.POSITIVE_INFINITY
  for (const each of routed) {
    const own = weightOf([each])
    const last = portions.at(-1)
    if (last === undefined || weight + own > weightMax) {
      portions.push([each])
      weight = own
    } else {
      last.push(each)
      weight += own
    }
  }
  return portions
}
