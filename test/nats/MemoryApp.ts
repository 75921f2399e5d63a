/** Use cases in memory, as small as the door needs them: two namespaces, tasks that end when they are told to. */
import { Context, Deferred, Duration, Effect, Layer, Option, Redacted, Schema, Stream } from "effect"
import type { Agent } from "../../protocol/Agent.ts"
import { AgentId, Namespace, TaskId } from "../../protocol/Ids.ts"
import { type Permission, Principal, permissions } from "../../protocol/Permission.ts"
import {
  AgentNotFound,
  AgentVersionNotFound,
  Conflict,
  GraphNotFound,
  invalidField,
  OperationNotFound,
  TaskNotFound,
  Unauthenticated,
  Unavailable
} from "../../protocol/Problem.ts"
import type { BatchItem } from "../../protocol/Query.ts"
import { type AcceptedTask, SubmitTask, type Task } from "../../protocol/Task.ts"
import { Agents } from "../../src/app/Agents.ts"
import { AgentVersions } from "../../src/app/AgentVersions.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { Retention } from "../../src/app/Retention.ts"
import { Schedules } from "../../src/app/Schedules.ts"
import { Signals } from "../../src/app/Signals.ts"
import { TaskControl } from "../../src/app/TaskControl.ts"
import { TaskStreams } from "../../src/app/TaskStreams.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import * as MemoryBehaviours from "../support/MemoryBehaviours.ts"
import * as MemoryGraphs from "../support/MemoryGraphs.ts"
import * as MemoryLimits from "../support/MemoryLimits.ts"
import * as MemoryNodes from "../support/MemoryNodes.ts"
import * as MemorySchedules from "../support/MemorySchedules.ts"
import * as MemorySupervision from "../support/MemorySupervision.ts"
import * as MemoryWebhooks from "../support/MemoryWebhooks.ts"

export const keys = { default: "dma_default", other: "dma_other", down: "dma_down" }

/** What a test can make the use cases do. */
export class Script extends Context.Service<
  Script,
  {
    /** Commands that arrived at `Tasks.submit`. */
    readonly submitted: Array<SubmitTask>
    /** Fibers that were interrupted within `Tasks.submit`. */
    readonly interrupted: Array<string>
    readonly traces: Array<string | undefined>
    /** Lets submissions of the type `slow.work` go on. */
    readonly gate: Deferred.Deferred<void>
    readonly end: (id: string) => Effect.Effect<void>
  }
>()("datamcp/test/nats/Script") {}

const isSubmitTask = Schema.is(SubmitTask)

let count = 0
const uuid = () => `01900000-0000-7000-8000-${String(++count).padStart(12, "0")}`
const at = "2026-11-23T10:00:00.000Z"

const principals = new Map([
  [keys.default, principal("default")],
  [keys.other, principal("other")]
])

function principal(namespace: string): Principal["Service"] {
  const granted: ReadonlySet<Permission> = new Set(permissions)
  return { actor: `key:${namespace}`, namespace: Namespace.make(namespace), role: "admin", permissions: granted }
}

const apiKeys = Layer.succeed(
  ApiKeys,
  ApiKeys.of({
    authenticate: (key) => {
      const found = principals.get(Redacted.value(key))
      if (Redacted.value(key) === keys.down) return Effect.fail(new Unavailable({ retry_after_seconds: 2 }))
      return found === undefined ? Effect.fail(new Unauthenticated({})) : Effect.succeed(found)
    },
    create: () => Effect.die("not used"),
    list: () => Effect.die("not used"),
    revoke: () => Effect.die("not used"),
    bootstrap: Effect.die("not used")
  })
)

interface Entry {
  readonly namespace: string
  task: Task
  readonly ended: Deferred.Deferred<void>
}

