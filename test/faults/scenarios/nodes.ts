/** What happens to nodes: killed, at any time and at named places; frozen; blocked; ended in order. */
import { type At, crashPlaces, finishWork, prepareWork } from "../CrashPlaces.ts"
import { type Fault, type FaultRun, quantile, seconds, sumOf } from "../Fault.ts"
import { call, submitOnce } from "../Load.ts"
import type { RigNode } from "../Rig.ts"

const up = ({ rig }: FaultRun): ReadonlyArray<RigNode> => rig.nodes.filter((node) => node.process().isUp())

export const killNodes: Fault = {
  id: "F01",
  title: "kill -9 of a node, at random",
  pass: "work of the dead goes on within 10 s (p99)",
  ...{ nodes: 3, perSecond: 150, seconds: 60, resumeMillisMost: 10_000 },
  inject: async (run) => {
    const restarts = new Set<Promise<void>>()
    while (run.goesOn()) {
      await seconds(run.chance.between(2, 8))
      const node = run.chance.pick(run.rig.nodes)
      if (!node.process().isUp() || up(run).length < 2) continue
      run.injected(`kill -9 ${node.name}`)
      await run.kill(node)
      const restart = seconds(run.chance.between(0.2, 3)).then(() => node.start())
      restarts.add(restart)
      void restart.finally(() => restarts.delete(restart))
    }
    await Promise.all(restarts)
    return []
  }
}

export const killAllNodes: Fault = {
  id: "F03",
  title: "kill -9 of all nodes at once",
  pass: "work goes on within 12 s, their start included",
  ...{ nodes: 2, perSecond: 100, seconds: 60, resumeMillisMost: 12_000 },
  inject: async (run) => {
    while (run.goesOn()) {
      run.injected("kill -9 of all nodes")
      await Promise.all(run.rig.nodes.map((node) => run.kill(node)))
      await Promise.all(run.rig.nodes.map((node) => node.start()))
      await seconds(run.chance.between(3, 6))
    }
    return []
  }
}

const crashPoints = crashPlaces.flatMap(({ name: place, work }) =>
  (["before", "after"] as const).map((moment) => ({ place, moment, work }))
)

export const crashAtPoints: Fault = {
  id: "F02",
  title: "a node crashes at each named place of the code",
  pass: "each place is reached, before and after, and none loses or doubles anything",
  // One node: whatever runs on one node of all runs on it. All places are gone through, however long that takes.
  ...{ nodes: 1, perSecond: 30, seconds: 60, quietSeconds: 90 },
  inject: async (run) => {
    const [victim] = run.rig.nodes
    if (victim === undefined) return []
    const at: At = { run, node: victim, retried: new Set() }
    await prepareWork(run, victim)
    let crashes = 0
    const crash = async ({ moment, place, work }: (typeof crashPoints)[number], withinMillis: number) => {
      // What only its own work reaches is met at its first passes.
      const passes = Math.floor(run.chance.between(0, work === undefined ? 4 : 2))
      await run.kill(victim)
      await victim.start({ crashAt: { place, moment, passes } })
      const until = performance.now() + withinMillis
      while (victim.process().isUp() && performance.now() < until) {
        // A node that is gone does not answer.
        await work?.(at).catch(() => undefined)
        await Promise.race([victim.process().gone, seconds(0.5)])
      }
      if (victim.process().isUp()) return false
      crashes++
      run.injected(`crashed ${moment} ${place}, pass ${passes + 1}`)
      return true
    }
    const order = crashPoints.map((point) => ({ point, by: run.chance.next() })).toSorted((a, b) => a.by - b.by)
    let missed = order.map(({ point }) => point)
    for (const patience of [15_000, 30_000]) {
      const again: typeof missed = []
      for (const point of missed) if (!(await crash(point, patience))) again.push(point)
      missed = again
    }
    for (let turn = 0; run.goesOn(); turn++) {
      const next = order[turn % order.length]
      if (next === undefined) break
      await crash(next.point, 5_000)
    }
    await run.kill(victim)
    await victim.start()
    await seconds(1)
    await finishWork(at)
    const unnamed = [...run.rig.placesPassed()].filter((place) => !crashPlaces.some(({ name }) => name === place))
    const listed = (names: ReadonlyArray<string>) => (names.length === 0 ? "" : `: ${names.join(", ")}`)
    const left = missed.map(({ moment, place }) => `${moment} ${place}`)
    return [
      { name: "places", value: crashPoints.length, unit: "" },
      { name: `places not reached${listed(left)}`, value: left.length, unit: "", most: 0 },
      { name: `places passed that nobody named${listed(unnamed)}`, value: unnamed.length, unit: "", most: 0 },
      { name: "crashes at them", value: crashes, unit: "" }
    ]
  }
}

