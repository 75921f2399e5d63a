/**
 * One simulated world, from a seed to its verdict.
 *
 *   faults: nodes work while everything that can go wrong does
 *     '--> health: faults end, dead nodes start again, agents are brought back
 *            '--> quiet: nothing is left to do, within a bound --> every promise is looked over
 */
import { createHash } from "node:crypto"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { Namespace } from "../../protocol/Ids.ts"
import * as Chance from "./Chance.ts"
import * as Machine from "./Machine.ts"
import { type Options, ofSeed } from "./Options.ts"
import * as SimAgents from "./SimAgents.ts"
import * as SimBus from "./SimBus.ts"
import * as SimNode from "./SimNode.ts"
import * as SimPlacement from "./SimPlacement.ts"
import * as SimPostgres from "./SimPostgres.ts"
import { type Flaw, Tables } from "./Tables.ts"
import { type Told, Violation, watch } from "./Witness.ts"
import * as Work from "./Work.ts"
import * as Workload from "./Workload.ts"

/** From the end of the faults until nothing may be left to do. */
export const quietWithinMillis = 180_000

export interface Verdict {
  readonly seed: number
  readonly options: Options
  /** Undefined when every promise was kept. */
  readonly failure: Error | undefined
  /** SHA-256 of the whole trace. */
  readonly hash: string
  /** The end of the trace, or all of it when it was asked for. */
  readonly trace: ReadonlyArray<string>
  readonly figures: {
    readonly tasks: number
    readonly runs: number
    readonly statements: number
    readonly messages: number
    readonly turns: number
    /** Simulated time from the end of the faults until nothing was left to do. */
    readonly quietAfterMillis: number
  }
}

export interface Settings {
  readonly flaws?: ReadonlySet<Flaw>
  readonly mutate?: SimNode.Mutations
  /** Keeps the whole trace rather than its end. */
  readonly wholeTrace?: boolean
  readonly onLine?: (line: string) => void
}

const traceLines = 200

export const run = (seed: number, settings: Settings = {}): Verdict => {
  const options = ofSeed(seed)
  const hash = createHash("sha256")
  const trace: Array<string> = []
  const machine = Machine.make(seed, (line) => {
    hash.update(line).update("\n")
    trace.push(line)
    settings.onLine?.(line)
    if (settings.wholeTrace !== true && trace.length > 2 * traceLines) trace.splice(0, traceLines)
  })

  const tables = new Tables(machine.wallMillis, settings.flaws)
  const namespace = Namespace.make("default")
  const postgres = SimPostgres.make(machine, Chance.make(seed, "postgres"), tables)
  const bus = SimBus.make(machine, Chance.make(seed, "bus"))
  const placement = SimPlacement.make(machine, Chance.make(seed, "placement"))
  const agents = SimAgents.make(machine, postgres, namespace, options.agents)
  tables.listeners.push(({ agent_id, id, instance }, { attempt, epoch, number, status, type }) => {
    const under = agent_id === null ? "" : ` ${agent_id.slice(-2)}/${instance} epoch ${epoch}`
    machine.say(`  ${Work.short(id)} ${number} ${type} ${status}, attempt ${attempt ?? 0}${under}`)
  })
  const witness = watch(tables, () => agents)
  const work = Work.make(machine, witness.onRun)
  const world = {
    ...{ machine, postgres, bus, placement, agents, work, namespace },
    idsOf: idsOf(machine),
    mutate: settings.mutate ?? {}
  }
  const nodes = Array.from({ length: options.nodes }, (_, index) => SimNode.make(world, `n${index + 1}`))
  const workload = Workload.make(world, nodes, Chance.make(seed, "workload"))

  const failure = caught(() => {
    for (const node of nodes) node.start()
    plan({ seed, options, machine, postgres, bus, placement, agents, nodes, workload })
    machine.run(options.faultMillis, never)
    machine.say("faults end")
    postgres.setFaults(SimPostgres.healthy)
    bus.setFaults(SimBus.healthy)
    const isQuiet = recover({ machine, tables, bus, agents, nodes, workload })
    machine.run(options.faultMillis + quietWithinMillis, isQuiet)
    settle({ told: workload.told, runs: work.runs, open: workload.open(), nodes, bus, witness })
  })
  if (failure !== undefined) machine.say(`FAILED ${failure.message}`)
  return {
    seed,
    options,
    failure,
    hash: hash.digest("hex"),
    trace: settings.wholeTrace === true ? trace : trace.slice(-traceLines),
    figures: {
      tasks: tables.tasks.size,
      runs: work.runs.length,
      statements: postgres.done(),
      messages: bus.delivered(),
      turns: machine.turns(),
      quietAfterMillis: machine.now() - options.faultMillis
    }
  }
}

const never = () => false

