/**
 * The use cases in memory: enough of their promises for the door to be tested without servers. Permissions are checked
 * as the real ones do, by `authorize`.
 */
import { Duration, Effect, Latch, Layer, Redacted, Result, Stream } from "effect"
import type { Agent, AgentMetrics } from "../../../protocol/Agent.ts"
import type { AgentVersion } from "../../../protocol/AgentVersion.ts"
import type { ApiKey } from "../../../protocol/ApiKey.ts"
import type { Artifact } from "../../../protocol/Artifact.ts"
import type { Chunk } from "../../../protocol/Chunk.ts"
import { type Event, isEnd } from "../../../protocol/Event.ts"
import {
  AgentId,
  ApiKeyId,
  ArtifactId,
  GraphId,
  Namespace,
  NodeName,
  OperationId,
  TaskId
} from "../../../protocol/Ids.ts"
import { inputDecoder } from "../../../protocol/InputDecoder.ts"
import * as Limits from "../../../protocol/Limits.ts"
import { Principal, type Role, rolePermissions } from "../../../protocol/Permission.ts"
import {
  AgentNotFound,
  AgentVersionNotFound,
  ArtifactNotFound,
  Conflict,
  GraphNotFound,
  invalidField,
  KeyNotFound,
  OperationNotFound,
  Overloaded,
  TaskNotFound,
  TooLarge,
  Unauthenticated,
  Unavailable
} from "../../../protocol/Problem.ts"
import type { RetentionRule } from "../../../protocol/Retention.ts"
import { ApprovalDecision, type Signal } from "../../../protocol/Signal.ts"
import { type AcceptedTask, isTerminal, type SubmitTask, type Task } from "../../../protocol/Task.ts"
import type { ActOnTasks, DeadLetter, Operation } from "../../../protocol/TaskAction.ts"
import { Agents } from "../../../src/app/Agents.ts"
import { AgentVersions } from "../../../src/app/AgentVersions.ts"
import { ApiKeys } from "../../../src/app/ApiKeys.ts"
import { Artifacts } from "../../../src/app/Artifacts.ts"
import { authorize } from "../../../src/app/authorize.ts"
import * as OpenStreams from "../../../src/app/OpenStreams.ts"
import { Retention } from "../../../src/app/Retention.ts"
import { Schedules } from "../../../src/app/Schedules.ts"
import { Signals } from "../../../src/app/Signals.ts"
import { System } from "../../../src/app/System.ts"
import { decodeItems, outcomesOf, refuseAll } from "../../../src/app/TaskBatch.ts"
import { permissionOf, TaskControl } from "../../../src/app/TaskControl.ts"
import { TaskStreams } from "../../../src/app/TaskStreams.ts"
import { Tasks } from "../../../src/app/Tasks.ts"
import * as MemoryBehaviours from "../../support/MemoryBehaviours.ts"
import * as MemoryGraphs from "../../support/MemoryGraphs.ts"
import * as MemoryLimits from "../../support/MemoryLimits.ts"
import * as MemoryNodes from "../../support/MemoryNodes.ts"
import * as MemorySchedules from "../../support/MemorySchedules.ts"
import * as MemorySupervision from "../../support/MemorySupervision.ts"
import * as MemoryWebhooks from "../../support/MemoryWebhooks.ts"

/** A key of each role, and one that Postgres cannot be asked about. */
export const keys = {
  admin: "dma_adminadminadmin1_secret",
  operator: "dma_operatoroperator_secret",
  viewer: "dma_viewerviewerview_secret",
  agent: "dma_agentagentagent1_secret",
  api_user: "dma_apiuserapiuserap_secret",
  away: "dma_awayawayawayaway_secret"
} as const

const now = "2026-11-23T10:00:00.000Z"
const namespace = Namespace.make("default")
const uuid = (n: number) => `01900000-0000-7000-8000-${String(n).padStart(12, "0")}`

/** What a test may turn while the server runs. */
export class MemoryState {
  /** Closed: submissions and waits of tasks hang until it opens. */
  readonly gate = Latch.makeUnsafe(true)
  readonly tasks = new Map<string, Task>()
  readonly events = new Map<string, Array<Event>>()
  readonly signals = new Map<string, Array<Signal>>()
  readonly chunks = new Map<string, Array<Chunk>>()
  readonly agents = new Map<string, Agent>()
  readonly artifacts = new Map<string, { readonly info: Artifact; readonly bytes: Uint8Array }>()
  readonly operations = new Map<string, Operation>()
  rules: ReadonlyArray<RetentionRule> = []
  readonly revoked = new Set<string>()
  readonly submitted: Array<SubmitTask> = []
  overloaded = false
  ready = true
  private count = 0

