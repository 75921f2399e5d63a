/**
 * The scheduler actor: every accepted task passes through it, once, on the node that was asked.
 *
 *   submit --> mailbox --> route --> ledger.accept --> (COMMIT) --> answer, dispatch
 *
 * While its transactions are in flight the mailbox gathers, and the next one takes all that is there: one fsync serves
 * many submissions. Invariant: an answer follows its COMMIT. A full mailbox refuses before anything is stored.
 */
import { Clock, Context, Deferred, Duration, Effect, Layer, Metric, Queue, Result } from "effect"
import { Digest } from "effect/crypto"
import { GraphId, type Namespace, TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import * as Metrics from "../protocol/Metrics.ts"
import { Principal } from "../protocol/Permission.ts"
import { invalidField, Overloaded, TooLarge, type Unavailable } from "../protocol/Problem.ts"
import type { AcceptedGraph, AcceptedTask, SubmitGraph, SubmitTask } from "../protocol/Task.ts"
import { currentTraceparent } from "../protocol/TraceContext.ts"
import {
  admit,
  answerOf,
  invalid,
  mismatch,
  type Origin,
  type Refusal,
  type Routed,
  unavailable,
  within
} from "./Admission.ts"
import { AgentDirectory } from "./AgentDirectory.ts"
import { Dispatcher } from "./Dispatcher.ts"
import { type AcceptOutcome, Ledger, type NewGraph } from "./ports/Ledger.ts"
import * as TaskGraph from "./TaskGraph.ts"
import { UuidV7 } from "./UuidV7.ts"

export const SchedulerLimits = Context.Reference<{
  /** Tasks that may wait to be accepted; more are refused with `Overloaded`. */
  readonly mailboxTasks: number
  /** Tasks of one transaction. */
  readonly commitTasks: number
  /** Transactions in flight. */
  readonly commits: number
}>("datamcp/actors/SchedulerLimits", {
  defaultValue: () => ({ mailboxTasks: 20_000, commitTasks: 500, commits: 2 })
})

/** Commands of one caller, routed, and where their outcomes go. */
interface Submission {
  readonly routed: ReadonlyArray<Routed>
  readonly outcomes: Deferred.Deferred<ReadonlyArray<AcceptOutcome>, Unavailable>
}

export class Scheduler extends Context.Service<
  Scheduler,
  {
    /**
     * Routes and accepts commands; each has its own outcome, in order. With `atomic` the first refusal undoes all and
     * is the outcome of every command. Answers after COMMIT. `retryOf` links a task to the ended one that it repeats.
     */
    readonly submit: (
      commands: ReadonlyArray<SubmitTask>,
      options?: { readonly atomic?: boolean; readonly retryOf?: TaskId }
    ) => Effect.Effect<ReadonlyArray<Result.Result<AcceptedTask, Refusal>>, Overloaded | Unavailable, Principal>
    readonly submitGraph: (
      command: SubmitGraph
    ) => Effect.Effect<AcceptedGraph, Refusal | Overloaded | Unavailable, Principal>
  }
>()("datamcp/actors/Scheduler") {
  static readonly layer = Layer.effect(
    Scheduler,
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const dispatcher = yield* Dispatcher
      const directory = yield* AgentDirectory
      const digest = yield* Digest.Digest
      const ids = yield* UuidV7
      const clock = yield* Clock.Clock
      const limits = yield* SchedulerLimits
      const mailbox = yield* Queue.unbounded<Submission>()
      let waitingTasks = 0
      yield* Metrics.gaugeReads(Metrics.schedulerMailboxDepth, () => waitingTasks)

      // --- the actor

      const gather = Effect.gen(function* () {
        const submissions = [yield* Queue.take(mailbox)]
        yield* Effect.yieldNow
        let tasks = submissions[0]?.routed.length ?? 0
        while (tasks < limits.commitTasks) {
          const next = Queue.takeUnsafe(mailbox)
          if (next === undefined || next._tag === "Failure") break
          submissions.push(next.value)
          tasks += next.value.routed.length
        }
        waitingTasks -= tasks
        return submissions
      })

      /** One transaction for submissions of a kind: simple ones go their short way even when others need the long one. */
      const commit = (submissions: ReadonlyArray<Submission>) =>
        submissions.length === 0
          ? Effect.void
          : ledger.accept(submissions.flatMap(({ routed }) => routed.map(({ task }) => task))).pipe(
              Effect.tap((outcomes) =>
                dispatchAccepted(
                  submissions.flatMap(({ routed }) => routed),
                  outcomes
                )
              ),
              Effect.matchCause({
                onSuccess: (outcomes) => {
                  let from = 0
                  for (const { outcomes: answer, routed } of submissions) {
                    Deferred.doneUnsafe(answer, Effect.succeed(outcomes.slice(from, from + routed.length)))
                    from += routed.length
                  }
                },
                onFailure: (cause) => {
                  const failure = cause.reasons.find((reason) => reason._tag === "Fail")
                  for (const { outcomes: answer } of submissions) {
                    Deferred.doneUnsafe(answer, failure === undefined ? Effect.die(cause) : Effect.fail(unavailable()))
                  }
                }
              })
            )

      const dispatchAccepted = (routed: ReadonlyArray<Routed>, outcomes: ReadonlyArray<AcceptOutcome>) =>
        dispatcher.dispatch(
          routed.flatMap(({ order, task }, index) => {
            const outcome = outcomes[index]
            return outcome?._tag === "Accepted" && outcome.status === "queued" && task.agentId !== undefined
              ? [{ agentId: task.agentId, order }]
              : []
          })
        )

      const isLinked = ({ routed }: Submission) =>
        routed.some(
          ({ task }) => task.dependencies.length > 0 || task.parentId !== undefined || task.idempotency !== undefined
        )

      const turn = Effect.flatMap(gather, (submissions) => {
        const linked = submissions.filter(isLinked)
        return linked.length === 0
          ? commit(submissions)
          : Effect.andThen(commit(submissions.filter((submission) => !isLinked(submission))), commit(linked))
      })
      yield* Effect.replicateEffect(Effect.forkScoped(Effect.forever(turn)), limits.commits, { discard: true })

      /** Hands tasks in and waits for their outcomes. Refused at once when too many wait. */
      const accept = (routed: ReadonlyArray<Routed>) =>
        Effect.suspend((): Effect.Effect<ReadonlyArray<AcceptOutcome>, Overloaded | Unavailable> => {
          if (routed.length === 0) return Effect.succeed([])
          if (waitingTasks + routed.length > limits.mailboxTasks) {
            return Effect.fail(
              new Overloaded({
                detail: `${waitingTasks} tasks wait to be accepted; at most ${limits.mailboxTasks} may`,
                retry_after_seconds: 1
              })
            )
          }
          waitingTasks += routed.length
          const answers: Array<Effect.Effect<ReadonlyArray<AcceptOutcome>, Unavailable>> = []
          for (let from = 0; from < routed.length; from += limits.commitTasks) {
            const outcomes = Deferred.makeUnsafe<ReadonlyArray<AcceptOutcome>, Unavailable>()
            Queue.offerUnsafe(mailbox, { routed: routed.slice(from, from + limits.commitTasks), outcomes })
            answers.push(Deferred.await(outcomes))
          }
          const only = answers[0]
          return answers.length === 1 && only !== undefined
            ? only
            : Effect.map(Effect.all(answers), (parts) => parts.flat())
        })

      // --- routing

      const agentFor = (namespace: Namespace, command: SubmitTask) =>
        command.agent !== undefined
          ? directory.find(namespace, command.agent)
          : command.type !== undefined
            ? directory.forType(namespace, command.type)
            : Effect.succeed(undefined)

      const route = Effect.fnUntraced(function* (command: SubmitTask, origin: Origin) {
        const agent = yield* Effect.mapError(agentFor(origin.principal.namespace, command), unavailable)
        const admitted = admit(command, agent, origin, clock.currentTimeMillisUnsafe())
        if (Result.isFailure(admitted) || command.idempotency_key === undefined) return admitted
        const { order, task } = admitted.success
        const idempotency = { key: command.idempotency_key, fingerprint: yield* fingerprint(command) }
        return Result.succeed({ order, task: { ...task, idempotency } })
      })

      const fingerprint = (command: SubmitTask | SubmitGraph) => {
        const { idempotency_key: _, ...rest } = command
        return digest.digestHex(Digest.sha256, new TextEncoder().encode(JSON.stringify(rest)))
      }

      /** With its time from here to COMMIT taken, and as a span where the request is traced. */
      const measured = <A, E>(trace: string | undefined, accepting: Effect.Effect<A, E>) => {
        const timed = Effect.trackDuration(accepting, Metrics.acceptSeconds, Duration.toSeconds)
        return trace === undefined ? timed : Effect.withSpan(timed, "task.accept")
      }

      const refused = <E extends { readonly _tag: string }>(problem: E) =>
        Metric.update(Metrics.submissionsRefused({ reason: problem._tag }), 1)

      const submit: Scheduler["Service"]["submit"] = Effect.fnUntraced(function* (commands, options) {
        const principal = yield* Principal
        const trace = yield* currentTraceparent
        const routes = yield* Effect.forEach(commands, (command) =>
          route(command, { id: newTaskId(ids), principal, trace, retryOf: options?.retryOf, graph: undefined })
        )
        const first = options?.atomic === true ? firstRefusal(routes) : undefined
        if (first !== undefined) {
          yield* refused(first)
          return commands.map(() => Result.fail(first))
        }
        const accepted = routes.filter(Result.isSuccess).map((result) => result.success)
        const outcomes = yield* measured(
          trace,
          options?.atomic === true ? acceptAtomically(accepted, undefined) : accept(accepted)
        )
        let next = 0
        const answers = routes.map((result): Result.Result<AcceptedTask, Refusal> => {
          if (Result.isFailure(result)) return Result.fail(result.failure)
          const outcome = outcomes[next++]
          return outcome === undefined
            ? Result.fail(invalidField("", "was not answered"))
            : answerOf(result.success, outcome)
        })
        for (const answer of answers) if (Result.isFailure(answer)) yield* refused(answer.failure)
        const undone = options?.atomic === true ? firstRefusal(answers) : undefined
        return undone === undefined ? answers : answers.map(() => Result.fail(undone))
      }, Effect.tapError(refused))

      const acceptAtomically = (routed: ReadonlyArray<Routed>, graph: NewGraph | undefined) =>
        ledger
          .accept(
            routed.map(({ task }) => task),
            { atomic: true, ...(graph !== undefined && { graph }) }
          )
          .pipe(
            Effect.mapError(unavailable),
            Effect.tap((outcomes) => dispatchAccepted(routed, outcomes))
          )

      const submitGraph: Scheduler["Service"]["submitGraph"] = Effect.fnUntraced(function* (command) {
        const principal = yield* Principal
        const trace = yield* currentTraceparent
        const keys = Object.keys(command.tasks)
        if (keys.length === 0) return yield* invalidField("tasks", "must name at least one task")
        if (keys.length > Limits.graphTasksMax) {
          return yield* new TooLarge({ field: "tasks", limit: Limits.graphTasksMax, unit: "tasks" })
        }
        const shape = TaskGraph.problemsOf(command)
        if (shape.length > 0) return yield* invalid(shape)

        const id = GraphId.make(ids.next())
        const taskIds = new Map(keys.map((key) => [key, newTaskId(ids)] as const))
        const all: Array<Routed> = []
        for (const [key, graphTask] of Object.entries(command.tasks)) {
          const taskId = taskIds.get(key)
          if (taskId === undefined) continue
          const named = TaskGraph.toSubmitTask(graphTask, { key, taskIds, labels: command.labels })
          if (Result.isFailure(named)) return yield* invalid(named.failure)
          const result = yield* route(named.success, {
            id: taskId,
            principal,
            trace,
            retryOf: undefined,
            graph: { id, key }
          })
          if (Result.isFailure(result)) return yield* within(`tasks.${key}`, result.failure)
          all.push(result.success)
        }
        const idempotency =
          command.idempotency_key === undefined
            ? undefined
            : { key: command.idempotency_key, fingerprint: yield* fingerprint(command) }
        const outcomes = yield* measured(
          trace,
          acceptAtomically(all, { id, namespace: principal.namespace, name: command.name, idempotency })
        )
        const first = outcomes[0]
        if (first?._tag === "Existing") {
          if (!first.same) return yield* mismatch(command.idempotency_key ?? "")
          return { id: GraphId.make(first.id), name: command.name ?? null, duplicate: true, tasks: {} }
        }
        for (const [index, outcome] of outcomes.entries()) {
          const refused = all[index]
          if (refused === undefined || outcome._tag === "Accepted") continue
          const answer = answerOf(refused, outcome)
          if (Result.isFailure(answer)) return yield* within(`tasks.${refused.task.graphKey}`, answer.failure)
        }
        return {
          id,
          name: command.name ?? null,
          duplicate: false,
          tasks: Object.fromEntries(taskIds)
        }
      }, Effect.tapError(refused))

      return Scheduler.of({ submit, submitGraph })
    })
  )
}

const newTaskId = (ids: UuidV7["Service"]) => TaskId.make(ids.next(), { disableChecks: true })

/** The first refusal of a batch that is all or none, naming the item at fault; undefined when there is none. */
const firstRefusal = (results: ReadonlyArray<Result.Result<unknown, Refusal>>): Refusal | undefined => {
  for (const [index, result] of results.entries()) {
    if (Result.isFailure(result)) return results.length === 1 ? result.failure : within(String(index), result.failure)
  }
  return undefined
}