const taskLayers = Layer.effectContext(
  Effect.gen(function* () {
    const entries = new Map<string, Entry>()
    const submitted: Array<SubmitTask> = []
    const interrupted: Array<string> = []
    const traces: Array<string | undefined> = []
    const gate = yield* Deferred.make<void>()

    const find = (id: TaskId) =>
      Effect.flatMap(Principal, ({ namespace }) => {
        const entry = entries.get(id)
        return entry?.namespace === namespace ? Effect.succeed(entry) : Effect.fail(new TaskNotFound({ task_id: id }))
      })

    const accept = Effect.fnUntraced(function* (command: SubmitTask) {
      const { namespace } = yield* Principal
      const id = TaskId.make(uuid())
      const accepted: AcceptedTask = {
        id,
        namespace,
        name: command.name ?? command.type ?? "task",
        type: command.type ?? "test.work",
        agent_id: null,
        status: "queued",
        waiting_for: null,
        priority: command.priority ?? "normal",
        duplicate: false,
        created_at: at
      }
      const task: Task = {
        ...accepted,
        ...(command.payload === undefined ? {} : { payload: command.payload }),
        configuration: {},
        progress: null,
        result: null,
        parent_id: null,
        graph_id: null,
        graph_key: null,
        retry_of: null,
        run_at: null,
        deadline: null,
        labels: {},
        metadata: {},
        attempt: 0,
        max_attempts: 1,
        started_at: null,
        completed_at: null,
        version: 2
      }
      entries.set(id, { namespace, task, ended: Deferred.makeUnsafe() })
      return accepted
    })

    const submit = (command: SubmitTask) =>
      Effect.gen(function* () {
        submitted.push(command)
        const span = yield* Effect.option(Effect.currentParentSpan)
        traces.push(Option.getOrUndefined(span)?.traceId)
        if (command.type === "broken.work") return yield* Effect.die(new Error("hush: a defect"))
        if (command.type === "slow.work") {
          yield* Deferred.await(gate).pipe(Effect.onInterrupt(() => Effect.sync(() => interrupted.push("submit"))))
        }
        return yield* accept(command)
      })

    const finish = (entry: Entry, status: "completed" | "cancelled") => {
      entry.task = { ...entry.task, status, completed_at: at, result: { success: status === "completed" } }
      return Effect.asVoid(Deferred.succeed(entry.ended, undefined))
    }

    const tasks = Tasks.of({
      submit,
      submitBatch: (items) =>
        Effect.forEach(
          items,
          (item, index): Effect.Effect<BatchItem, never, Principal> =>
            isSubmitTask(item)
              ? Effect.map(submit(item), (task) => ({ index, status: 202, task }))
              : Effect.succeed({ index, status: 422, problem: { title: "The input breaks a rule" } })
        ),
      submitGraph: () => Effect.fail(invalidField("tasks", "not in memory")),
      get: (id) => Effect.map(find(id), ({ task }) => task),
      wait: (id, atMost) =>
        Effect.flatMap(find(id), (entry) =>
          Deferred.await(entry.ended).pipe(Effect.timeoutOption(atMost), Effect.andThen(Effect.sync(() => entry.task)))
        ),
      list: ({ limit = 50 }) =>
        Effect.map(Principal, ({ namespace }) => ({
          data: [...entries.values()]
            .filter((entry) => entry.namespace === namespace)
            .map(({ task }) => task)
            .toReversed()
            .slice(0, limit),
          next_cursor: null
        })),
      events: (id, { after, limit }) =>
        Effect.map(find(id), ({ task }) =>
          (["TaskCreated", "TaskQueued"] as const)
            .map((type, index) => ({
              type,
              kind: "task" as const,
              aggregate: task.id,
              number: index + 1,
              at,
              namespace: task.namespace,
              actor: null,
              trace: null,
              data: {}
            }))
            .slice(after, after + limit)
        ),
      follow: () => Stream.empty,
      graph: (id) => Effect.fail(new GraphNotFound({ graph_id: id })),
      graphOf: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      cancel: (id) =>
        Effect.flatMap(find(id), (entry) =>
          entry.task.completed_at !== null
            ? Effect.fail(new Conflict({ reason: "state" }))
            : Effect.as(finish(entry, "cancelled"), entry.task).pipe(Effect.map(() => entry.task))
        ),
      retry: (id) => Effect.flatMap(find(id), ({ task }) => accept({ type: task.type }))
    })

    const end = (id: string) => {
      const entry = entries.get(id)
      return entry === undefined ? Effect.void : finish(entry, "completed")
    }
    return Context.make(Tasks, tasks).pipe(Context.add(Script, { submitted, interrupted, traces, gate, end }))
  })
)