  next() {
    this.count += 1
    return this.count
  }

  record(id: TaskId, type: Event["type"], data: Event["data"] = {}) {
    const events = this.events.get(id) ?? []
    this.events.set(id, events)
    const number = events.length + 1
    events.push({ type, kind: "task", aggregate: id, number, at: now, namespace, actor: null, trace: null, data })
  }

  end(id: TaskId) {
    const task = this.tasks.get(id)
    if (task !== undefined) this.tasks.set(id, { ...task, status: "completed", completed_at: now })
    this.record(id, "TaskCompleted")
  }
}

const principals = new Map(
  Object.entries(keys).map(([name, key]) => {
    const role: Role = name === "away" ? "admin" : (name as Role)
    const permissions = new Set(rolePermissions[role])
    return [key as string, Principal.of({ actor: `key:${key.slice(4, 20)}`, namespace, role, permissions })]
  })
)

const apiKeys = (state: MemoryState) => {
  const stored: ApiKey = {
    id: ApiKeyId.make("adminadminadmin1"),
    namespace,
    name: "first",
    role: "admin",
    permissions: [...rolePermissions.admin],
    created_at: now,
    expires_at: null,
    revoked_at: null
  }
  return ApiKeys.of({
    authenticate: (key) =>
      Effect.suspend((): Effect.Effect<Principal["Service"], Unauthenticated | Unavailable> => {
        const text = Redacted.value(key)
        const principal = principals.get(text)
        if (text === keys.away) return Effect.fail(new Unavailable({ retry_after_seconds: 2.5 }))
        return principal === undefined || state.revoked.has(text)
          ? Effect.fail(new Unauthenticated({ detail: "This key is not valid." }))
          : Effect.succeed(principal)
      }),
    create: (command) =>
      Effect.as(authorize("key:create"), { ...stored, name: command.name, role: command.role, key: "dma_new_secret" }),
    list: () => Effect.as(authorize("key:read"), { data: [stored], next_cursor: null }),
    revoke: (id) =>
      Effect.andThen(
        authorize("key:revoke"),
        id === stored.id ? Effect.void : Effect.fail(new KeyNotFound({ key_id: id }))
      ),
    bootstrap: Effect.fail(new Unavailable({ retry_after_seconds: 1 }))
  })
}

