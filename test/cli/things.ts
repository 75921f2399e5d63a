/** Tasks, events and graphs as a server would show them, for tests of the command line. */
import type { Event } from "../../protocol/Event.ts"
import type { Graph, Task } from "../../protocol/Task.ts"

export const taskId = "0199f3a0-0000-7000-8000-000000000001"
export const graphId = "0199f3a0-0000-7000-8000-0000000000aa"
export const agentId = "0199f3a0-0000-7000-8000-0000000000bb"
const at = "2026-11-23T10:00:00.000Z"

type Encoded<A> = {
  readonly [K in keyof A]: A[K] extends string ? string : A[K] extends string | null ? string | null : A[K]
}

export const task = (given: Partial<Encoded<Task>> = {}) => ({
  id: taskId,
  namespace: "default",
  name: "greet",
  type: "echo",
  agent_id: agentId,
  status: "running",
  waiting_for: null,
  priority: "normal",
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
  attempt: 1,
  max_attempts: 3,
  created_at: at,
  started_at: at,
  completed_at: null,
  version: 3,
  ...given
})

export const completed = (given: Partial<Encoded<Task>> = {}) =>
  task({
    status: "completed",
    completed_at: at,
    result: { success: true, data: { hello: "world" }, execution_time_ms: 12 },
    ...given
  })

export const event = (number: number, type: Event["type"], data: Event["data"] = null) => ({
  type,
  kind: "task",
  aggregate: taskId,
  number,
  at,
  namespace: "default",
  actor: "node:test",
  trace: null,
  data
})

export const sse = (one: ReturnType<typeof event>) =>
  `id: ${one.number}\nevent: ${one.type}\ndata: ${JSON.stringify(one)}\n\n`

type GraphTask = Graph["tasks"][number]

export const graphTask = (key: string, status: GraphTask["status"], given: object = {}) => ({
  id: `0199f3a0-0000-7000-8000-${Buffer.from(key.padEnd(6, "_")).toString("hex").slice(0, 12)}`,
  key,
  name: key,
  type: "echo",
  agent_id: agentId,
  status,
  waiting_for: status === "pending" ? "dependencies" : null,
  attempt: status === "pending" || status === "queued" ? 0 : 1,
  progress: null,
  error: null,
  execution_time_ms: status === "completed" || status === "failed" ? 40 : null,
  dependencies: [],
  ...given
})

export const graph = (tasks: ReadonlyArray<ReturnType<typeof graphTask>>) => ({
  id: graphId,
  namespace: "default",
  name: "greeting",
  created_at: at,
  counts: {},
  ended: tasks.every(({ status }) => ["completed", "failed", "timeout", "cancelled"].includes(status)),
  tasks
})