export const freezeNode: Fault = {
  id: "F16",
  title: "a node stands still (SIGSTOP) for longer than its leases, and goes on",
  pass: "what it still writes is refused (fenced > 0), no older epoch records anything",
  ...{ nodes: 2, perSecond: 120, seconds: 50 },
  inject: async (run) => {
    let fenced = 0
    while (run.goesOn()) {
      const node = run.chance.pick(run.rig.nodes)
      run.injected(`SIGSTOP ${node.name}`)
      node.process().signal("SIGSTOP")
      await seconds(run.chance.between(8, Math.max(9, Math.min(20, run.millis / 2_000))))
      node.process().signal("SIGCONT")
      await seconds(5)
      fenced = Math.max(fenced, await sumOf(run.rig, "datamcp_task_ends_fenced_total"))
    }
    return [{ name: "ends refused by the fence", value: fenced, unit: "", least: 1 }]
  }
}

export const rollNodes: Fault = {
  id: "F30",
  title: "SIGTERM of one node after the other, under load",
  pass: "no request fails, no attempt more than it takes",
  ...{ nodes: 2, perSecond: 150, seconds: 60 },
  inject: async (run) => {
    const took: Array<number> = []
    const from = run.history.operations.length
    const codes = new Set<number | null>()
    for (let turn = 0; run.goesOn(); turn++) {
      const node = run.rig.nodes[turn % run.rig.nodes.length]
      if (node === undefined) break
      // As a load balancer does: it asks the node no more, and then the node is told to end.
      run.rotation.splice(run.rotation.indexOf(node), 1)
      await seconds(0.3)
      run.injected(`SIGTERM ${node.name}`)
      const { code, millis } = await node.process().stop()
      took.push(millis)
      codes.add(code)
      await node.start()
      run.rotation.push(node)
      await seconds(run.chance.between(1, 3))
    }
    const asked = run.history.operations.slice(from)
    const failed = asked.filter(({ outcome, status }) => outcome === "info" || (status >= 500 && status < 600))
    return [
      { name: "requests", value: asked.length, unit: "" },
      { name: "requests that failed", value: failed.length, unit: "", most: 0 },
      {
        name: "ends with another code than 0",
        value: [...codes].filter((code) => code !== 0).length,
        unit: "",
        most: 0
      },
      { name: "longest orderly end", value: Math.round(Math.max(...took)), unit: "ms" }
    ]
  },
  figuresOf: (state) => [
    {
      name: "attempts lost to an orderly end",
      value: state.events.filter(({ lost }) => lost).length,
      ...{ unit: "", most: 0 }
    }
  ]
}

export const blockNode: Fault = {
  id: "F19",
  title: "the event loop of a node is blocked for 10 s by a behaviour, which also fills its heap",
  pass: "instances move, nothing is recorded twice",
  ...{ nodes: 2, perSecond: 60, seconds: 40 },
  environment: { DATAMCP_BEHAVIOURS: "./test/faults/busyBehaviour.ts" },
  inject: async (run) => {
    const [node] = run.rig.nodes
    if (node === undefined) return []
    await call(run.rig, node, "POST", "/agents", { body: { name: "busy", type: "busy", desired_instances: 1 } })
    const before = await sumOf(run.rig, "datamcp_instance_takeovers_total")
    while (run.goesOn()) {
      run.injected("a task blocks its node for 10 s")
      const body = { agent: "busy", payload: { block_ms: 10_000 }, configuration: { delivery: "at_most_once" } }
      await submitOnce(run, node, { kind: "submit", key: `busy-${run.history.operations.length}`, body, millis: 3_000 })
      await seconds(16)
    }
    const taken = (await sumOf(run.rig, "datamcp_instance_takeovers_total")) - before
    return [{ name: "instances taken over", value: taken, unit: "", least: 1 }]
  }
}

/** Answers per second, to say how a neighbour fares. */
export const latencies = (run: FaultRun, from: number) => {
  const taken = run.history.operations
    .slice(from)
    .filter(({ kind, outcome }) => kind === "submit" && outcome === "ok")
    .map(({ endedAt, invokedAt }) => endedAt - invokedAt)
  return { p50: quantile(taken, 0.5), p99: quantile(taken, 0.99), count: taken.length }
}
