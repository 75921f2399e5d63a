/**
 * What a fault of the catalogue is, and how each is run: a calm time, the fault, healing, a calm time again, then quiet; and then
 * the checker over all of it. One fault has one rig, so that none sees what another left behind.
 */
import { Effect } from "effect"
import type { TestMachine } from "../support/TestMachine.ts"
import { type Chance, fromSeed } from "./Chance.ts"
import { check, type Verdict } from "./Checker.ts"
import { type FinalState, readFinalState, untilQuiet } from "./FinalState.ts"
import { type History, makeHistory } from "./History.ts"
import { createAgents, type Load, serialAgent, startLoad } from "./Load.ts"
import { openRig, type Rig, type RigNode } from "./Rig.ts"
import { mountSmallDisk, type SmallDisk } from "./SmallDisk.ts"

/** One figure of a run; it fails the run when it is above `most` or below `least`. */
export interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
  readonly most?: number
  readonly least?: number
}

export interface FaultRun {
  readonly rig: Rig
  readonly history: History
  readonly chance: Chance
  /** How long the fault lasts, or is repeated. */
  readonly millis: number
  /** Whether there is time for more of it. */
  readonly goesOn: () => boolean
  /** Nodes that clients talk to: one that is taken out is asked no more. */
  readonly rotation: Array<RigNode>
  /** Small disks that servers stand on: Postgres's first, then NATS's, then that of artifacts. */
  readonly disks: ReadonlyArray<SmallDisk>
  /** One injection, as a person would call it. Counts and tells it. */
  readonly injected: (what: string) => void
  readonly tell: (what: string) => void
  /** SIGKILL of a node, with its time noted for how long its work took to go on. */
  readonly kill: (node: RigNode) => Promise<void>
}

export interface Fault {
  readonly id: string
  readonly title: string
  /** The figure that FAULTS names, in words. */
  readonly pass: string
  readonly nodes: number
  readonly perSecond: number
  /** How long, when nobody says otherwise; `short` within the tests. */
  readonly seconds: number
  readonly postgresSettings?: Readonly<Record<string, string>>
  readonly environment?: Readonly<Record<string, string>>
  /** Why it cannot run on this machine. */
  readonly unable?: () => string | undefined
  /** Time within which all must have ended afterwards. */
  readonly quietSeconds?: number
  /** From a kill to the next start of what ran there, p99; not looked at when absent. */
  readonly resumeMillisMost?: number
  /** Figures of its own are made by `inject`, or from what is stored at the end. */
  readonly inject: (run: FaultRun) => Promise<ReadonlyArray<Figure>>
  readonly figuresOf?: (state: FinalState, run: FaultRun) => ReadonlyArray<Figure>
  /** Sizes of the small disks that servers stand on. */
  readonly disks?: { readonly postgresMiB?: number; readonly natsMiB?: number; readonly artifactsMiB?: number }
  /** Flags of Node itself, for every node. */
  readonly nodeFlags?: ReadonlyArray<string>
}

export interface FaultReport {
  readonly id: string
  readonly title: string
  readonly outcome: "pass" | "violated" | "void" | "figure missed"
  readonly injections: number
  readonly seconds: number
  readonly verdict: Verdict
  readonly figures: ReadonlyArray<Figure & { readonly ok: boolean }>
}

export const seconds = (count: number) => new Promise<void>((resolve) => setTimeout(resolve, count * 1_000))

