/**
 * The scheduler actor: every accepted task passes through it, once, on the node that was asked.
 *
 *   submit --> route --> AcceptQueue --> ledger.accept --> (COMMIT) --> dispatch, answer
 *
 * It decides what becomes of a command (`Admission`, `Routing`, `TaskGraph`) and says so in the submitter's words. A
 * command whose idempotency key was used before is answered as it was then, whatever has changed since.
 */
import { Clock, Context, Duration, Effect, identity, Layer, Metric, Result } from "effect"
import { Digest } from "effect/crypto"
import { GraphId, type GraphKey, type Namespace, TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import * as Metrics from "../protocol/Metrics.ts"
import { Principal } from "../protocol/Permission.ts"
import { invalidField, type Overloaded, TooLarge, type Unavailable } from "../protocol/Problem.ts"
import type { AcceptedGraph, AcceptedTask, GraphOnFailure, SubmitGraph, SubmitTask } from "../protocol/Task.ts"
import { currentTraceparent } from "../protocol/TraceContext.ts"
import * as AcceptQueue from "./AcceptQueue.ts"
import {
  admit,
  answerOf,
  invalid,
  isForArtifact,
  largePayload,
  mismatch,
  type Origin,
  type Refusal,
  type Routed,
  repeated,
  takesPayloadOf,
  unavailable,
  within
} from "./Admission.ts"
import { AgentDirectory } from "./AgentDirectory.ts"
import type { GraphStep } from "./GraphStep.ts"
import * as LargeData from "./LargeData.ts"
import { LimitDirectory } from "./LimitDirectory.ts"
import * as PayloadFit from "./PayloadFit.ts"
import { ArtifactStore } from "./ports/ArtifactStore.ts"
import { type AcceptOutcome, Ledger, type NewGraph } from "./ports/Ledger.ts"
import * as TaskGraph from "./TaskGraph.ts"
import { UuidV7 } from "./UuidV7.ts"

/** What is left of a graph: tasks with ids of their own, and completed ones that stand as they are. */
export interface GraphAgain {
  readonly id: GraphId
  readonly name: string | undefined
  readonly onFailure: GraphOnFailure
  readonly retryOf: GraphId
  readonly tasks: ReadonlyArray<{
    readonly id: TaskId
    readonly key: string
    readonly command: SubmitTask
    readonly step: GraphStep | undefined
    readonly failsGraph: boolean
    readonly retryOf: TaskId
  }>
  readonly references: ReadonlyArray<{ readonly key: GraphKey; readonly id: TaskId }>
  readonly idempotencyKey: string | undefined
}

export class Scheduler extends Context.Service<
  Scheduler,
  {
    /** Routes and accepts one command. Answers after COMMIT. `retryOf` links a task to the ended one that it repeats. */
    readonly submitOne: (
      command: SubmitTask,
      retryOf?: TaskId
    ) => Effect.Effect<AcceptedTask, Refusal | Overloaded | Unavailable, Principal>
    /**
     * Routes and accepts commands; each has its own outcome, in order. With `atomic` the first refusal undoes all and
     * is the outcome of every command. Answers after COMMIT.
     */
    readonly submit: (
      commands: ReadonlyArray<SubmitTask>,
      options?: { readonly atomic?: boolean }
    ) => Effect.Effect<ReadonlyArray<Result.Result<AcceptedTask, Refusal>>, Overloaded | Unavailable, Principal>
    readonly submitGraph: (
      command: SubmitGraph
    ) => Effect.Effect<AcceptedGraph, Refusal | Overloaded | Unavailable, Principal>
    /** What an earlier retry of this graph under this key was accepted as; refused when the key stands for something else. */
    readonly earlierRetry: (
      graph: Pick<GraphAgain, "idempotencyKey" | "name" | "retryOf">
    ) => Effect.Effect<AcceptedGraph | undefined, Refusal | Unavailable, Principal>
    /** Accepts what is left of a graph as a graph of its own, all or none. */
    readonly retryGraph: (
      again: GraphAgain
    ) => Effect.Effect<AcceptedGraph, Refusal | Overloaded | Unavailable, Principal>
  }
>()("datamcp/actors/Scheduler") {
  static readonly layer = Layer.effect(
    Scheduler,
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const directory = yield* AgentDirectory
      const limits = yield* LimitDirectory
      const digest = yield* Digest.Digest
      const ids = yield* UuidV7
      const clock = yield* Clock.Clock
      const artifacts = yield* ArtifactStore
      const { bytesMax } = yield* LargeData.LargeDataLimits
      const { accept, acceptAtomically } = yield* AcceptQueue.make

      const agentFor = (namespace: Namespace, command: SubmitTask, origin: Origin) =>
        command.agent !== undefined
          ? directory.find(namespace, command.agent)
          : command.type !== undefined
            ? directory.forType(namespace, command.type, takesPayloadOf(command, origin))
            : Effect.succeed(undefined)

      /** `kept` stands in place of a payload that is kept as an artifact. */
      const route = (command: SubmitTask, origin: Origin, kept?: LargeData.ArtifactReference) =>
        Effect.mapError(agentFor(origin.principal.namespace, command, origin), unavailable).pipe(
          Effect.flatMap((agent) => {
            const admitted = admit(
              kept === undefined ? command : { ...command, payload: kept },
              agent,
              origin,
              clock.currentTimeMillisUnsafe(),
              limits.of(origin.principal.namespace)
            )
            // A payload was looked into: others have their turn before the next one of a batch is.
            return agent !== undefined && PayloadFit.hasSchemas(agent)
              ? Effect.as(Effect.yieldNow, admitted)
              : Effect.succeed(admitted)
          }),
          command.idempotency_key === undefined ? identity : Effect.flatMap(withIdempotency(command))
        )

      const withIdempotency =
        (command: SubmitTask) =>
        (admitted: Result.Result<Routed, Refusal>): Effect.Effect<Result.Result<Routed, Refusal>> =>
          Result.isFailure(admitted)
            ? Effect.succeed(admitted)
            : Effect.map(idempotencyOf(command), (idempotency) =>
                Result.succeed({ ...admitted.success, task: { ...admitted.success.task, idempotency } })
              )

      const routeOrAnswer = (command: SubmitTask, origin: Origin) =>
        Effect.flatMap(route(command, origin), (routed): OnItsWayOrAway => {
          if (Result.isSuccess(routed)) return Effect.succeed({ routed: routed.success })
          // What was accepted once is answered again, though by now it would be refused: its deadline, its agent.
          return Effect.flatMap(
            earlierOf(origin.principal.namespace, command),
            (earlier): OnItsWayOrAway =>
              earlier === undefined
                ? Effect.map(withPayloadKept(command, origin, routed.failure), (kept) =>
                    Result.isSuccess(kept) ? { routed: kept.success } : { answer: Result.fail(kept.failure) }
                  )
                : Effect.succeed({ answer: repeated(earlier, command, origin) })
          )
        })

      /** A command that was refused for the size of its payload once more, with the payload kept as an artifact. */
      const withPayloadKept = Effect.fnUntraced(function* (command: SubmitTask, origin: Origin, refusal: Refusal) {
        if (!isForArtifact(refusal)) return Result.fail(refusal)
        const text = largePayload(command.payload, bytesMax)
        if (Result.isFailure(text)) return Result.fail<Refusal>(text.failure)
        const kept = yield* LargeData.keep({
          namespace: origin.principal.namespace,
          owner: origin.id,
          name: "payload",
          text: text.success
        }).pipe(Effect.provideService(ArtifactStore, artifacts), Effect.mapError(unavailable))
        return yield* route(command, origin, kept)
      })

      const earlierOf = (namespace: Namespace, command: SubmitTask | SubmitGraph) =>
        command.idempotency_key === undefined
          ? Effect.succeed(undefined)
          : Effect.flatMap(idempotencyOf(command), (idempotency) =>
              idempotency === undefined
                ? Effect.succeed(undefined)
                : Effect.mapError(ledger.earlier(namespace, idempotency), unavailable)
            )

      const idempotencyOf = (command: SubmitTask | SubmitGraph) =>
        command.idempotency_key === undefined
          ? Effect.succeed(undefined)
          : Effect.map(fingerprint(command), (print) => ({ key: command.idempotency_key ?? "", fingerprint: print }))

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

      const submitOne: Scheduler["Service"]["submitOne"] = Effect.fnUntraced(function* (command, retryOf) {
        const principal = yield* Principal
        const trace = yield* currentTraceparent
        const origin = { id: newTaskId(ids), principal, trace, retryOf, graph: undefined }
        const { answer, routed } = yield* routeOrAnswer(command, origin)
        if (routed === undefined) return yield* Effect.fromResult(answer)
        const [outcome] = yield* measured(trace, accept([routed]))
        return yield* Effect.fromResult(
          (outcome === undefined ? undefined : answerOf(routed, outcome)) ?? Result.fail(unanswered)
        )
      }, Effect.tapError(refused))

      const submit: Scheduler["Service"]["submit"] = Effect.fnUntraced(function* (commands, options) {
        const atomic = options?.atomic === true
        const principal = yield* Principal
        const trace = yield* currentTraceparent
        const routes = yield* Effect.forEach(commands, (command) =>
          routeOrAnswer(command, { id: newTaskId(ids), principal, trace, retryOf: undefined, graph: undefined })
        )
        const refusal = atomic ? firstRefusal(routes.map(({ answer }) => answer)) : undefined
        if (refusal !== undefined) {
          yield* refused(refusal)
          return commands.map(() => Result.fail(refusal))
        }
        const all = routes.flatMap(({ routed }) => (routed === undefined ? [] : [routed]))
        const outcomes = yield* measured(trace, atomic ? acceptAtomically(all, undefined) : accept(all))
        let next = 0
        const answers = routes.map(({ answer, routed }) => {
          if (routed === undefined) return answer
          const outcome = outcomes[next++]
          return outcome === undefined ? undefined : answerOf(routed, outcome)
        })
        const undone = atomic ? firstRefusal(answers) : undefined
        if (undone !== undefined) {
          yield* refused(undone)
          return commands.map(() => Result.fail(undone))
        }
        const told = answers.map((answer) => answer ?? Result.fail(unanswered))
        for (const answer of told) if (Result.isFailure(answer)) yield* refused(answer.failure)
        return told
      }, Effect.tapError(refused))

      const submitGraph: Scheduler["Service"]["submitGraph"] = Effect.fnUntraced(function* (command) {
        const { namespace } = yield* Principal
        const name = command.name ?? null
        const again = (graph: Extract<AcceptOutcome, { readonly _tag: "Existing" }>) =>
          graph.same
            ? Effect.succeed<AcceptedGraph>({ id: GraphId.make(graph.id), name, duplicate: true, tasks: {} })
            : mismatch(command.idempotency_key ?? "")

        const id = GraphId.make(ids.next())
        const routed = yield* routeGraph(command, id)
        if (Result.isFailure(routed)) {
          const earlier = yield* earlierOf(namespace, command)
          return yield* earlier === undefined ? routed.failure : again(earlier)
        }
        const idempotency = yield* idempotencyOf(command)
        const graph = { id, namespace, name: command.name, onFailure: command.on_failure, idempotency }
        const accepted = yield* acceptGraph(routed.success, graph)
        return accepted._tag === "Existing" ? yield* again(accepted) : accepted.graph
      }, Effect.tapError(refused))

      /** Accepts the tasks of a graph together. `Existing` when its key was used before. */
      const acceptGraph = Effect.fnUntraced(function* (all: ReadonlyArray<Routed>, graph: NewGraph) {
        const outcomes = yield* measured(yield* currentTraceparent, acceptAtomically(all, graph))
        const first = outcomes[0]
        if (first?._tag === "Existing") return first
        for (const [index, { task, ...rest }] of all.entries()) {
          const outcome = outcomes[index]
          const answer = outcome === undefined ? undefined : answerOf({ task, ...rest }, outcome)
          if (answer !== undefined && Result.isFailure(answer)) {
            return yield* within(`tasks.${task.graphKey}`, answer.failure)
          }
        }
        const tasks = Object.fromEntries(all.map(({ task }) => [task.graphKey, task.id]))
        const accepted: AcceptedGraph = { id: graph.id, name: graph.name ?? null, duplicate: false, tasks }
        return { _tag: "New", graph: accepted } as const
      })

      const idempotencyOfRetry = ({ idempotencyKey: key, retryOf }: Pick<GraphAgain, "idempotencyKey" | "retryOf">) =>
        key === undefined
          ? Effect.succeed(undefined)
          : Effect.map(
              digest.digestHex(Digest.sha256, new TextEncoder().encode(JSON.stringify({ retry_of: retryOf }))),
              (print) => ({ key, fingerprint: print })
            )

      const retriedBefore = (
        { idempotencyKey, name }: Pick<GraphAgain, "idempotencyKey" | "name">,
        graph: Extract<AcceptOutcome, { readonly _tag: "Existing" }>
      ) =>
        graph.same
          ? Effect.succeed<AcceptedGraph>({
              id: GraphId.make(graph.id),
              name: name ?? null,
              duplicate: true,
              tasks: {}
            })
          : mismatch(idempotencyKey ?? "")

      const earlierRetry: Scheduler["Service"]["earlierRetry"] = Effect.fnUntraced(function* (again) {
        const { namespace } = yield* Principal
        const idempotency = yield* idempotencyOfRetry(again)
        if (idempotency === undefined) return undefined
        const earlier = yield* Effect.mapError(ledger.earlier(namespace, idempotency), unavailable)
        return earlier === undefined ? undefined : yield* retriedBefore(again, earlier)
      }, Effect.tapError(refused))

      const retryGraph: Scheduler["Service"]["retryGraph"] = Effect.fnUntraced(function* (again) {
        const principal = yield* Principal
        const trace = yield* currentTraceparent
        const all: Array<Routed> = []
        for (const { command, failsGraph, id, key, retryOf, step } of again.tasks) {
          const graph = { id: again.id, key, step, failsGraph }
          const result = yield* route(command, { id, principal, trace, retryOf, graph })
          if (Result.isFailure(result)) return yield* within(`tasks.${key}`, result.failure)
          all.push(result.success)
        }
        const { id, name, onFailure, references, retryOf } = again
        const accepted = yield* acceptGraph(all, {
          ...{ id, namespace: principal.namespace, name, onFailure, retryOf, references },
          idempotency: yield* idempotencyOfRetry(again)
        })
        if (accepted._tag === "Existing") return yield* retriedBefore(again, accepted)
        const taken = Object.fromEntries(references.map((reference) => [reference.key, reference.id]))
        return { ...accepted.graph, tasks: { ...taken, ...accepted.graph.tasks } }
      }, Effect.tapError(refused))

      const routeGraph = Effect.fnUntraced(function* (command: SubmitGraph, id: GraphId) {
        const principal = yield* Principal
        const trace = yield* currentTraceparent
        const keys = Object.keys(command.tasks)
        if (keys.length === 0) return Result.fail<Refusal>(invalidField("tasks", "must name at least one task"))
        if (keys.length > Limits.graphTasksMax) {
          return Result.fail<Refusal>(new TooLarge({ field: "tasks", limit: Limits.graphTasksMax, unit: "tasks" }))
        }
        const edges = Object.values(command.tasks).reduce(
          (sum, { dependencies }) => sum + (dependencies?.length ?? 0),
          0
        )
        if (edges > Limits.graphDependenciesMax) {
          const limit = Limits.graphDependenciesMax
          return Result.fail<Refusal>(new TooLarge({ field: "tasks", limit, unit: "dependencies" }))
        }
        const shape = TaskGraph.problemsOf(command)
        if (shape.length > 0) return Result.fail<Refusal>(invalid(shape))
        const taskIds = new Map(keys.map((key) => [key, newTaskId(ids)] as const))
        const required = command.on_failure === "fail_fast" ? TaskGraph.requiredKeys(command.tasks) : undefined
        const all: Array<Routed> = []
        for (const [key, taskId] of taskIds) {
          const graphTask = command.tasks[key]
          if (graphTask === undefined) continue
          const named = TaskGraph.toSubmitTask(graphTask, { key, taskIds, labels: command.labels })
          if (Result.isFailure(named)) return Result.fail<Refusal>(invalid(named.failure))
          const step = TaskGraph.stepOf(graphTask, taskIds)
          const graph = { id, key, step, failsGraph: required?.has(key) === true }
          const origin = { id: taskId, principal, trace, retryOf: undefined, graph }
          const inline = yield* route(named.success, origin)
          const result = Result.isSuccess(inline)
            ? inline
            : yield* withPayloadKept(named.success, origin, inline.failure)
          if (Result.isFailure(result)) return Result.fail(within(`tasks.${key}`, result.failure))
          all.push(result.success)
        }
        return Result.succeed(all)
      })

      return Scheduler.of({ submitOne, submit, submitGraph, earlierRetry, retryGraph })
    })
  )
}

type OnItsWayOrAway = Effect.Effect<OnItsWay, Unavailable>

/** A command on its way: routed, or answered without being stored. */
type OnItsWay =
  | { readonly routed: Routed; readonly answer?: undefined }
  | { readonly routed?: undefined; readonly answer: Result.Result<AcceptedTask, Refusal> }

const unanswered = invalidField("", "was not answered")

const newTaskId = (ids: UuidV7["Service"]) => TaskId.make(ids.next(), { disableChecks: true })

/** The first refusal of a batch that is all or none, naming the item at fault; undefined when there is none. */
const firstRefusal = (
  results: ReadonlyArray<Result.Result<AcceptedTask, Refusal> | undefined>
): Refusal | undefined => {
  for (const [index, result] of results.entries()) {
    if (result === undefined || Result.isSuccess(result)) continue
    return results.length === 1 ? result.failure : within(String(index), result.failure)
  }
  return undefined
}
