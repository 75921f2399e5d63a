/** Everything at once and at random, for as long as somebody has patience: the soak. */
import { readFileSync } from "node:fs"
import { Effect } from "effect"
import { type Fault, type FaultRun, seconds } from "../Fault.ts"

type Act = (run: FaultRun) => Promise<void>

const acts: Readonly<Record<string, Act>> = {
  "kill -9 of a node": async (run) => {
    const node = run.chance.pick(run.rig.nodes)
    await run.kill(node)
    await node.start()
  },
  "SIGTERM of a node": async (run) => {
    const node = run.chance.pick(run.rig.nodes)
    await node.process().stop()
    await node.start()
  },
  "SIGSTOP of a node": async (run) => {
    const node = run.chance.pick(run.rig.nodes)
    node.process().signal("SIGSTOP")
    await seconds(run.chance.between(1, 12))
    node.process().signal("SIGCONT")
  },
  "kill -9 of nats-server": async ({ chance, rig }) => {
    await Effect.runPromise(rig.nats.kill9)
    await seconds(chance.between(0, 3))
    await Effect.runPromise(rig.nats.start)
  },
  "kill -9 of Postgres": async ({ chance, rig }) => {
    await rig.postgres.killAll()
    await seconds(chance.between(0, 2))
    await Effect.runPromise(rig.postgres.start)
  },
  "a node is cut off from Postgres": async ({ chance, rig }) => {
    const { toPostgres } = chance.pick(rig.nodes)
    toPostgres.partition(chance.pick([["up", "down"], ["up"], ["down"]]))
    await seconds(chance.between(1, 10))
    toPostgres.heal()
  },
  "a node is cut off from NATS": async ({ chance, rig }) => {
    const { toNats } = chance.pick(rig.nodes)
    toNats.partition(chance.pick([["up", "down"], ["up"], ["down"]]))
    await seconds(chance.between(1, 10))
    toNats.heal()
  },
  "answers of Postgres are lost": async ({ chance, rig }) => {
    for (let number = 0; number < 10; number++) {
      chance.pick(rig.nodes).toPostgres.loseAnswerTo(chance.pick(["fingerprint", "/effect/op-", "behind"]))
      await seconds(0.1)
    }
  },
  "all edges are slow": async ({ chance, rig }) => {
    for (const { toNats, toPostgres } of rig.nodes) {
      for (const edge of [toPostgres, toNats]) edge.delay({ millis: chance.between(1, 60), jitterMillis: 50 })
    }
    await seconds(chance.between(1, 5))
    for (const { toNats, toPostgres } of rig.nodes) for (const edge of [toPostgres, toNats]) edge.delay(undefined)
  },
  "connections of clients are reset": async ({ rig }) => {
    for (const { fromClients } of rig.nodes) fromClients.reset()
  }
}

/** Resident memory and open files of a process, as /proc tells. */
const sizeOf = (pid: number) => {
  const status = readFileSync(`/proc/${pid}/status`, "utf8")
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1_024
}

export const soak: Fault = {
  id: "F35",
  title: "all of these at random, one after the other",
  pass: "zero violations",
  ...{ nodes: 3, perSecond: 100, seconds: 120, quietSeconds: 90 },
  inject: async (run) => {
    const names = Object.keys(acts)
    while (run.goesOn()) {
      const name = run.chance.pick(names)
      run.injected(name)
      await acts[name]?.(run)
      await seconds(run.chance.between(0.5, 4))
    }
    const sizes = run.rig.nodes.map((node) => (node.process().isUp() ? sizeOf(node.process().pid()) : 0))
    return [{ name: "largest node", value: Math.round(Math.max(...sizes)), unit: "MiB" }]
  }
}