const tasks = (state: MemoryState) => {
  const openStream = Effect.runSync(OpenStreams.make)
  const find = (id: TaskId) =>
    Effect.suspend(() => {
      const task = state.tasks.get(id)
      return task === undefined
        ? Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id}.` }))
        : Effect.succeed(task)
    })
  const accept = (command: SubmitTask): AcceptedTask => {
    const id = TaskId.make(uuid(state.next()))
    const { labels = {}, metadata = {}, name = "t", priority = "normal", type = "echo" } = command
    state.submitted.push(command)
    state.tasks.set(id, {
      id,
      namespace,
      name,
      type,
      agent_id: null,
      status: "queued",
      waiting_for: null,
      priority,
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
      labels,
      metadata,
      attempt: 0,
      max_attempts: 1,
      created_at: now,
      started_at: null,
      completed_at: null,
      version: 2
    })
    state.record(id, "TaskCreated")
    state.record(id, "TaskQueued")
    return {
      id,
      namespace,
      name,
      type,
      agent_id: null,
      status: "queued",
      waiting_for: null,
      priority,
      duplicate: false,
      created_at: now
    }
  }
  const submit = Effect.fnUntraced(function* (command: SubmitTask) {
    yield* authorize("task:create")
    yield* state.gate.await
    if (state.overloaded) return yield* new Overloaded({ retry_after_seconds: 3 })
    if (command.agent === "nobody") return yield* invalidField("agent", "there is no such agent")
    if (command.type === "defect") return yield* Effect.die(new Error("secret inside"))
    return accept(command)
  })
  const graphNotFound = (id: string) => new GraphNotFound({ graph_id: id })
  return Tasks.of({
    submit,
    submitBatch: Effect.fnUntraced(function* (items, { atomic }) {
      yield* authorize("task:create")
      const decoded = yield* decodeItems(items)
      const refused = atomic ? refuseAll(decoded) : undefined
      return outcomesOf(refused ?? decoded.map((command) => Result.map(command, accept)))
    }),
    submitGraph: Effect.fnUntraced(function* (command) {
      yield* authorize("task:create")
      const entries = Object.keys(command.tasks).map((key) => [key, TaskId.make(uuid(state.next()))])
      return {
        id: GraphId.make(uuid(state.next())),
        name: command.name ?? null,
        duplicate: false,
        tasks: Object.fromEntries(entries)
      }
    }),
    get: (id) => Effect.andThen(authorize("task:read"), find(id)),
    wait: Effect.fnUntraced(function* (id, atMost) {
      yield* authorize("task:read")
      yield* find(id)
      yield* Effect.raceFirst(Effect.sleep(Duration.min(atMost, Duration.seconds(50))), ended(state, id))
      return yield* find(id)
    }),
    list: (query) =>
      Effect.map(authorize("task:read"), () => ({
        data: [...state.tasks.values()].slice(0, query.limit ?? 50),
        next_cursor: null
      })),
    events: (id, { after, limit }) =>
      Effect.andThen(authorize("event:read"), find(id)).pipe(
        Effect.map(() => (state.events.get(id) ?? []).filter(({ number }) => number > after).slice(0, limit))
      ),
    follow: (id, after) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const { actor } = yield* authorize("event:read")
          yield* openStream(actor)
          return follow(state, id, after)
        })
      ),
    graph: (id) => Effect.andThen(authorize("task:read"), Effect.fail(graphNotFound(id))),
    graphOf: (id) =>
      Effect.andThen(authorize("task:read"), find(id)).pipe(Effect.andThen(Effect.fail(graphNotFound(id)))),
    cancel: Effect.fnUntraced(function* (id, reason) {
      yield* authorize("task:cancel")
      const task = yield* find(id)
      if (isTerminal(task.status)) return yield* new Conflict({ reason: "state" })
      const cancelled: Task = { ...task, status: "cancelled", metadata: { reason: reason ?? null } }
      state.tasks.set(id, cancelled)
      state.record(id, "TaskCancelled")
      return cancelled
    }),
    retry: Effect.fnUntraced(function* (id) {
      yield* authorize("task:retry")
      const task = yield* find(id)
      if (!isTerminal(task.status) || task.status === "completed") return yield* new Conflict({ reason: "state" })
      return accept({ type: task.type })
    })
  })
}

/** How often waits and followers look again. */
const glance = Effect.sleep("5 millis")

const ended = (state: MemoryState, id: TaskId): Effect.Effect<void> =>
  Effect.suspend(() => {
    const task = state.tasks.get(id)
    if (task !== undefined && isTerminal(task.status)) return Effect.void
    return Effect.andThen(glance, ended(state, id))
  })

const follow = (state: MemoryState, id: TaskId, after: number): Stream.Stream<Event> =>
  Stream.unwrap(
    Effect.sync(() => {
      const fresh = (state.events.get(id) ?? []).filter(({ number }) => number > after)
      const last = fresh.at(-1)
      if (last !== undefined && isEnd(last.type)) return Stream.fromIterable(fresh)
      return Stream.concat(
        Stream.fromIterable(fresh),
        Stream.unwrap(Effect.map(glance, () => follow(state, id, last?.number ?? after)))
      )
    })
  )

const findTask = (state: MemoryState, id: string) =>
  Effect.suspend(() => {
    const task = state.tasks.get(id)
    return task === undefined
      ? Effect.fail(new TaskNotFound({ task_id: id, detail: "There is none." }))
      : Effect.succeed(task)
  })

const decodeDecision = inputDecoder(ApprovalDecision)

const signals = (state: MemoryState) => {
  const change = (id: TaskId, patch: Partial<Task>) =>
    Effect.map(findTask(state, id), (task) => {
      const changed: Task = { ...task, ...patch }
      state.tasks.set(id, changed)
      return changed
    })
  return Signals.of({
    send: Effect.fnUntraced(function* (id, { idempotencyKey, name, payload }) {
      const { actor } = yield* authorize(name === "approval" ? "task:approve" : "task:signal")
      if (name === "approval") yield* Effect.fromResult(decodeDecision(payload))
      const task = yield* findTask(state, id)
      if (isTerminal(task.status)) return yield* new Conflict({ reason: "state" })
      const kept = state.signals.get(id) ?? []
      state.signals.set(id, kept)
      kept.push({ number: kept.length + 1, name, payload, actor, at: now, taken: false })
      return {
        ...{ task_id: id, name, number: kept.length, at: now },
        ...{ duplicate: idempotencyKey === "again", status: task.status }
      }
    }),
    list: (id) =>
      Effect.andThen(authorize("task:read"), findTask(state, id)).pipe(
        Effect.map(() => ({ awaiting: [], data: state.signals.get(id) ?? [], next_after: null }))
      ),
    pause: (id, reason) =>
      Effect.andThen(
        authorize("task:pause"),
        change(id, { status: "paused", waiting_for: null, metadata: { reason: reason ?? null } })
      ),
    resume: (id) => Effect.andThen(authorize("task:pause"), change(id, { status: "queued" }))
  })
}

const streams = (state: MemoryState) => {
  const above = (id: TaskId, after: number) =>
    Effect.andThen(authorize("task:read"), findTask(state, id)).pipe(
      Effect.map(() => (state.chunks.get(id) ?? []).filter(({ number }) => number > after))
    )
  return TaskStreams.of({
    read: (id, { after, limit }) =>
      Effect.map(above(id, after), (chunks) => {
        const data = chunks.slice(0, limit)
        return { data, next_after: data.at(-1)?.number ?? after, ended: data.length === chunks.length }
      }),
    follow: (id, { after }) => Stream.unwrap(Effect.map(above(id, after), Stream.fromIterable)),
    list: (id) =>
      Effect.map(above(id, 0), (chunks) => ({
        data: chunks.length === 0 ? [] : [{ name: "log", chunks: chunks.length, bytes: 0 }]
      }))
  })
}

const agents = (state: MemoryState) => {
  const find = (ref: string) =>
    Effect.suspend(() => {
      const agent = [...state.agents.values()].find(({ id, name }) => id === ref || name === ref)
      return agent === undefined ? Effect.fail(new AgentNotFound({ agent: ref })) : Effect.succeed(agent)
    })
  const change = (ref: string, patch: Partial<Agent>) =>
    Effect.map(find(ref), (agent) => {
      const changed: Agent = { ...agent, ...patch, version: agent.version + 1 }
      state.agents.set(agent.id, changed)
      return changed
    })
  const metricsOf = (agent: Agent): AgentMetrics => ({
    agent_id: agent.id,
    completed: 1,
    failed: 0,
    timed_out: 0,
    cancelled: 0,
    success_rate: 1,
    response_time_mean_ms: 3,
    response_time_max_ms: 4,
    queue_depth: 0,
    running: 0,
    instances: []
  })
  return Agents.of({
    create: Effect.fnUntraced(function* (command) {
      yield* authorize("agent:create")
      if ([...state.agents.values()].some(({ name }) => name === command.name)) {
        return yield* new Conflict({ reason: "name-taken" })
      }
      const agent: Agent = {
        capabilities: [],
        configuration: {},
        labels: {},
        metadata: {},
        desired_instances: 1,
        ...command,
        id: AgentId.make(uuid(state.next())),
        namespace,
        status: "active",
        status_reason: null,
        draining: false,
        current_instances: 0,
        created_at: now,
        updated_at: now,
        version: 1,
        definition_version: 1
      }
      state.agents.set(agent.id, agent)
      return agent
    }),
    get: (ref) => Effect.andThen(authorize("agent:read"), find(ref)),
    list: () => Effect.as(authorize("agent:read"), { data: [...state.agents.values()], next_cursor: null }),
    update: Effect.fnUntraced(function* (ref, command, ifVersion) {
      yield* authorize("agent:update")
      const { version } = yield* find(ref)
      if (ifVersion !== undefined && ifVersion !== version) {
        return yield* new Conflict({ reason: "version", current_version: version })
      }
      const { rollout: _, ...definition } = command
      return yield* change(ref, definition)
    }),
    scale: (ref, command) => Effect.andThen(authorize("agent:scale"), change(ref, command)),
    pause: (ref) => Effect.andThen(authorize("agent:update"), change(ref, { status: "maintenance" })),
    resume: (ref) => Effect.andThen(authorize("agent:update"), change(ref, { status: "active" })),
    remove: (ref) => Effect.andThen(authorize("agent:delete"), change(ref, { draining: true })),
    addCapability: (ref, capability) =>
      Effect.andThen(authorize("agent:update"), change(ref, { capabilities: [capability] })),
    removeCapability: (ref) => Effect.andThen(authorize("agent:update"), change(ref, { capabilities: [] })),
    metrics: (ref) => Effect.andThen(authorize("agent:read"), Effect.map(find(ref), metricsOf))
  })
}

/** Every agent has one version, and nothing is rolled out. */
const agentVersions = (state: MemoryState) => {
  const find = (ref: string) =>
    Effect.suspend(() => {
      const agent = [...state.agents.values()].find(({ id, name }) => id === ref || name === ref)
      return agent === undefined ? Effect.fail(new AgentNotFound({ agent: ref })) : Effect.succeed(agent)
    })
  const only = (agent: Agent): AgentVersion => ({
    version: 1,
    created_at: now,
    actor: "key:test",
    restores: null,
    share_percent: 100,
    figures: {
      completed: 0,
      failed: 0,
      timed_out: 0,
      attempts: 0,
      success_rate: null,
      response_time_mean_ms: null,
      response_time_max_ms: null
    },
    definition: { ...agent, description: agent.description ?? null }
  })
  return AgentVersions.of({
    list: (ref) =>
      Effect.andThen(
        authorize("agent:read"),
        Effect.map(find(ref), (agent) => ({ data: [only(agent)] }))
      ),
    get: (ref, version) =>
      Effect.flatMap(Effect.andThen(authorize("agent:read"), find(ref)), (agent) =>
        version === 1 ? Effect.succeed(only(agent)) : Effect.fail(new AgentVersionNotFound({ agent: ref, version }))
      ),
    rollBack: (ref) => Effect.andThen(authorize("agent:update"), find(ref)),
    rollOut: (ref) =>
      Effect.andThen(
        Effect.andThen(authorize("agent:update"), find(ref)),
        Effect.fail(new Conflict({ reason: "state", current_version: 1 }))
      )
  })
}

const artifacts = (state: MemoryState) => {
  const find = (id: string) =>
    Effect.suspend(() => {
      const stored = state.artifacts.get(id)
      return stored === undefined ? Effect.fail(new ArtifactNotFound({ artifact_id: id })) : Effect.succeed(stored)
    })
  return Artifacts.of({
    upload: Effect.fnUntraced(function* ({ content, contentType, name }) {
      yield* authorize("artifact:create")
      let size = 0
      const within = (chunk: Uint8Array) => {
        size += chunk.length
        return size > Limits.artifactBytesMax
          ? Effect.fail(new TooLarge({ field: "", limit: Limits.artifactBytesMax, unit: "bytes" }))
          : Effect.succeed(chunk)
      }
      const bytes = Buffer.concat(yield* Stream.runCollect(Stream.mapEffect(content, within)))
      const id = ArtifactId.make(uuid(state.next()))
      const info = {
        id,
        namespace,
        name,
        content_type: contentType,
        size_bytes: bytes.length,
        sha256: "0".repeat(64),
        created_at: now
      }
      state.artifacts.set(id, { info, bytes })
      return info
    }),
    info: (id) =>
      Effect.andThen(
        authorize("artifact:read"),
        Effect.map(find(id), ({ info }) => info)
      ),
    download: (id) =>
      Effect.andThen(authorize("artifact:read"), find(id)).pipe(
        Effect.map(({ bytes, info }) => ({ info, content: Stream.make(bytes) }))
      )
  })
}

const control = (state: MemoryState) => {
  const find = (id: TaskId) => {
    const task = state.tasks.get(id)
    return task === undefined
      ? Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id}.` }))
      : Effect.succeed(task)
  }
  const begin = ({ action, filter }: Pick<ActOnTasks, "action" | "filter">): Operation => {
    const operation: Operation = {
      id: OperationId.make(uuid(state.next())),
      namespace,
      action,
      filter,
      status: "running",
      matched: 0,
      done: 0,
      failed: 0,
      skipped: 0,
      errors: [],
      actor: "key:admin",
      created_at: now,
      updated_at: now,
      ended_at: null
    }
    state.operations.set(operation.id, operation)
    return operation
  }
  const letter = (task: Task): DeadLetter => ({
    task,
    error: null,
    attempts: [],
    acknowledged: null,
    retried_as: []
  })
  const operation = (id: string) => {
    const found = state.operations.get(id)
    return found === undefined
      ? Effect.fail(new OperationNotFound({ operation_id: id, detail: "none" }))
      : Effect.succeed(found)
  }
  const zero = { pending: 0, queued: 0, running: 0, paused: 0, completed: 0, failed: 0, timeout: 0, cancelled: 0 }
  return TaskControl.of({
    counts: () => Effect.as(authorize("task:read"), { namespace, counts: zero, at_least: [] }),
    attempts: (id) => Effect.andThen(authorize("task:read"), Effect.as(find(id), [])),
    prioritise: (id, priority) =>
      Effect.andThen(
        authorize("task:update"),
        Effect.map(find(id), (task) => ({ ...task, priority }))
      ),
    reroute: (id) => Effect.andThen(authorize("task:update"), find(id)),
    remove: (id) => Effect.andThen(authorize("task:delete"), Effect.as(find(id), { id, deleted: true as const })),
    act: (command) =>
      Effect.map(authorize(permissionOf[command.action]), () =>
        command.dry_run === true
          ? { dry_run: true, action: command.action, matched: 0, complete: true, sample: [] }
          : begin(command)
      ),
    operation: (id) => Effect.andThen(authorize("task:read"), operation(id)),
    stopOperation: (id) => Effect.andThen(authorize("task:read"), operation(id)),
    deadLetters: () =>
      Effect.map(authorize("task:read"), () => ({ data: [...state.tasks.values()].map(letter), next_cursor: null })),
    deadLetter: (id) => Effect.andThen(authorize("task:read"), Effect.map(find(id), letter)),
    acknowledge: (id) => Effect.andThen(authorize("task:update"), Effect.map(find(id), letter)),
    replay: (id) => Effect.andThen(authorize("task:retry"), Effect.andThen(find(id), Effect.fail(stateConflict))),
    replayMany: ({ filter }) => Effect.map(authorize("task:retry"), () => begin({ action: "retry", filter }))
  })
}

