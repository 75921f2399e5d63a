/** What happens to the edges: partitions, both ways and one way, and links that come and go. */
import { type Fault, seconds, sumOf } from "../Fault.ts"
import type { Direction } from "../FaultProxy.ts"
import { untilDrained } from "./nats.ts"

const shapes: ReadonlyArray<ReadonlyArray<Direction>> = [["up", "down"], ["up"], ["down"]]

export const partitionNats: Fault = {
  id: "F13",
  title: "a node is cut off from NATS, both ways and one way",
  pass: "work goes on: no task waits longer than 10 s, and soon after none longer than 4 s",
  ...{ nodes: 2, perSecond: 100, seconds: 60 },
  inject: async (run) => {
    const taken: Array<number> = []
    const span = run.millis / 1_000 / shapes.length
    for (const shape of shapes) {
      const node = run.chance.pick(run.rig.nodes)
      run.injected(`${node.name} and NATS: nothing passes ${shape.join(" and ")}`)
      node.toNats.partition(shape)
      await seconds(span * 0.8)
      // While it lasts, too: what messages do not tell is found in the ledger, if not as fast.
      taken.push(await untilDrained(run, 10))
      node.toNats.heal()
      taken.push(await untilDrained(run))
      await seconds(span * 0.1)
    }
    return [
      { name: "longest until nothing waited so long", value: Math.round(Math.max(...taken)), unit: "ms", most: 10_000 }
    ]
  }
}

export const partitionPostgres: Fault = {
  id: "F14",
  title: "a node is cut off from Postgres for longer than it may keep its instances",
  pass: "others take over; nothing that it writes afterwards counts",
  ...{ nodes: 2, perSecond: 100, seconds: 90 },
  inject: async (run) => {
    const node = run.chance.pick(run.rig.nodes)
    run.injected(`${node.name} and Postgres: nothing passes`)
    node.toPostgres.partition(["up", "down"])
    await seconds(run.millis / 1_000 / 2)
    const during = await untilDrained(run)
    node.toPostgres.heal()
    await seconds(3)
    const shape = run.chance.pick([["up"], ["down"]] satisfies ReadonlyArray<ReadonlyArray<Direction>>)
    run.injected(`${node.name} and Postgres: nothing passes ${shape.join()}`)
    node.toPostgres.partition(shape)
    await seconds(run.millis / 1_000 / 3)
    node.toPostgres.heal()
    return [
      { name: "until nothing waited, while cut off", value: Math.round(during), unit: "ms", most: 30_000 },
      { name: "until nothing waited, afterwards", value: Math.round(await untilDrained(run)), unit: "ms", most: 15_000 }
    ]
  }
}

export const flap: Fault = {
  id: "F15",
  title: "the edges of one node come and go, a second each",
  pass: "no storm of moves: instances are where they are within 15 s",
  ...{ nodes: 2, perSecond: 80, seconds: 60 },
  inject: async (run) => {
    const node = run.chance.pick(run.rig.nodes)
    while (run.goesOn()) {
      run.injected(`${node.name} is cut off for a second`)
      for (const edge of [node.toPostgres, node.toNats]) edge.refuse(true)
      await seconds(1)
      for (const edge of [node.toPostgres, node.toNats]) edge.refuse(false)
      await seconds(1)
    }
    await seconds(15)
    const before = await sumOf(run.rig, "datamcp_instance_takeovers_total")
    await seconds(5)
    const after = await sumOf(run.rig, "datamcp_instance_takeovers_total")
    // Nine instances of the load, and those that hibernate in between.
    return [{ name: "takeovers in 5 s, 15 s later", value: after - before, unit: "", most: 1 }]
  }
}
