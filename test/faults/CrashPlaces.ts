/**
 * Every place where a node can crash (`actors/ports/CrashPoints.ts`), and the work that makes a node pass there. F02 goes through
 * all of them, and says which a node passed that are not named here.
 *
 * Work is done again and again until the node is gone. It answers to the checker like all other work: what it submits has a key.
 */
import { query } from "../../bench/servers/query.ts"
import type { FaultRun } from "./Fault.ts"
import type { Operation } from "./History.ts"
import { bodyOf, call, submitOnce } from "./Load.ts"
import type { RigNode } from "./Rig.ts"

export interface CrashPlace {
  readonly name: string
  /** Reaches it, beside the clients' load; none where the load and the platform's own sweeps are enough. */
  readonly work: Work | undefined
}

type Work = (at: At) => Promise<unknown>

export interface At {
  readonly run: FaultRun
  readonly node: RigNode
  /** Graphs that were asked to be run again. */
  readonly retried: Set<string>
}

let submitted = 0

const submit = ({ node, run }: At, body: object, kind: Operation["kind"] & ("submit" | "graph") = "submit") =>
  submitOnce(run, node, { kind, key: `place-${submitted++}`, body, millis: 5_000 })

const ask = ({ node, run }: At, method: string, path: string, body?: object) =>
  call(run.rig, node, method, path, { millis: 5_000, ...(body !== undefined && { body }) })

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

const doing = (agent: string, payload: object) => ({ agent, payload })
const list = (...items: ReadonlyArray<object>) => doing("echo", { list: items })
const overList = { over: { $result: "list", path: "/echo/list" }, max_parallel: 1 }
const never = { fail: { retryable: false } }

/** A condition, a map, and a task that takes what they returned. */
const graph: Work = (at) =>
  submit(
    at,
    {
      tasks: {
        list: list({ n: 1 }, { n: 2 }, { n: 3 }),
        each: { ...doing("echo", { n: { $item: "/n" } }), map: overList, dependencies: ["list"] },
        left: {
          ...doing("echo", {}),
          when: { $result: "list", path: "/echo/list/0/n", equals: 1 },
          dependencies: ["list"]
        },
        right: {
          ...doing("echo", {}),
          when: { $result: "list", path: "/echo/list/0/n", equals: 2 },
          dependencies: ["list"]
        },
        all: { ...doing("echo", { each: { $result: "each" } }), dependencies: ["each"] }
      }
    },
    "graph"
  )

/** A map of which one element completes, the second fails, and the others are not wanted any more. */
const failingMap: Work = (at) =>
  submit(
    at,
    {
      tasks: {
        list: list({ fail: false }, never, { fail: false }, { fail: false }),
        each: { ...doing("echo", { fail: { $item: "/fail" } }), map: overList, dependencies: ["list"] }
      }
    },
    "graph"
  )

const retriedGraph: Work = async (at) => {
  const { outcome, taskId } = (await failingMap(at)) as Operation
  if (outcome !== "ok" || taskId === undefined) return
  for (let tries = 0; tries < 20; tries++) {
    await pause(100)
    at.retried.add(taskId)
    const { status } = await ask(at, "POST", `/graphs/${taskId}/retry`, {})
    if (status !== 409) return
  }
}

const cancelledGraph: Work = async (at) => {
  const slow = { ...doing("patient", { sleep_ms: 3_000 }) }
  const { taskId } = await submit(at, { tasks: { slow, then: { ...slow, dependencies: ["slow"] } } }, "graph")
  if (taskId !== undefined) await ask(at, "POST", `/graphs/${taskId}/cancel`, {})
}

const signalled: Work = async (at) => {
  const awaited = { signal: "go", timeout_ms: 20_000, hold_ms: 0 }
  const { taskId } = await submit(at, doing("patient", { await: [awaited] }))
  if (taskId === undefined) return
  await pause(300)
  await ask(at, "POST", `/tasks/${taskId}/signals/go`, { from: "F02" })
}

const setAside: Work = async (at) => {
  const { taskId } = await submit(at, doing("patient", { sleep_ms: 500 }))
  if (taskId === undefined) return
  await ask(at, "POST", `/tasks/${taskId}/pause`, {})
  await ask(at, "POST", `/tasks/${taskId}/resume`, {})
}

const pausedGraph: Work = async (at) => {
  const slow = { ...doing("patient", { sleep_ms: 500 }) }
  const { taskId } = await submit(at, { tasks: { slow, then: { ...slow, dependencies: ["slow"] } } }, "graph")
  if (taskId === undefined) return
  await ask(at, "POST", `/graphs/${taskId}/pause`, {})
  await ask(at, "POST", `/graphs/${taskId}/resume`, {})
}

const changed: Work = async (at) => {
  const later = new Date(Date.now() + 15_000).toISOString()
  const { taskId } = await submit(at, { ...doing("echo", {}), run_at: later })
  if (taskId === undefined) return
  await ask(at, "POST", `/tasks/${taskId}/priority`, { priority: "high" })
  await ask(at, "POST", `/tasks/${taskId}/cancel`, {})
}

