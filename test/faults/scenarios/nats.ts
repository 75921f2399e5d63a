/** What happens to NATS: killed, its store lost or damaged, messages that nobody sent, consumers and streams taken away. */
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import { Effect } from "effect"
import { query } from "../../../bench/servers/query.ts"
import { type Fault, type FaultRun, seconds } from "../Fault.ts"
import { serialAgent } from "../Load.ts"
import { smallDiskMissing } from "../SmallDisk.ts"

const stop = ({ rig }: FaultRun) => Effect.runPromise(rig.nats.kill9)
const start = ({ rig }: FaultRun) => Effect.runPromise(rig.nats.start)

/** Milliseconds until no task has been queued for longer than `olderSeconds`, but for those of the serial agent, whose queue is its own. */
export const untilDrained = async ({ rig }: FaultRun, olderSeconds = 4): Promise<number> => {
  const withinMillis = 60_000
  const began = performance.now()
  while (performance.now() - began < withinMillis) {
    const [row] = await query<{ n: number }>(
      rig.databaseUrl,
      `select count(*)::int as n from tasks t join agents a on a.id = t.agent_id
       where t.status = 'queued' and t.queued_at < now() - interval '${olderSeconds} seconds' and a.name <> '${serialAgent}'`
    ).catch(() => [])
    if (row?.n === 0) return performance.now() - began
    await seconds(0.05)
  }
  return Number.POSITIVE_INFINITY
}

const longest = (taken: ReadonlyArray<number>, most: number) => ({
  name: "longest until the backlog was gone",
  value: Math.round(Math.max(0, ...taken)),
  ...{ unit: "ms", most }
})

export const killNats: Fault = {
  id: "F04",
  title: "kill -9 of nats-server, and a long stop",
  pass: "the backlog is gone within 10 s of its start",
  ...{ nodes: 2, perSecond: 150, seconds: 60 },
  inject: async (run) => {
    const taken: Array<number> = []
    const long = run.millis / 4_000
    let isLast = false
    while (!isLast) {
      isLast = !run.goesOn()
      run.injected(isLast ? `nats-server down for ${Math.round(long)} s` : "kill -9 nats-server")
      await stop(run)
      await seconds(isLast ? long : run.chance.between(0.2, 2))
      await start(run)
      taken.push(await untilDrained(run))
      await seconds(run.chance.between(1, 2))
    }
    return [longest(taken, 10_000)]
  }
}

/** Every file of messages below a folder. */
const blocksOf = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() && entry.name.endsWith(".blk") ? [join(entry.parentPath, entry.name)] : []
  )

const damages: Readonly<Record<string, (folder: string, chance: FaultRun["chance"]) => void>> = {
  "the store is deleted": (folder) => rmSync(folder, { recursive: true, force: true }),
  "blocks are cut in half": (folder) => {
    for (const block of blocksOf(folder)) truncateSync(block, Math.floor(readFileSync(block).length / 2))
  },
  "bits are flipped": (folder, chance) => {
    for (const block of blocksOf(folder)) {
      const bytes = readFileSync(block)
      for (let flips = 0; flips < 20 && bytes.length > 0; flips++) {
        const at = Math.floor(chance.between(0, bytes.length))
        bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(chance.between(0, 8)))
      }
      writeFileSync(block, bytes)
    }
  },
  "state and metadata are deleted": (folder) => {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && !entry.name.endsWith(".blk")) rmSync(join(entry.parentPath, entry.name), { force: true })
    }
  }
}