const agents = Layer.sync(Agents, () => {
  const known = new Map<string, Agent>()
  const find = (ref: string) => {
    const agent = known.get(ref)
    return agent === undefined ? Effect.fail(new AgentNotFound({ agent: ref })) : Effect.succeed(agent)
  }
  const change = (ref: string, part: Partial<Agent>) =>
    Effect.map(find(ref), (agent) => {
      const changed = { ...agent, ...part, version: agent.version + 1 }
      known.set(ref, changed)
      return changed
    })
  return Agents.of({
    create: (command) =>
      Effect.map(Principal, ({ namespace }) => {
        const agent: Agent = {
          capabilities: [],
          configuration: {},
          labels: {},
          metadata: {},
          ...command,
          id: AgentId.make(uuid()),
          namespace,
          status: "active",
          status_reason: null,
          draining: false,
          desired_instances: command.desired_instances ?? 1,
          current_instances: 0,
          created_at: at,
          updated_at: at,
          version: 1,
          definition_version: 1
        }
        known.set(agent.name, agent)
        return agent
      }),
    get: find,
    list: () => Effect.succeed({ data: [...known.values()], next_cursor: null }),
    update: (ref, { rollout: _, ...command }, ifVersion) =>
      Effect.flatMap(
        find(ref),
        ({ version }): Effect.Effect<Agent, AgentNotFound | Conflict> =>
          ifVersion === undefined || ifVersion === version
            ? change(ref, command)
            : Effect.fail(new Conflict({ reason: "version", current_version: version }))
      ),
    scale: (ref, command) => change(ref, command),
    pause: (ref) => change(ref, { status: "maintenance" }),
    resume: (ref) => change(ref, { status: "active" }),
    remove: (ref, { force }) => change(ref, { draining: true, status_reason: force ? "forced" : "drains" }),
    addCapability: (ref) => find(ref),
    removeCapability: (ref) => find(ref),
    metrics: (ref) =>
      Effect.map(find(ref), ({ id }) => ({
        agent_id: id,
        completed: 0,
        failed: 0,
        timed_out: 0,
        cancelled: 0,
        success_rate: null,
        response_time_mean_ms: null,
        response_time_max_ms: null,
        queue_depth: 0,
        running: 0,
        instances: []
      }))
  })
})

/** Answers as the real ones do, keeps nothing. */
const talk = Layer.mergeAll(
  Layer.succeed(
    Signals,
    Signals.of({
      send: (id, { idempotencyKey, name }) =>
        Effect.succeed({ task_id: id, name, number: 1, at, duplicate: idempotencyKey === "again", status: "paused" }),
      list: () => Effect.succeed({ awaiting: [], data: [], next_after: null }),
      pause: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      resume: (id) => Effect.fail(new TaskNotFound({ task_id: id }))
    })
  ),
  Layer.succeed(
    TaskStreams,
    TaskStreams.of({
      read: (_, { after, atMost }) =>
        Effect.as(Effect.sleep(atMost), { data: [], next_after: after, ended: Duration.toMillis(atMost) === 0 }),
      follow: () => Stream.empty,
      list: () => Effect.succeed({ data: [] })
    })
  )
)

const zero = { pending: 0, queued: 0, running: 0, paused: 0, completed: 0, failed: 0, timeout: 0, cancelled: 0 }

const noRules = ({ namespace }: Principal["Service"]) => ({
  ...{ namespace, rules: [], version: 0, updated_at: null, deleted: 0, archives: [] }
})

const control = Layer.mergeAll(
  Layer.succeed(
    TaskControl,
    TaskControl.of({
      counts: () => Effect.map(Principal, ({ namespace }) => ({ namespace, counts: zero, at_least: [] })),
      attempts: () => Effect.succeed([]),
      prioritise: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      reroute: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      remove: (id) => Effect.succeed({ id, deleted: true }),
      act: ({ action }) => Effect.succeed({ dry_run: true, action, matched: 0, complete: true, sample: [] }),
      operation: (id) => Effect.fail(new OperationNotFound({ operation_id: id })),
      stopOperation: (id) => Effect.fail(new OperationNotFound({ operation_id: id })),
      deadLetters: () => Effect.succeed({ data: [], next_cursor: null }),
      deadLetter: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      acknowledge: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      replay: (id) => Effect.fail(new TaskNotFound({ task_id: id })),
      replayMany: () => Effect.fail(invalidField("filter", "not in memory"))
    })
  ),
  Layer.succeed(
    Retention,
    Retention.of({
      get: Effect.map(Principal, noRules),
      set: ({ rules }) => Effect.map(Principal, (principal) => ({ ...noRules(principal), rules }))
    })
  )
)

/** No agent has any. */
const agentVersions = Layer.succeed(
  AgentVersions,
  AgentVersions.of({
    list: () => Effect.succeed({ data: [] }),
    get: (ref, version) => Effect.fail(new AgentVersionNotFound({ agent: ref, version })),
    rollBack: (ref, { version }) => Effect.fail(new AgentVersionNotFound({ agent: ref, version })),
    rollOut: () => Effect.fail(new Conflict({ reason: "state" }))
  })
)

export const memoryApp = MemoryGraphs.layer.pipe(
  Layer.provideMerge(
    Layer.mergeAll(
      apiKeys,
      taskLayers,
      agents,
      Layer.sync(Schedules, MemorySchedules.make),
      MemoryWebhooks.layer,
      talk,
      control,
      agentVersions,
      MemoryBehaviours.layer,
      MemoryLimits.layer,
      MemoryNodes.layer,
      MemorySupervision.layer
    )
  )
)