export const runFault = async (
  fault: Fault,
  options: {
    readonly machine: TestMachine
    readonly seed: number
    readonly seconds: number | undefined
    readonly calmSeconds?: number
    readonly historyFile?: string
    readonly tell: (line: string) => void
  }
): Promise<FaultReport> => {
  const began = performance.now()
  const chance = fromSeed(options.seed).fork(fault.id)
  const calmSeconds = options.calmSeconds ?? 3
  const disks: Array<SmallDisk> = []
  const disk = (mebibytes: number | undefined) => {
    if (mebibytes === undefined) return undefined
    const mounted = mountSmallDisk(options.machine.folder, mebibytes)
    disks.push(mounted)
    return mounted.folder
  }
  const postgresFolder = disk(fault.disks?.postgresMiB)
  const natsFolder = disk(fault.disks?.natsMiB)
  const artifactsFolder = disk(fault.disks?.artifactsMiB)
  const unmountAll = () => {
    for (const mounted of disks) mounted.unmount()
  }
  const rig = await openRig({
    machine: options.machine,
    chance: chance.fork("edges"),
    ...(postgresFolder !== undefined && { postgresFolder }),
    ...(natsFolder !== undefined && { natsFolder }),
    nodes: fault.nodes,
    ...(fault.postgresSettings !== undefined && { postgresSettings: fault.postgresSettings }),
    ...(fault.nodeFlags !== undefined && { nodeFlags: fault.nodeFlags }),
    environment: { ...fault.environment, ...(artifactsFolder !== undefined && { ARTIFACTS_DIR: artifactsFolder }) }
  }).catch((error) => {
    unmountAll()
    throw error
  })
  let load: Load | undefined
  try {
    await createAgents(rig)
    const history = makeHistory(options.historyFile)
    const rotation = [...rig.nodes]
    const kills: Array<number> = []
    let injections = 0
    let until = Number.POSITIVE_INFINITY
    const millis = (options.seconds ?? fault.seconds) * 1_000
    const run: FaultRun = {
      ...{ rig, history, rotation, millis, disks },
      chance: chance.fork("faults"),
      goesOn: () => performance.now() < until,
      injected: (what) => {
        injections++
        options.tell(`${fault.id}  ${what}`)
      },
      tell: (what) => options.tell(`${fault.id}    ${what}`),
      kill: async (node) => {
        kills.push(Date.now() * 1_000)
        await node.process().kill()
      }
    }
    load = startLoad({ rig, history, chance: chance.fork("load"), perSecond: fault.perSecond, nodes: rotation })
    const calm: Array<{ from: number; to: number }> = []
    // The first second warms up what has never been called.
    await seconds(1)
    const from = performance.now()
    await seconds(calmSeconds)
    calm.push({ from, to: performance.now() })

    until = performance.now() + millis
    const own = await fault.inject(run)
    const fenced = await sumOf(rig, "datamcp_task_ends_fenced_total")

    await heal(rig)
    const healedAt = performance.now()
    await seconds(2)
    const again = performance.now()
    await seconds(calmSeconds)
    calm.push({ from: again, to: performance.now() })
    await load.stop()
    const quietBoundMillis = (fault.quietSeconds ?? 60) * 1_000
    const quiet = await untilQuiet(rig, quietBoundMillis)
    const state = await readFinalState(rig)
    const verdict = check({
      ...{ seed: options.seed, operations: history.operations, sink: rig.sinkEntries(), state, calm },
      faultsObserved: injections === 0 ? 0 : rig.proxyFaults() + injections + fenced,
      quietAfterMillis: quiet === undefined ? undefined : performance.now() - healedAt - calmSeconds * 1_000 - 2_000,
      quietBoundMillis,
      serialAgents: [serialAgent]
    })
    const figures = [
      ...own,
      ...(fault.figuresOf?.(state, run) ?? []),
      ...resumeFigures(state, kills, fault.resumeMillisMost),
      { name: "fenced writes", value: fenced, unit: "" }
    ].map((figure) => ({
      ...figure,
      ok: figure.value <= (figure.most ?? Infinity) && figure.value >= (figure.least ?? -Infinity)
    }))
    const missed = figures.some(({ ok }) => !ok)
    return {
      ...{ id: fault.id, title: fault.title, injections, verdict, figures },
      outcome: verdict.verdict === "pass" && missed ? "figure missed" : verdict.verdict,
      seconds: Math.round((performance.now() - began) / 1_000)
    }
  } finally {
    await heal(rig).catch(() => undefined)
    await load?.stop()
    await rig.close()
    unmountAll()
  }
}

/** Takes all faults back: edges, servers, nodes. */
const heal = async (rig: Rig) => {
  rig.postgres.thawAll()
  if (rig.postgres.pid() === 0) await Effect.runPromise(rig.postgres.start)
  await Effect.runPromise(rig.nats.thaw)
  if (rig.nats.pid() === 0) await Effect.runPromise(rig.nats.start)
  for (const node of rig.nodes) {
    for (const edge of [node.toPostgres, node.toNats, node.fromClients]) edge.heal()
    node.process().signal("SIGCONT")
  }
  await Promise.all(rig.nodes.filter((node) => !node.process().isUp()).map((node) => node.start()))
}

export const sumOf = async (rig: Rig, metric: string): Promise<number> => {
  const values = await Promise.all(rig.nodes.filter((node) => node.process().isUp()).map((node) => node.metric(metric)))
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0)
}

/** From each kill to the next start of what ran on the killed node. */
const resumeFigures = (
  state: FinalState,
  kills: ReadonlyArray<number>,
  most: number | undefined
): ReadonlyArray<Figure> => {
  // Where other faults take instances away as well, nothing says which of them a lost attempt is owed to.
  if (kills.length === 0 || most === undefined) return []
  const taken: Array<number> = []
  let lostAt: number | undefined
  let task = ""
  for (const event of state.events) {
    if (event.task !== task) lostAt = undefined
    task = event.task
    if (event.lost && event.type === "TaskQueued") lostAt = event.at
    else if (event.type === "TaskStarted" && lostAt !== undefined) {
      const killed = kills.findLast((at) => at <= (lostAt ?? 0))
      if (killed !== undefined) taken.push((event.at - killed) / 1_000)
      lostAt = undefined
    }
  }
  return [
    { name: "attempts lost to kills and run again", value: taken.length, unit: "" },
    { name: "from kill to next start, p50", value: Math.round(quantile(taken, 0.5)), unit: "ms" },
    { name: "from kill to next start, p99", value: Math.round(quantile(taken, 0.99)), unit: "ms", most }
  ]
}

export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = values.toSorted((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

/** Milliseconds until a submission that began after now was taken; undefined when none was within `withinMillis`. */
export const untilAccepted = async (history: History, withinMillis = 30_000): Promise<number | undefined> => {
  const began = performance.now()
  let from = history.operations.length
  while (performance.now() - began < withinMillis) {
    for (let at = from; at < history.operations.length; at++) {
      const operation = history.operations[at]
      if (operation === undefined) continue
      if (operation.outcome === "ok" && operation.kind !== "read") return operation.endedAt - began
    }
    // Those that are still open may yet succeed.
    while (history.operations[from]?.outcome !== "pending" && from < history.operations.length) from++
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return undefined
}