export const damageStore: Fault = {
  id: "F05",
  title: "JetStream's store is deleted, cut, or has bits flipped",
  pass: "streams are made again, the backlog is gone within 15 s, nothing is lost",
  ...{ nodes: 2, perSecond: 150, seconds: 60 },
  inject: async (run) => {
    const taken: Array<number> = []
    const kinds = Object.keys(damages)
    for (let turn = 0; run.goesOn() || turn < kinds.length; turn++) {
      const kind = kinds[turn % kinds.length] ?? ""
      run.injected(kind)
      await stop(run)
      damages[kind]?.(run.rig.nats.storeFolder, run.chance)
      await start(run)
      const drained = await untilDrained(run)
      taken.push(drained)
      run.tell(`the backlog was gone after ${Math.round(drained)} ms`)
      await seconds(2)
    }
    return [longest(taken, 15_000)]
  }
}

export const freezeServers: Fault = {
  id: "F17",
  title: "nats-server, then Postgres, stand still (SIGSTOP) for 20 s",
  pass: "as F04 and F08",
  ...{ nodes: 2, perSecond: 100, seconds: 50 },
  inject: async (run) => {
    const span = Math.min(20, run.millis / 2_500)
    run.injected(`SIGSTOP nats-server for ${Math.round(span)} s`)
    await Effect.runPromise(run.rig.nats.freeze)
    await seconds(span)
    await Effect.runPromise(run.rig.nats.thaw)
    const afterNats = await untilDrained(run)
    await seconds(2)
    run.injected(`SIGSTOP Postgres for ${Math.round(span)} s`)
    run.rig.postgres.freezeAll()
    await seconds(span)
    run.rig.postgres.thawAll()
    return [longest([afterNats, await untilDrained(run)], 15_000)]
  }
}

export const fillNatsDisk: Fault = {
  id: "F21",
  title: "the disk of nats-server is full",
  pass: "submissions are accepted all the same, the backlog is gone within 15 s of there being room",
  ...{ nodes: 2, perSecond: 100, seconds: 30, disks: { natsMiB: 160 } },
  unable: smallDiskMissing,
  inject: async (run) => {
    const [disk] = run.disks
    const taken: Array<number> = []
    const from = run.history.operations.length
    while (run.goesOn()) {
      run.injected("the disk is filled")
      disk?.fill()
      await seconds(run.chance.between(5, 8))
      disk?.free()
      taken.push(await untilDrained(run))
      await seconds(2)
    }
    const asked = run.history.operations.slice(from).filter(({ kind }) => kind === "submit" || kind === "graph")
    const accepted = asked.filter(({ outcome }) => outcome === "ok").length
    const share = Math.floor((100 * accepted) / Math.max(1, asked.length))
    return [longest(taken, 15_000), { name: "submissions accepted meanwhile", value: share, unit: "%", least: 95 }]
  }
}

const agentIds = async ({ rig }: FaultRun): Promise<ReadonlyArray<string>> =>
  (await query<{ id: string }>(rig.databaseUrl, "select id::text from agents")).map(({ id }) => id)

const withNats = async <A>(
  run: FaultRun,
  use: (connection: Awaited<ReturnType<typeof connect>>) => Promise<A>
): Promise<A> => {
  const connection = await connect({ servers: run.rig.nats.natsUrl })
  try {
    return await use(connection)
  } finally {
    await connection.close()
  }
}

export const foreignMessages: Fault = {
  id: "F25",
  title: "messages that cannot be read are put on stream TASKS",
  pass: "they are counted and dropped, no consumer stalls",
  ...{ nodes: 2, perSecond: 100, seconds: 20 },
  inject: async (run) => {
    const agents = await agentIds(run)
    const texts = [
      "",
      "{",
      "null",
      "[]",
      '{"v":99,"orders":[]}',
      '{"orders":[{"id":"no"}]}',
      "\u0000\u0001",
      "[".repeat(9_000)
    ]
    let sent = 0
    await withNats(run, async (connection) => {
      while (run.goesOn()) {
        run.injected("250 foreign messages")
        for (let number = 0; number < 250; number++, sent++) {
          const lane = run.chance.pick(["critical", "high", "normal", "low"])
          connection.publish(`task.default.${run.chance.pick(agents)}.${lane}`, run.chance.pick(texts))
        }
        await connection.flush()
        await seconds(0.5)
      }
    })
    return [{ name: "foreign messages", value: sent, unit: "" }, longest([await untilDrained(run)], 10_000)]
  }
}