const caught = (run: () => void): Error | undefined => {
  try {
    run()
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** As `UuidV7` makes them, with chance from the seed: ids of a process ascend, and those of two processes differ. */
const idsOf = (machine: Machine.Machine) => {
  let processes = 0
  return (): UuidV7["Service"] => {
    const own = (++processes).toString(16).padStart(4, "0")
    let last = 0
    let counter = 0
    return UuidV7.of({
      next: () => {
        const now = machine.wallMillis()
        counter = now > last ? 0 : counter + 1
        last = Math.max(now, last)
        const time = last.toString(16).padStart(12, "0")
        const count = counter.toString(16).padStart(12, "0")
        return `${time.slice(0, 8)}-${time.slice(8)}-7${count.slice(-3)}-8${own.slice(1)}-${count}`
      }
    })
  }
}

/** Lays down what happens while faults last. */
const plan = (of: {
  readonly seed: number
  readonly options: Options
  readonly machine: Machine.Machine
  readonly postgres: SimPostgres.SimPostgres
  readonly bus: SimBus.SimBus
  readonly placement: SimPlacement.SimPlacement
  readonly agents: SimAgents.SimAgents
  readonly nodes: ReadonlyArray<SimNode.SimNode>
  readonly workload: Workload.Workload
}) => {
  const { agents, bus, machine, nodes, options, placement, postgres, workload } = of
  const chance = Chance.make(of.seed, "plan")
  const { faultMillis, times } = options
  const often = (count: number, what: () => void) => {
    for (let time = 0; time < count; time++) machine.after(1_000 + chance.below(faultMillis - 1_000), what)
  }
  // The first start is undisturbed, or there would be nothing to disturb.
  machine.after(500, () => {
    postgres.setFaults(options.postgres)
    bus.setFaults(options.bus)
  })
  often(options.commands, workload.submitSome)
  often(times.cancels, workload.cancelOne)
  often(times.postgresOutages, () => postgres.outage(chance.between(100, 8_000)))
  often(times.busOutages, () => bus.outage(chance.between(100, 8_000)))
  often(times.busLosses, bus.loseStore)
  often(times.freezes, () => chance.of(nodes).freeze(chance.between(100, 20_000)))
  often(times.moves, () => placement.shuffle(0.3, chance.of([50, 1_000, 5_000])))
  often(times.kills, () => {
    const node = chance.of(nodes)
    node.kill()
    machine.after(chance.between(100, 6_000), node.start)
  })
  often(times.stops, () => {
    const node = chance.of(nodes)
    node.stop()
    machine.after(chance.between(5_000, 8_000), node.start)
  })
  often(times.agentChanges, () => {
    const { desiredInstances, id } = chance.of(agents.all())
    if (chance.is(0.5)) {
      agents.change(id, { status: "maintenance" })
      machine.after(chance.below(5_000), () => agents.change(id, { status: "active" }))
    } else if (desiredInstances > 1) {
      agents.change(id, { desiredInstances: desiredInstances - 1 })
      machine.after(chance.below(5_000), () => agents.change(id, { desiredInstances }))
    }
  })
}

/** Brings everything back, and keeps bringing back what the platform quarantines. Tells when nothing is left to do. */
const recover = (of: {
  readonly machine: Machine.Machine
  readonly tables: Tables
  readonly bus: SimBus.SimBus
  readonly agents: SimAgents.SimAgents
  readonly nodes: ReadonlyArray<SimNode.SimNode>
  readonly workload: Workload.Workload
}) => {
  const { agents, bus, machine, nodes, tables, workload } = of
  let quiet = false
  const care = () => {
    for (const node of nodes) if (!node.isUp()) node.start()
    for (const { id, status } of agents.all()) if (status !== "active") agents.change(id, { status: "active" })
    machine.after(2_000, care)
  }
  const look = () => {
    const tasks = [...tables.tasks.values()]
    const over = tasks.every(({ status }) => status !== "running" && status !== "queued" && status !== "pending")
    const idle = nodes.every((node) => node.load().running + node.load().waiting === 0) && bus.held() === 0
    quiet = over && idle && workload.open() === 0
    machine.after(100, look)
  }
  machine.after(2_000, care)
  machine.after(10_000, look)
  return () => quiet
}

const settle = (of: {
  readonly told: ReadonlyArray<Told>
  readonly runs: ReadonlyArray<Work.Run>
  readonly open: number
  readonly nodes: ReadonlyArray<SimNode.SimNode>
  readonly bus: SimBus.SimBus
  readonly witness: ReturnType<typeof watch>
}) => {
  of.witness.atTheEnd(of.told, of.runs)
  if (of.open > 0) throw new Violation("every client is answered", `${of.open} submissions are open`)
  for (const node of of.nodes) {
    const { running, waiting } = node.load()
    if (running + waiting > 0) throw new Violation("no slot is kept", `${node.name} has ${running} and ${waiting}`)
  }
  if (of.bus.held() > 0) throw new Violation("every message is settled", `${of.bus.held()} are held`)
}