const stateConflict = new Conflict({ reason: "state" })

const retention = (state: MemoryState) => {
  const view = () => ({
    namespace,
    rules: state.rules,
    version: state.rules.length,
    updated_at: null,
    deleted: 0,
    archives: []
  })
  return Retention.of({
    get: Effect.map(authorize("retention:read"), view),
    set: ({ rules }) =>
      Effect.map(authorize("retention:update"), () => {
        state.rules = rules
        return view()
      })
  })
}

const system = (state: MemoryState) =>
  System.of({
    readiness: Effect.sync(() => ({
      ready: state.ready,
      draining: false,
      parts: { postgres: state.ready, nats: true, started: true }
    })),
    status: Effect.map(authorize("task:read"), () => ({
      version: "0",
      node: NodeName.make("n1"),
      namespace,
      tasks: {},
      agents: 0,
      instances_here: 0,
      parts: { postgres: true, nats: true, started: true }
    }))
  })

/** Every use case over one state. */
export const memoryApp = (state: MemoryState) =>
  Layer.mergeAll(
    Layer.succeed(ApiKeys, apiKeys(state)),
    Layer.succeed(Tasks, tasks(state)),
    Layer.succeed(Signals, signals(state)),
    Layer.succeed(TaskStreams, streams(state)),
    Layer.succeed(TaskControl, control(state)),
    Layer.succeed(Retention, retention(state)),
    Layer.succeed(Agents, agents(state)),
    Layer.succeed(AgentVersions, agentVersions(state)),
    Layer.succeed(Artifacts, artifacts(state)),
    MemoryBehaviours.layer,
    MemoryLimits.layer,
    MemoryNodes.layer,
    MemorySupervision.layer,
    Layer.sync(Schedules, MemorySchedules.make),
    Layer.succeed(System, system(state)),
    MemoryWebhooks.layer
  ).pipe((cases) => MemoryGraphs.layer.pipe(Layer.provideMerge(cases)))
