/**
 * Who may do what, over every method of every use case: permissions as the one list says, and no way from one namespace
 * into another, not even to learn that something exists there (S11).
 */
import { describe, expect, layer } from "@effect/vitest"
import { Duration, Effect, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { UuidV7 } from "../../actors/UuidV7.ts"
import {
  ApiKeyId,
  ArtifactId,
  GraphId,
  LimitName,
  NodeName,
  OperationId,
  ScheduleId,
  ScheduleName,
  TaskId,
  type TaskType
} from "../../protocol/Ids.ts"
import type { Page } from "../../protocol/Page.ts"
import { type Permission, type Principal, permissions, type Role, rolePermissions } from "../../protocol/Permission.ts"
import { Agents } from "../../src/app/Agents.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import { BehaviourCatalogue } from "../../src/app/BehaviourCatalogue.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { LimitRules } from "../../src/app/LimitRules.ts"
import { Nodes } from "../../src/app/Nodes.ts"
import { Retention } from "../../src/app/Retention.ts"
import { Schedules } from "../../src/app/Schedules.ts"
import { Supervision } from "../../src/app/Supervision.ts"
import { System } from "../../src/app/System.ts"
import { TaskControl } from "../../src/app/TaskControl.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { admin, as, principal } from "./as.ts"
import { layer as cases, echoAgent, submitGraph, submitTask } from "./Cases.ts"

type Services =
  | Tasks
  | TaskControl
  | Retention
  | Graphs
  | Agents
  | ApiKeys
  | Artifacts
  | Schedules
  | LimitRules
  | Nodes
  | Supervision
  | BehaviourCatalogue
  | System
  | UuidV7
  | SqlClient.SqlClient
type Attempt = Effect.Effect<unknown, { readonly _tag: string }, Principal | Services>

/** Ids of one namespace's things. */
interface Things {
  readonly task: TaskId
  readonly ended: TaskId
  readonly graph: GraphId
  readonly endedGraph: GraphId
  readonly agent: string
  readonly key: ApiKeyId
  readonly artifact: ArtifactId
  readonly schedule: ScheduleId
  readonly dead: TaskId
  readonly operation: OperationId
  readonly limit: string
}

interface Method {
  readonly needs: ReadonlyArray<Permission>
  /** The problem that says it is not there; absent for methods that name nothing. */
  readonly missing?: string
  readonly attempt: (on: Things) => Attempt
}

/** Ends an operation, so that its namespace may begin others. */
const letGo = (begun: object) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`update operations set status = 'cancelled', ended_at = now() where id = ${"id" in begun ? String(begun.id) : null}::uuid`
  ).pipe(Effect.orDie)

/** Belongs to no namespace. */
const node = NodeName.make("seen")
const one = { name: "echo" as TaskType }