export const doubleMessages: Fault = {
  id: "F26",
  title: "every dispatch message comes five times more, in another order, and later",
  pass: "no call of the sink without an attempt of its own",
  ...{ nodes: 2, perSecond: 60, seconds: 30 },
  inject: async (run) => {
    let repeated = 0
    await withNats(run, async (connection) => {
      const mine = new Set<string>()
      const kept: Array<{ readonly subject: string; readonly data: Uint8Array }> = []
      const subscription = connection.subscribe("task.>", {
        callback: (_, { data, subject }) => {
          const text = Buffer.from(data).toString("base64")
          if (mine.delete(text) || kept.length > 20_000) return
          for (let copy = 0; copy < 5; copy++) kept.push({ subject, data: data.slice() })
        }
      })
      while (run.goesOn()) {
        await seconds(0.2)
        // From anywhere in the last thousand: reordered, and some of them many seconds late.
        const batch = Math.min(kept.length, 200)
        for (let number = 0; number < batch; number++) {
          const [message] = kept.splice(Math.floor(run.chance.between(0, Math.min(kept.length, 1_000))), 1)
          if (message === undefined) break
          mine.add(Buffer.from(message.data).toString("base64"))
          connection.publish(message.subject, message.data)
          repeated++
        }
        if (batch > 0) run.injected(`${batch} messages again`)
      }
      subscription.unsubscribe()
    })
    return [{ name: "messages repeated", value: repeated, unit: "", least: 1 }]
  },
  figuresOf: (state) => {
    const starts = new Map<string, number>()
    for (const { task, type } of state.events) if (type === "TaskStarted") starts.set(task, (starts.get(task) ?? 0) + 1)
    const lost = state.events.filter(({ lost }) => lost).length
    return [{ name: "attempts lost", value: lost, unit: "", most: 0 }]
  }
}

export const takeAwayStreams: Fault = {
  id: "F27",
  title: "an operator purges or deletes streams and consumers, and acknowledges what is not theirs",
  pass: "nothing is lost, it heals within 10 s",
  ...{ nodes: 2, perSecond: 100, seconds: 40 },
  inject: async (run) => {
    const taken: Array<number> = []
    await withNats(run, async (connection) => {
      const manager = await jetstreamManager(connection)
      const consumers = async () => {
        const names: Array<string> = []
        for await (const { name } of manager.consumers.list("TASKS")) names.push(name)
        return names
      }
      const acts: Readonly<Record<string, () => Promise<unknown>>> = {
        "stream TASKS is purged": () => manager.streams.purge("TASKS"),
        "all consumers are deleted": async () => {
          for (const name of await consumers()) await manager.consumers.delete("TASKS", name)
        },
        "what comes next is acknowledged by a stranger": async () => {
          for (const name of await consumers()) {
            for (let number = 1; number < 200; number++) {
              const reply = `$JS.ACK.TASKS.${name}.1.${number}.${number}.1700000000000000000.0`
              connection.publish(reply, number % 2 === 0 ? "+ACK" : "+WPI")
            }
          }
          await connection.flush()
        },
        "stream TASKS is deleted": () => manager.streams.delete("TASKS"),
        "stream EVENTS is deleted": () => manager.streams.delete("EVENTS")
      }
      const kinds = Object.keys(acts)
      for (let turn = 0; run.goesOn() || turn < kinds.length; turn++) {
        const kind = kinds[turn % kinds.length] ?? ""
        run.injected(kind)
        // It may be gone already.
        await acts[kind]?.().catch(() => undefined)
        taken.push(await untilDrained(run))
        await seconds(run.chance.between(1, 2))
      }
    })
    return [longest(taken, 10_000)]
  }
}
