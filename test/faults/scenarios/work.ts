/** Work that is a trouble by itself: herds, wide and deep graphs, agents that crash. */
import { type Fault, type FaultRun, seconds } from "../Fault.ts"
import { bodyOf, call, submitOnce } from "../Load.ts"
import { latencies } from "./nodes.ts"

const firstNode = ({ rig }: FaultRun) => {
  const [node] = rig.nodes
  if (node === undefined) throw new Error("there is no node")
  return node
}

export const herd: Fault = {
  id: "F29",
  title: "thousands submit under one key at once, while connections are reset",
  pass: "one task per key",
  ...{ nodes: 2, perSecond: 50, seconds: 20 },
  inject: async (run) => {
    let retries = 0
    const mistaken: Array<string> = []
    while (run.goesOn()) {
      const key = `herd-${retries}`
      run.injected(`500 submissions under ${key}`)
      const body = { agent: "echo", payload: { key } }
      const answers = await Promise.all(
        Array.from({ length: 500 }, async (_, number) => {
          const node = run.rotation[number % run.rotation.length] ?? firstNode(run)
          return (await submitOnce(run, node, { kind: "submit", key, body })).taskId
        })
      )
      if (new Set(answers.filter((id) => id !== undefined)).size > 1) mistaken.push(key)
      retries += answers.length
      for (const node of run.rig.nodes) node.fromClients.reset()
      await seconds(0.3)
    }
    return [
      { name: "submissions", value: retries, unit: "" },
      { name: "keys with more than one task", value: mistaken.length, unit: "", most: 0 }
    ]
  }
}

export const graphsUnderKills: Fault = {
  id: "F33",
  title: "a child of 1,000 parents, a chain of 500 and a diamond, while nodes are killed and parents cancelled",
  pass: "each child starts once, after its parents",
  ...{ nodes: 2, perSecond: 20, seconds: 45, quietSeconds: 120 },
  inject: async (run) => {
    const echo = (...parents: ReadonlyArray<string>) => ({
      ...{ agent: "echo", type: "echo" },
      ...(parents.length > 0 && { dependencies: parents.map((task) => ({ task, on: "ended" })) })
    })
    const names = (count: number, prefix: string) => Array.from({ length: count }, (_, number) => `${prefix}${number}`)
    const parents = names(1_000, "p")
    const fan = Object.fromEntries([...parents.map((name) => [name, echo()]), ["child", echo(...parents)]])
    const links = names(500, "c")
    const chain = Object.fromEntries(links.map((name, at) => [name, at === 0 ? echo() : echo(links[at - 1] ?? "")]))
    const diamond = { top: echo(), left: echo("top"), right: echo("top"), bottom: echo("left", "right") }
    const shapes: Readonly<Record<string, object>> = { fan, chain, diamond }
    let submitted = 0
    for (let turn = 0; run.goesOn(); turn++) {
      const [shape = "", tasks] = Object.entries(shapes)[turn % 3] ?? []
      const key = `graph-${turn}`
      const node = run.rotation.find((each) => each.process().isUp()) ?? firstNode(run)
      const { outcome, taskIds } = await submitOnce(run, node, { kind: "graph", key, body: { tasks }, millis: 15_000 })
      if (outcome === "ok") submitted++
      const some = taskIds[Math.floor(run.chance.between(0, taskIds.length))]
      if (some !== undefined)
        await call(run.rig, node, "POST", `/tasks/${some}/cancel`, { body: {} }).catch(() => undefined)
      await seconds(run.chance.between(0.5, 2))
      const victim = run.chance.pick(run.rig.nodes)
      run.injected(`a ${shape}; kill -9 ${victim.name}`)
      await run.kill(victim)
      await victim.start()
    }
    return [{ name: "graphs", value: submitted, unit: "", least: 1 }]
  }
}

export const crashingAgent: Fault = {
  id: "F34",
  title: "an agent crashes at every task it gets, a hundred a second",
  pass: "it is set aside within 30 s, neighbours do not notice",
  ...{ nodes: 2, perSecond: 60, seconds: 25 },
  // Its tasks wait for somebody who resumes it.
  quietSeconds: 60,
  inject: async (run) => {
    const node = firstNode(run)
    const calm = latencies(run, 0)
    await call(run.rig, node, "POST", "/agents", { body: { name: "crashing", type: "echo" } })
    const from = run.history.operations.length
    const began = performance.now()
    let status = ""
    const ids: Array<string> = []
    while (run.goesOn() && status !== "error") {
      run.injected("100 tasks that crash")
      const body = Array.from({ length: 100 }, (_, number) => ({
        ...{ agent: "crashing", payload: { crash: { message: "on purpose" } } },
        idempotency_key: `crash-${ids.length + number}`
      }))
      const keys = body.map(({ idempotency_key }) => idempotency_key)
      const operations = keys.map((key) => run.history.invoke({ kind: "submit", key, node: node.name }))
      const response = await call(run.rig, node, "POST", "/tasks/batch", { body })
      const answer = await bodyOf(response)
      for (const [number, operation] of operations.entries()) {
        const item = answer.data?.[number]
        const id = item?.task?.id
        if (id !== undefined) ids.push(id)
        run.history.end(operation, {
          ...{ outcome: id === undefined ? "info" : "ok", status: response.status, taskId: id },
          taskIds: id === undefined ? [] : [id]
        })
      }
      await seconds(1)
      status = (await bodyOf(await call(run.rig, node, "GET", "/agents/crashing"))).status
    }
    const took = performance.now() - began
    await seconds(5)
    const under = latencies(run, from)
    // What it left undone is cancelled, as its owner would.
    await call(run.rig, node, "POST", "/tasks/actions", {
      body: { action: "cancel", filter: { agent: "crashing" } },
      key: "cancel-crashing"
    })
    return [
      { name: "set aside after", value: status === "error" ? Math.round(took) : Infinity, unit: "ms", most: 30_000 },
      { name: "neighbours' accept p99 before", value: Math.round(calm.p99), unit: "ms" },
      { name: "neighbours' accept p99 meanwhile", value: Math.round(under.p99), unit: "ms" }
    ]
  }
}
