/**
 * Clients of a fault run: they submit at a set rate through the public API, each submission under an idempotency key, and write
 * down what they saw. What they got no answer to they submit again under the same key, on the next node, as a user's client would.
 *
 * The work has effects outside: most tasks call the sink by the behaviour `http`. Among them are tasks that may run at most once,
 * tasks that stumble and are tried again, tasks of a strictly serial agent, short ones of `echo`, and graphs.
 */
import type { Chance } from "./Chance.ts"
import type { History, Operation } from "./History.ts"
import type { Rig, RigNode } from "./Rig.ts"

export interface Load {
  /** Submissions begun, those that were given up on, and those that are open. */
  readonly counts: () => { readonly begun: number; readonly unresolved: number; readonly open: number }
  /** No new submissions; waits until all that were begun are resolved or given up on. */
  readonly stop: () => Promise<void>
}

export interface LoadOptions {
  readonly rig: Rig
  readonly history: History
  readonly chance: Chance
  readonly perSecond: number
  /** How long one request may take, and how long one submission is repeated. */
  readonly requestMillis?: number
  readonly patienceMillis?: number
  /** Nodes to talk to; all when absent. */
  readonly nodes?: ReadonlyArray<RigNode>
}

/** Agents of the load: `effects-<n>` on two instances each, `serial` on one with one slot. */
export const serialAgent = "serial"
const effectAgents = 4

interface Submission {
  readonly kind: "submit" | "graph"
  readonly key: string
  readonly body: object
  /** How long it may take. */
  readonly millis?: number
}

export const call = (rig: Rig, node: RigNode, method: string, path: string, options: CallOptions = {}) =>
  fetch(`${node.url}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${rig.adminKey}`,
      ...(options.body !== undefined && { "content-type": "application/json" }),
      ...(options.key !== undefined && { "idempotency-key": options.key })
    },
    ...(options.body !== undefined && { body: JSON.stringify(options.body) }),
    signal: AbortSignal.timeout(options.millis ?? 10_000)
  })

/** What it answered, as JSON of a form that the contract says. */
export const bodyOf = (response: Response): Promise<any> => response.json()

interface CallOptions {
  readonly body?: object
  readonly key?: string
  readonly millis?: number
}

export const createAgents = async (rig: Rig) => {
  const [node] = rig.nodes
  if (node === undefined) return
  const settings = { allow_private: [`127.0.0.1:${rig.sinkPort}`] }
  const retry = { max_attempts: 20, delay_ms: 200, factor: 1 }
  const create = async (name: string, slots: number, instances: number) => {
    const response = await call(rig, node, "POST", "/agents", {
      body: {
        ...{ name, type: "http", desired_instances: instances },
        configuration: { max_concurrent_tasks: slots, timeout_ms: 30_000, retry, settings }
      }
    })
    if (!response.ok) throw new Error(`agent ${name}: ${response.status} ${await response.text()}`)
  }
  for (let number = 0; number < effectAgents; number++) await create(`effects-${number}`, 20, 2)
  await create(serialAgent, 1, 1)
}

/** One submission of a fault's own, written down like any other. Its task, when it was taken. */
export const submitOnce = async (
  of: { readonly rig: Rig; readonly history: History },
  node: RigNode,
  submission: Submission
): Promise<Operation> => {
  const operation = of.history.invoke({ kind: submission.kind, key: submission.key, node: node.name })
  try {
    const path = submission.kind === "graph" ? "/graphs" : "/tasks"
    const { body, key } = submission
    const response = await call(of.rig, node, "POST", path, { body, key, millis: submission.millis ?? 10_000 })
    const answer = await bodyOf(response)
    if (response.status === 202) {
      const taskIds: ReadonlyArray<string> =
        submission.kind === "graph" ? Object.values(answer.tasks ?? {}) : [answer.id]
      of.history.end(operation, { outcome: "ok", status: 202, taskId: answer.id, taskIds })
    } else {
      // Too busy is a no that may be asked again; 500 and above say that the outcome is not known.
      of.history.end(operation, { outcome: response.status < 500 ? "fail" : "info", status: response.status })
    }
  } catch {
    of.history.end(operation, { outcome: "info", status: 0 })
  }
  return operation
}

