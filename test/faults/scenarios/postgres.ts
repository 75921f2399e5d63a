/** What happens to Postgres: killed, its answers lost, slow, locked, out of room. */
import { Effect } from "effect"
import { query } from "../../../bench/servers/query.ts"
import { type Fault, seconds, untilAccepted } from "../Fault.ts"
import { smallDiskMissing } from "../SmallDisk.ts"
import { untilDrained } from "./nats.ts"

export const killPostgres: Fault = {
  id: "F08",
  title: "kill -9 of Postgres, all of it, in the middle of commits",
  pass: "no false 2xx, submissions are accepted again within 5 s",
  ...{ nodes: 2, perSecond: 150, seconds: 60 },
  inject: async (run) => {
    const taken: Array<number> = []
    while (run.goesOn()) {
      await seconds(run.chance.between(1, 3))
      run.injected("kill -9 of all processes of Postgres")
      await run.rig.postgres.killAll()
      await seconds(run.chance.between(0, 1))
      await Effect.runPromise(run.rig.postgres.start)
      taken.push((await untilAccepted(run.history)) ?? Number.POSITIVE_INFINITY)
    }
    return [
      {
        name: "longest from its start to the next accept",
        value: Math.round(Math.max(0, ...taken)),
        ...{ unit: "ms", most: 5_000 }
      }
    ]
  }
}

export const loseAnswers: Fault = {
  id: "F09",
  title: "the connection is cut after a commit was sent and before it was answered",
  pass: "each unknown outcome is found out: nothing lost, nothing doubled",
  ...{ nodes: 2, perSecond: 150, seconds: 40 },
  inject: async (run) => {
    // In the parameters of accepts, of ends, and of claims.
    const marks = ["fingerprint", "/effect/op-", "behind"]
    const lost = () => run.rig.nodes.reduce((sum, node) => sum + node.toPostgres.counters.truncated, 0)
    while (run.goesOn()) {
      const before = lost()
      const mark = run.chance.pick(marks)
      run.chance.pick(run.rig.nodes).toPostgres.loseAnswerTo(mark)
      await seconds(run.chance.between(0.02, 0.12))
      if (lost() > before) run.injected(`the answer to a statement with "${mark}" is lost`)
    }
    return [{ name: "answers lost", value: lost(), unit: "", least: 1 }]
  }
}

export const slowPostgres: Fault = {
  id: "F11",
  title: "Postgres is slow (500 ms), its connections are few, and then its table of tasks is locked for 15 s",
  pass: "who cannot be served is told so (503) within 5 s, nothing blocks for good",
  ...{ nodes: 2, perSecond: 60, seconds: 40, environment: { DATABASE_CONNECTIONS: "6" } },
  inject: async (run) => {
    run.injected("500 ms to and from Postgres")
    for (const node of run.rig.nodes) node.toPostgres.delay({ millis: 250, jitterMillis: 50 })
    await seconds(run.millis / 4_000)
    for (const node of run.rig.nodes) node.toPostgres.delay(undefined)
    await seconds(3)
    const held = Math.min(15, run.millis / 2_500)
    const from = run.history.operations.length
    run.injected(`the table of tasks is locked for ${Math.round(held)} s`)
    await query(
      run.rig.databaseUrl,
      `do $$ begin lock table tasks in access exclusive mode; perform pg_sleep(${held}); end $$`
    )
    const resumed = (await untilAccepted(run.history)) ?? Number.POSITIVE_INFINITY
    const refused = run.history.operations
      .slice(from)
      .filter(({ kind, status }) => kind !== "read" && status === 503)
      .map(({ endedAt, invokedAt }) => endedAt - invokedAt)
    const drained = await untilDrained(run)
    return [
      { name: "refusals with 503", value: refused.length, unit: "", least: 1 },
      // 2 s for the commits before it, which it has to wait for, and 2 s for its own.
      { name: "longest until a 503", value: Math.round(Math.max(0, ...refused)), unit: "ms", most: 5_000 },
      { name: "from the unlock to the next accept", value: Math.round(resumed), unit: "ms", most: 5_000 },
      { name: "until the backlog was gone", value: Math.round(drained), unit: "ms", most: 30_000 }
    ]
  }
}

export const fillPostgresDisk: Fault = {
  id: "F20",
  title: "the disk of Postgres is full",
  pass: "no false 2xx; it goes on by itself once there is room",
  ...{ nodes: 2, perSecond: 100, seconds: 40, disks: { postgresMiB: 320 } },
  // Its log of changes is given back early, so that what fills the disk is not its own past.
  postgresSettings: { max_wal_size: "64MB", min_wal_size: "32MB", wal_recycle: "off" },
  unable: smallDiskMissing,
  inject: async (run) => {
    const [disk] = run.disks
    const taken: Array<number> = []
    let refused = 0
    while (run.goesOn()) {
      const from = run.history.operations.length
      run.injected("the disk is filled")
      disk?.fill()
      await seconds(run.chance.between(6, 9))
      disk?.free()
      // Where it could not write its log it has ended itself, as it must.
      await seconds(1)
      if (run.rig.postgres.pid() === 0) await Effect.runPromise(run.rig.postgres.start)
      taken.push((await untilAccepted(run.history, 60_000)) ?? Number.POSITIVE_INFINITY)
      refused += run.history.operations.slice(from).filter(({ status }) => status === 503).length
      await seconds(2)
    }
    return [
      { name: "refusals with 503", value: refused, unit: "" },
      {
        name: "longest from room to the next accept",
        value: Math.round(Math.max(0, ...taken)),
        unit: "ms",
        most: 15_000
      }
    ]
  }
}