const methods: { readonly [service: string]: { readonly [method: string]: Method } } = {
  Tasks: {
    submit: { needs: ["task:create"], attempt: () => Tasks.use((s) => s.submit(submitTask({ type: "echo" }))) },
    submitBatch: { needs: ["task:create"], attempt: () => Tasks.use((s) => s.submitBatch([{}], { atomic: false })) },
    submitGraph: {
      needs: ["task:create"],
      attempt: () => Tasks.use((s) => s.submitGraph(submitGraph({ tasks: { a: { type: "echo" } } })))
    },
    get: { needs: ["task:read"], missing: "TaskNotFound", attempt: ({ task }) => Tasks.use((s) => s.get(task)) },
    wait: {
      needs: ["task:read"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Tasks.use((s) => s.wait(task, Duration.zero))
    },
    list: { needs: ["task:read"], attempt: () => Tasks.use((s) => s.list({})) },
    events: {
      needs: ["event:read"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Tasks.use((s) => s.events(task, { after: 0, limit: 10 }))
    },
    follow: {
      needs: ["event:read"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Tasks.use((s) => Stream.runHead(s.follow(task, 0)))
    },
    graph: { needs: ["task:read"], missing: "GraphNotFound", attempt: ({ graph }) => Tasks.use((s) => s.graph(graph)) },
    graphOf: {
      needs: ["task:read"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Tasks.use((s) => s.graphOf(task))
    },
    cancel: {
      needs: ["task:cancel"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Tasks.use((s) => s.cancel(task, undefined))
    },
    retry: { needs: ["task:retry"], missing: "TaskNotFound", attempt: ({ ended }) => Tasks.use((s) => s.retry(ended)) }
  },
  Nodes: {
    list: { needs: ["node:read"], attempt: () => Nodes.use((s) => s.list) },
    get: { needs: ["node:read"], attempt: () => Nodes.use((s) => s.get(node)) },
    drain: { needs: ["node:drain"], attempt: () => Nodes.use((s) => s.drain(node)) },
    undrain: { needs: ["node:drain"], attempt: () => Nodes.use((s) => s.undrain(node)) }
  },
  Supervision: {
    show: {
      needs: ["agent:read", "task:read"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Supervision.use((s) => s.show({ agent }))
    },
    restart: {
      needs: ["agent:supervise"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Supervision.use((s) => s.restart(agent, 0, {}))
    },
    quarantine: {
      needs: ["agent:supervise"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Supervision.use((s) => s.quarantine(agent, 0, {}))
    },
    release: {
      needs: ["agent:supervise"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Supervision.use((s) => s.release(agent, 0, {}))
    }
  },
  Graphs: {
    list: { needs: ["task:read"], attempt: () => Graphs.use((s) => s.list({})) },
    wait: {
      needs: ["task:read"],
      missing: "GraphNotFound",
      attempt: ({ graph }) => Graphs.use((s) => s.wait(graph, Duration.zero))
    },
    cancel: {
      needs: ["task:cancel"],
      missing: "GraphNotFound",
      attempt: ({ graph }) => Graphs.use((s) => s.cancel(graph, undefined))
    },
    retry: {
      needs: ["task:retry"],
      missing: "GraphNotFound",
      attempt: ({ endedGraph }) => Graphs.use((s) => s.retry(endedGraph))
    },
    waitTree: {
      needs: ["task:read"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Graphs.use((s) => s.waitTree(task, Duration.zero))
    },
    cancelTree: {
      needs: ["task:cancel"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Graphs.use((s) => s.cancelTree(task, undefined))
    },
    pause: {
      needs: ["task:pause"],
      missing: "GraphNotFound",
      attempt: ({ graph }) => Graphs.use((s) => s.pause(graph, undefined))
    },
    resume: {
      needs: ["task:pause"],
      missing: "GraphNotFound",
      attempt: ({ graph }) => Graphs.use((s) => Effect.andThen(s.pause(graph, undefined), s.resume(graph)))
    },
    pauseTree: {
      needs: ["task:pause"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Graphs.use((s) => s.pauseTree(task, undefined))
    },
    resumeTree: {
      needs: ["task:pause"],
      missing: "TaskNotFound",
      attempt: ({ task }) => Graphs.use((s) => Effect.andThen(s.pauseTree(task, undefined), s.resumeTree(task)))
    }
  },
  Agents: {
    create: {
      needs: ["agent:create"],
      attempt: () => Effect.flatMap(freshName, (name) => echoAgent(name))
    },
    get: { needs: ["agent:read"], missing: "AgentNotFound", attempt: ({ agent }) => Agents.use((s) => s.get(agent)) },
    list: { needs: ["agent:read"], attempt: () => Agents.use((s) => s.list({})) },
    update: {
      needs: ["agent:update"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.update(agent, { description: "d", configuration: {} }, undefined))
    },
    scale: {
      needs: ["agent:scale"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.scale(agent, { desired_instances: 2 }))
    },
    pause: {
      needs: ["agent:update"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.pause(agent))
    },
    resume: {
      needs: ["agent:update"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.resume(agent))
    },
    addCapability: {
      needs: ["agent:update"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.addCapability(agent, one))
    },
    removeCapability: {
      needs: ["agent:update"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.removeCapability(agent, "echo"))
    },
    metrics: {
      needs: ["metrics:read"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.metrics(agent))
    },
    remove: {
      needs: ["agent:delete", "task:cancel"],
      missing: "AgentNotFound",
      attempt: ({ agent }) => Agents.use((s) => s.remove(agent, { force: true }))
    }
  },
  ApiKeys: {
    create: {
      needs: ["key:create"],
      attempt: () => ApiKeys.use((s) => s.create({ name: "k", role: "viewer", permissions: [] }))
    },
    list: { needs: ["key:read"], attempt: () => ApiKeys.use((s) => s.list({})) },
    revoke: { needs: ["key:revoke"], missing: "KeyNotFound", attempt: ({ key }) => ApiKeys.use((s) => s.revoke(key)) }
  },
  BehaviourCatalogue: {
    list: { needs: ["agent:read"], attempt: () => Effect.flatMap(BehaviourCatalogue, ({ list }) => list) }
  },
  LimitRules: {
    create: {
      needs: ["limit:create"],
      attempt: () =>
        Effect.flatMap(freshName, (name) =>
          LimitRules.use((s) => s.create({ name: LimitName.make(name), key: "labels.none", concurrency: 1 }))
        )
    },
    get: {
      needs: ["limit:read"],
      missing: "LimitNotFound",
      attempt: ({ limit }) => LimitRules.use((s) => s.get(limit))
    },
    list: { needs: ["limit:read"], attempt: () => LimitRules.use((s) => s.list({})) },
    update: {
      needs: ["limit:update"],
      missing: "LimitNotFound",
      attempt: ({ limit }) => LimitRules.use((s) => s.update(limit, { concurrency: 3 }, undefined))
    },
    usage: {
      needs: ["limit:read"],
      missing: "LimitNotFound",
      attempt: ({ limit }) => LimitRules.use((s) => s.usage(limit, undefined))
    },
    remove: {
      needs: ["limit:delete"],
      missing: "LimitNotFound",
      attempt: ({ limit }) => LimitRules.use((s) => s.remove(limit))
    }
  },
  Artifacts: {
    upload: {
      needs: ["artifact:create"],
      attempt: () => Artifacts.use((s) => s.upload({ name: "a", contentType: "text/plain", content: Stream.empty }))
    },
    info: {
      needs: ["artifact:read"],
      missing: "ArtifactNotFound",
      attempt: ({ artifact }) => Artifacts.use((s) => s.info(artifact))
    },
    download: {
      needs: ["artifact:read"],
      missing: "ArtifactNotFound",
      attempt: ({ artifact }) => Artifacts.use((s) => s.download(artifact))
    }
  },
  Schedules: {
    create: { needs: ["schedule:write", "task:create"], attempt: () => yearly },
    get: {
      needs: ["schedule:read"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.get(schedule))
    },
    list: { needs: ["schedule:read"], attempt: () => Schedules.use((s) => s.list({})) },
    update: {
      needs: ["schedule:write", "task:create"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.update(schedule, { description: "d" }, undefined))
    },
    remove: {
      needs: ["schedule:write"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.remove(schedule))
    },
    pause: {
      needs: ["schedule:write"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.pause(schedule))
    },
    resume: {
      needs: ["schedule:write"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.resume(schedule))
    },
    run: {
      needs: ["schedule:write", "task:create"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.run(schedule, undefined))
    },
    next: {
      needs: ["schedule:read"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.next(schedule, 1))
    },
    preview: { needs: ["schedule:read"], attempt: () => Schedules.use((s) => s.preview({ cron: "@daily" })) },
    runs: {
      needs: ["schedule:read", "task:read"],
      missing: "ScheduleNotFound",
      attempt: ({ schedule }) => Schedules.use((s) => s.runs(schedule, {}))
    }
  },
  TaskControl: {
    counts: { needs: ["task:read"], attempt: () => TaskControl.use((s) => s.counts({})) },
    attempts: {
      needs: ["task:read"],
      missing: "TaskNotFound",
      attempt: ({ task }) => TaskControl.use((s) => s.attempts(task))
    },
    prioritise: {
      needs: ["task:update"],
      missing: "TaskNotFound",
      attempt: ({ task }) => TaskControl.use((s) => s.prioritise(task, "high"))
    },
    reroute: {
      needs: ["task:update"],
      missing: "TaskNotFound",
      attempt: ({ agent, task }) => TaskControl.use((s) => s.reroute(task, agent))
    },
    remove: {
      needs: ["task:delete"],
      missing: "TaskNotFound",
      attempt: ({ ended }) => TaskControl.use((s) => s.remove(ended))
    },
    act: {
      needs: ["task:cancel"],
      attempt: () => TaskControl.use((s) => Effect.flatMap(s.act({ action: "cancel", filter: { name: "x" } }), letGo))
    },
    operation: {
      needs: ["task:read"],
      missing: "OperationNotFound",
      attempt: ({ operation }) => TaskControl.use((s) => s.operation(operation))
    },
    stopOperation: {
      needs: ["task:read", "task:cancel"],
      missing: "OperationNotFound",
      attempt: ({ operation }) => TaskControl.use((s) => s.stopOperation(operation))
    },
    deadLetters: { needs: ["task:read"], attempt: () => TaskControl.use((s) => s.deadLetters({})) },
    deadLetter: {
      needs: ["task:read"],
      missing: "TaskNotFound",
      attempt: ({ dead }) => TaskControl.use((s) => s.deadLetter(dead))
    },
    acknowledge: {
      needs: ["task:update"],
      missing: "TaskNotFound",
      attempt: ({ dead }) => TaskControl.use((s) => s.acknowledge(dead, undefined))
    },
    replay: {
      needs: ["task:retry"],
      missing: "TaskNotFound",
      attempt: ({ dead }) => TaskControl.use((s) => s.replay(dead, {}))
    },
    replayMany: {
      needs: ["task:retry"],
      attempt: () => TaskControl.use((s) => Effect.flatMap(s.replayMany({ filter: {} }), letGo))
    }
  },
  Retention: {
    get: { needs: ["retention:read"], attempt: () => Retention.use((s) => s.get) },
    set: { needs: ["retention:update"], attempt: () => Retention.use((s) => s.set({ rules: [] }, undefined)) }
  },
  System: { status: { needs: ["task:read"], attempt: () => System.use((s) => s.status) } }
}

/** Asked before anybody has said who they are. */
const open = new Set(["ApiKeys.authenticate", "ApiKeys.bootstrap", "System.readiness"])

const table = Object.entries(methods).flatMap(([service, own]) =>
  Object.entries(own).map(([method, row]) => [`${service}.${method}`, row] as const)
)
const naming = table.filter(([, { missing }]) => missing !== undefined)

const freshName = Effect.map(UuidV7, (ids) => `made-${ids.next().slice(9)}`)

/** Makes a schedule that is not due for long. */
const yearly = Effect.flatMap(freshName, (name) =>
  Schedules.use((s) => s.create({ name: ScheduleName.make(name), cron: "@yearly", task: { type: "echo" } }))
)

/** Makes one of each in the namespace of who acts. */
const makeThings = Effect.gen(function* () {
  const name = yield* freshName
  const { id: agent } = yield* echoAgent(name)
  const tasks = yield* Tasks
  const graph = yield* tasks.submitGraph(submitGraph({ tasks: { a: { agent: name } } }))
  const ended = yield* tasks.submit(submitTask({ agent: name }))
  yield* tasks.cancel(ended.id, undefined)
  const endedGraph = yield* tasks.submitGraph(submitGraph({ tasks: { a: { agent: name } } }))
  yield* tasks.cancel(TaskId.make(endedGraph.tasks["a" as never] ?? ""), undefined)
  const keys = yield* ApiKeys
  const key = yield* keys.create({ name: "k", role: "viewer" })
  // A namespace has few; those of the method before have served.
  const sql = yield* SqlClient.SqlClient
  yield* sql`delete from limits`
  yield* sql`
    insert into nodes (name, process, version, roles, state) values (${node}, gen_random_uuid(), '0', '{api}', 'ready')
    on conflict (name) do update set heartbeat = now()
  `
  const limits = yield* LimitRules
  const limit = yield* limits.create({ name: LimitName.make(name), key: "labels.none", concurrency: 1 })
  const artifacts = yield* Artifacts
  const artifact = yield* artifacts.upload({
    name: "a",
    contentType: "text/plain",
    content: Stream.make(new Uint8Array(3))
  })
  const schedule = yield* yearly
  const dead = yield* tasks.submit(submitTask({ agent: name }))
  yield* sql`update tasks set status = 'failed', completed_at = now() where id = ${dead.id}`
  const control = yield* TaskControl
  yield* sql`update operations set status = 'cancelled', ended_at = now() where status = 'running'`
  const begun = yield* control.act({ action: "cancel", filter: { name: "nothing" } })
  return {
    dead: dead.id,
    operation: OperationId.make("id" in begun ? begun.id : ""),
    task: TaskId.make(graph.tasks["a" as never] ?? ""),
    ended: ended.id,
    graph: graph.id,
    endedGraph: endedGraph.id,
    agent,
    key: key.id,
    artifact: artifact.id,
    schedule: schedule.id,
    limit: limit.id
  } satisfies Things
})

const tagOf = <R>(attempt: Effect.Effect<unknown, { readonly _tag: string }, R>) =>
  Effect.match(attempt, { onSuccess: () => "done", onFailure: (error) => error._tag })

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("every method", (it) => {
  it.effect("stands in this table", () =>
    Effect.gen(function* () {
      const services = {
        Tasks: yield* Tasks,
        TaskControl: yield* TaskControl,
        Retention: yield* Retention,
        Graphs: yield* Graphs,
        Agents: yield* Agents,
        ApiKeys: yield* ApiKeys,
        Artifacts: yield* Artifacts,
        Schedules: yield* Schedules,
        LimitRules: yield* LimitRules,
        Nodes: yield* Nodes,
        Supervision: yield* Supervision,
        BehaviourCatalogue: yield* BehaviourCatalogue,
        System: yield* System
      }
      const all = Object.entries(services).flatMap(([name, service]) =>
        Object.keys(service).map((method) => `${name}.${method}`)
      )
      expect(all.filter((name) => !open.has(name)).sort()).toEqual(table.map(([name]) => name).sort())
    })
  )

  describe.each(Object.keys(rolePermissions) as ReadonlyArray<Role>)("as %s", (role) => {
    it.effect("is open or closed as the role's permissions say", () =>
      Effect.gen(function* () {
        const who = principal(role)
        for (const [name, { attempt, needs }] of table) {
          const things = yield* makeThings.pipe(as(admin))
          const missing = needs.find((permission) => !rolePermissions[role].includes(permission))
          const outcome = yield* Effect.result(attempt(things).pipe(as(who)))
          const refused = outcome._tag === "Failure" ? outcome.failure : undefined
          expect({ name, refused }).toMatchObject({
            name,
            refused: missing === undefined ? undefined : { _tag: "Forbidden", permission: missing }
          })
        }
      })
    )
  })

  it.effect("needs the permissions it names, each of them, and no other", () =>
    Effect.gen(function* () {
      for (const [name, { attempt, needs }] of table) {
        const things = yield* makeThings.pipe(as(admin))
        for (const without of needs) {
          const rest = principal("admin", { permissions: permissions.filter((permission) => permission !== without) })
          expect({ name, without, tag: yield* tagOf(attempt(things).pipe(as(rest))) }).toEqual({
            name,
            without,
            tag: "Forbidden"
          })
        }
        const only = principal("admin", { permissions: needs })
        expect({ name, tag: yield* tagOf(attempt(things).pipe(as(only))) }).toEqual({ name, tag: "done" })
      }
    })
  )

  it.effect("says of another namespace's things what it says of things that do not exist, and leaves them alone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const ids = yield* UuidV7
      yield* sql`insert into namespaces (name) values ('stranger') on conflict do nothing`
      const things = yield* makeThings.pipe(as(admin))
      const nothing: Things = {
        task: TaskId.make(ids.next()),
        ended: TaskId.make(ids.next()),
        graph: GraphId.make(ids.next()),
        endedGraph: GraphId.make(ids.next()),
        agent: ids.next(),
        key: ApiKeyId.make("aaaaaaaaaaaaaaaa"),
        artifact: ArtifactId.make(ids.next()),
        schedule: ScheduleId.make(ids.next()),
        limit: ids.next(),
        dead: TaskId.make(ids.next()),
        operation: OperationId.make(ids.next())
      }
      const before = yield* dump
      for (const [name, { attempt, missing }] of naming) {
        for (const role of ["admin", "viewer"] as const) {
          const who = principal(role, { namespace: "stranger" })
          const foreign = yield* Effect.flip(attempt(things).pipe(as(who)))
          const absent = yield* Effect.flip(attempt(nothing).pipe(as(who)))
          if (role === "admin") expect({ name, tag: foreign._tag }).toEqual({ name, tag: missing })
          expect({ name, said: blind(foreign, things) }).toEqual({ name, said: blind(absent, nothing) })
        }
      }
      expect(yield* dump).toEqual(before)
    })
  )

  it.effect("lists nothing of another namespace, and takes no parent, dependency or agent from there", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into namespaces (name) values ('empty') on conflict do nothing`
      const who = principal("admin", { namespace: "empty" })
      const things = yield* makeThings.pipe(as(admin))
      const tasks = yield* Tasks
      const agents = yield* Agents
      const keys = yield* ApiKeys
      const graphs = yield* Graphs
      const system = yield* System
      const lists: ReadonlyArray<Effect.Effect<Page<unknown>, { readonly _tag: string }, Principal>> = [
        tasks.list({}),
        tasks.list({ graph: things.graph }),
        tasks.list({ agent: things.agent }),
        tasks.list({ parent: things.task }),
        agents.list({}),
        keys.list({}),
        (yield* Schedules).list({}),
        graphs.list({})
      ]
      for (const list of lists) expect((yield* list.pipe(as(who))).data).toEqual([])
      expect(yield* system.status.pipe(as(who))).toMatchObject({
        namespace: "empty",
        agents: 0,
        tasks: { queued: 0, cancelled: 0 }
      })
      for (const over of [
        { parent_id: things.task },
        { dependencies: [{ task_id: things.task }] },
        { agent: things.agent }
      ]) {
        const refused = yield* Effect.flip(tasks.submit(submitTask({ type: "echo", ...over })).pipe(as(who)))
        expect(refused).toMatchObject({ _tag: "InvalidInput" })
        const [item] = yield* tasks.submitBatch([{ type: "echo", ...over }], { atomic: false }).pipe(as(who))
        expect(item).toMatchObject({ status: 422 })
      }
    })
  )
})

/** All that the other namespace could have touched. */
const dump = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`
    select (select json_agg(t order by t.id) from tasks t where t.namespace = 'default')::text as tasks,
      (select json_agg(a order by a.id) from agents a where a.namespace = 'default')::text as agents,
      (select json_agg(k order by k.id) from api_keys k where k.namespace = 'default')::text as keys,
      (select json_agg(s order by s.id) from schedules s where s.namespace = 'default')::text as schedules,
      (select count(*)::int from events) as events
  `
)

/** A problem without the ids that its asker sent. */
const blind = (error: object, things: Things) =>
  Object.values(things).reduce((text: string, id: string) => text.replaceAll(id, "?"), JSON.stringify(error))