export const startLoad = (options: LoadOptions): Load => {
  const { chance, history, rig } = options
  const nodes = options.nodes ?? rig.nodes
  const requestMillis = options.requestMillis ?? 8_000
  const patienceMillis = options.patienceMillis ?? 60_000
  let begun = 0
  let unresolved = 0
  let open = 0
  let stopped = false
  const acknowledged: Array<Operation> = []

  const submission = (): Submission => {
    const key = `op-${begun++}`
    const [kind, work] = workOf(chance.next(), chance, rig.sinkPort, key)
    return { kind, key, body: work }
  }

  const nodeAt = (turn: number) => nodes[turn % nodes.length] ?? never()

  const submit = async (turn: number) => {
    const of = submission()
    const began = performance.now()
    open++
    for (let tries = 0; ; tries++) {
      const operation = await submitOnce(options, nodeAt(turn + tries), { ...of, millis: requestMillis })
      if (operation.outcome === "ok") {
        acknowledged.push(operation)
        break
      }
      const isFinal = operation.outcome === "fail" && operation.status !== 429
      if (isFinal || performance.now() - began > patienceMillis) {
        unresolved++
        break
      }
      await pause(Math.min(1_000, 50 * 2 ** Math.min(tries, 6)))
    }
    open--
  }

  /** Asks for a task that was acknowledged before: on whichever node, it must be there. */
  const read = async (turn: number) => {
    const of = acknowledged[Math.floor(chance.next() * acknowledged.length)]
    if (of?.kind !== "submit" || of.taskId === undefined) return
    const node = nodeAt(turn)
    const operation = history.invoke({ kind: "read", key: of.key, node: node.name, taskId: of.taskId })
    try {
      const response = await call(rig, node, "GET", `/tasks/${of.taskId}`, { millis: requestMillis })
      const body = await bodyOf(response)
      if (response.status === 200) {
        const seen = { status: String(body.status), version: Number(body.version) }
        history.end(operation, { outcome: "ok", status: 200, seen })
      } else history.end(operation, { outcome: response.status < 500 ? "fail" : "info", status: response.status })
    } catch {
      history.end(operation, { outcome: "info", status: 0 })
    }
  }

  /** Another command under a key that was used. */
  const conflict = async (turn: number) => {
    const of = acknowledged[Math.floor(chance.next() * acknowledged.length)]
    if (of?.kind !== "submit") return
    const node = nodeAt(turn)
    const operation = history.invoke({ kind: "conflict", key: of.key, node: node.name })
    try {
      const body = { agent: "echo", payload: { another: of.key } }
      const response = await call(rig, node, "POST", "/tasks", { body, key: of.key, millis: requestMillis })
      const answer = await bodyOf(response)
      const outcome = response.status === 202 ? "ok" : response.status < 500 ? "fail" : "info"
      history.end(operation, { outcome, status: response.status, taskId: answer.id })
    } catch {
      history.end(operation, { outcome: "info", status: 0 })
    }
  }

  const running = new Set<Promise<void>>()
  const launch = (work: Promise<void>) => {
    running.add(work)
    void work.finally(() => running.delete(work))
  }
  const began = performance.now()
  let turn = 0
  const timer = setInterval(() => {
    const due = ((performance.now() - began) / 1_000) * options.perSecond
    // A harness that was starved catches up a little, and gives the rest of the time lost for lost.
    for (let burst = 0; turn < due && !stopped && burst < 50; burst++) {
      const each = turn++
      if (open < openMax) launch(submit(each))
      if (each % 10 === 5) launch(read(each + 1))
      if (each % 50 === 25) launch(conflict(each + 1))
    }
    if (due - turn > 50) turn = Math.floor(due)
  }, 5)

  return {
    counts: () => ({ begun, unresolved, open }),
    stop: async () => {
      stopped = true
      clearInterval(timer)
      while (running.size > 0) await Promise.all(running)
    }
  }
}

/** Submissions that may be open at a time: a platform that answers nobody must not make this process grow. */
const openMax = 2_000

const workOf = (draw: number, chance: Chance, sinkPort: number, key: string): readonly ["submit" | "graph", object] => {
  const effect = (label: string, query = "") => ({
    url: `http://127.0.0.1:${sinkPort}/effect/${label}${query}`,
    method: "POST"
  })
  const agent = `effects-${Math.floor(chance.next() * effectAgents)}`
  if (draw < 0.15) return ["submit", { agent: "echo", payload: { key } }]
  if (draw < 0.17) return ["submit", { agent: serialAgent, payload: effect(key) }]
  if (draw < 0.23) return ["submit", { agent, payload: effect(key, "?stumble=1") }]
  if (draw < 0.31) {
    return ["submit", { agent, payload: effect(key, "?ms=50"), configuration: { delivery: "at_most_once" } }]
  }
  if (draw < 0.45) {
    return ["submit", { agent, payload: effect(key, `?ms=${Math.floor(chance.between(200, 1_200))}`) }]
  }
  if (draw < 0.48) {
    const task = (step: string, ...parents: ReadonlyArray<string>) => ({
      ...{ agent, type: "http.fetch", payload: effect(`${key}-${step}`) },
      ...(parents.length > 0 && { dependencies: parents.map((name) => ({ task: name })) })
    })
    const tasks = { top: task("top"), left: task("left", "top"), right: task("right", "top") }
    return ["graph", { tasks: { ...tasks, bottom: task("bottom", "left", "right") } }]
  }
  return ["submit", { agent, payload: effect(key) }]
}

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

const never = (): never => {
  throw new Error("a load needs a node")
}