const streamed: Work = (at) => submit(at, doing("patient", { emit: { chunks: 5, pause_ms: 20 } }))
const stepped: Work = (at) => submit(at, doing("patient", { sleep_ms: 600, steps: 3 }))
const large: Work = (at) => submit(at, doing("echo", { text: "x".repeat(300_000) }))
const long: Work = (at) => submit(at, doing("patient", { sleep_ms: 9_000 }))

const limited: Work = (at) =>
  Promise.all([1, 2, 3].map(() => submit(at, { ...doing("echo", { sleep_ms: 50 }), labels: { one: "a" } })))

/** Its instance hibernates when nothing comes for a while: nothing more is sent. */
const once = (work: Work): Work => {
  const done = new Set<string>()
  return async (at) => {
    // A node that was started again is another process.
    const life = String(at.node.process().pid())
    if (done.has(life)) return
    done.add(life)
    await work(at)
  }
}
const idle = once((at) => submit(at, doing("idle", {})))

const versioned: Work = async (at) => {
  const offer = (version: string) =>
    ask(at, "PUT", "/agents/versioned", { capabilities: [{ name: "echo", version, description: "", enabled: true }] })
  await offer("1")
  const one = { ...doing("versioned", { sleep_ms: 800 }), type: "echo@1" }
  await Promise.all([submit(at, one), submit(at, one), submit(at, one)])
  await offer("2")
  await pause(3_000)
  await offer("1")
  await pause(2_500)
}

const kept: Work = async (at) => {
  await submit(at, { ...doing("echo", {}), labels: { kept: "yes" } })
  await pause(300)
  await ask(at, "PUT", "/retention", { rules: [{ label: ["kept=yes"], delete_after_ms: 0, archive: true }] })
}

/** What the works need, made once. */
export const prepareWork = async (run: FaultRun, node: RigNode) => {
  const make = async (path: string, body: object) => {
    const response = await call(run.rig, node, "POST", path, { body })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(await bodyOf(response))}`)
  }
  const slots = (max_concurrent_tasks: number) => ({ configuration: { max_concurrent_tasks } })
  await make("/agents", { name: "patient", type: "echo", ...slots(100) })
  await make("/agents", { name: "idle", type: "echo" })
  const capabilities = [{ name: "echo", version: "1", description: "", enabled: true }]
  await make("/agents", { name: "versioned", type: "echo", capabilities, ...slots(1) })
  await make("/limits", { name: "one", key: "labels.one", concurrency: 1 })
}

/** Cancels what nobody would ever end, as its owner would, and writes down what retries made whose answer was lost. */
export const finishWork = async ({ node, retried, run }: At) => {
  const stuck = await query<{ id: string }>(
    run.rig.databaseUrl,
    "select id::text from tasks where (status = 'paused' and waiting_for is null) or (status = 'pending' and agent_id is null)"
  )
  for (const { id } of stuck) await call(run.rig, node, "POST", `/tasks/${id}/cancel`, { body: {} })
  const made = await query<{ of: string; id: string; task: string }>(
    run.rig.databaseUrl,
    `select g.retry_of::text as of, g.id::text, t.id::text as task from graphs g join tasks t on t.graph_id = g.id
     where g.retry_of is not null`
  )
  for (const { id, of, task } of made) {
    if (!retried.has(of)) continue
    const operation = run.history.invoke({ kind: "graph", key: `retry-${of}-${id}-${task}`, node: node.name })
    run.history.end(operation, { outcome: "ok", status: 202, taskId: id, taskIds: [task] })
  }
}

const commits = (work: Work | undefined, ...operations: ReadonlyArray<string>): ReadonlyArray<CrashPlace> =>
  operations.map((operation) => ({ name: `commit:${operation}`, work }))

export const crashPlaces: ReadonlyArray<CrashPlace> = [
  ...commits(undefined, "accept", "claim", "settle", "take_over", "heartbeat", "backlog", "resume", "expire"),
  ...commits(undefined, "queue_due", "agents_with_work", "orphans", "without_agent", "admit_open", "tidy"),
  ...commits(undefined, "graphs_due", "expire_awaits", "expire_results", "heal_children"),
  ...commits(graph, "graph_step", "graph_data", "graph_decide", "graph_expand", "graph_advance", "results"),
  ...commits((at) => Promise.all([failingMap(at), cancelledGraph(at)]), "graph_cancel"),
  ...commits(retriedGraph, "graph_elements"),
  ...commits(cancelledGraph, "graph_end"),
  ...commits(signalled, "signal", "take_signal", "park"),
  ...commits(setAside, "pause", "unpause"),
  ...commits(pausedGraph, "pause_begin", "pause_step", "pause_end"),
  ...commits(changed, "control", "cancel"),
  ...commits(streamed, "append_chunks"),
  ...commits(stepped, "progress"),
  ...commits(large, "earlier"),
  ...commits(limited, "admit"),
  ...commits(long, "lost"),
  ...commits(idle, "hibernate"),
  ...commits(versioned, "set_aside", "assign"),
  ...commits(kept, "deletable"),
  ...["publish:events", "dispatch", "acknowledge", "run"].map((name) => ({ name, work: undefined }))
]
