/**
 * The clients of a simulated world: they submit tasks, batches and graphs to any node, ask again when they got no answer, and
 * cancel some of what they have submitted.
 */
import { Effect, type Exit, Result } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { TaskId } from "../../protocol/Ids.ts"
import type { Principal } from "../../protocol/Permission.ts"
import { priorities, type SubmitGraph, type SubmitTask } from "../../protocol/Task.ts"
import type { Chance } from "./Chance.ts"
import type { SimNode, World } from "./SimNode.ts"
import type { Told } from "./Witness.ts"
import { type Act, payloadOf, short } from "./Work.ts"

/** How long a client waits for an answer before it asks again. */
const patienceMillis = 8_000

export interface Workload {
  readonly told: ReadonlyArray<Told>
  /** Submissions that are not settled: answered, or given up by a client that may not ask twice. */
  readonly open: () => number
  readonly submitSome: () => void
  readonly cancelOne: () => void
}

interface Submission {
  readonly name: string
  readonly key: string | undefined
  readonly effect: Effect.Effect<ReadonlyArray<string>, { readonly _tag: string }, Scheduler | Principal>
}

export const make = (world: World, nodes: ReadonlyArray<SimNode>, chance: Chance): Workload => {
  const { machine } = world
  const told: Array<Told> = []
  let open = 0
  let serial = 0

  const act = (): Act => ({
    does: chance.is(0.7) ? "return" : chance.of(["fail", "fail", "fail", "refuse", "crash", "hang"]),
    millis: chance.is(0.7) ? chance.below(20) : chance.is(0.8) ? chance.below(600) : chance.below(4_000),
    times: chance.between(1, 3),
    reports: chance.is(0.2) ? chance.between(1, 3) : 0,
    cleanUpMillis: chance.is(0.1) ? chance.below(2_000) : 0
  })

  const known = () => told.flatMap(({ ids }) => ids)

  const fields = (name: string) => {
    const agent = chance.of(world.agents.all())
    const runAt = chance.is(0.1) ? machine.wallMillis() + chance.below(10_000) : undefined
    return {
      name,
      ...(chance.is(0.8) ? { agent: agent.id } : { type: `${agent.type}.act` }),
      payload: payloadOf(act()),
      ...(chance.is(0.3) && { priority: chance.of(priorities) }),
      ...(runAt !== undefined && { run_at: new Date(runAt).toISOString() }),
      ...(chance.is(0.08) && { deadline: new Date(machine.wallMillis() + chance.between(500, 20_000)).toISOString() }),
      configuration: {
        timeout_ms: chance.of([500, 1_000, 5_000]),
        retry: { max_attempts: chance.between(1, 4), delay_ms: chance.of([0, 50, 1_000]) },
        ...(chance.is(0.15) && { delivery: "at_most_once" as const })
      }
    }
  }

  const task = (name: string): SubmitTask => {
    const parents = chance.is(0.25) ? known() : []
    const chosen = new Set(parents.length === 0 ? [] : [chance.of(parents), chance.of(parents)])
    return {
      ...fields(name),
      ...(chosen.size > 0 && {
        dependencies: [...chosen].map((id) => ({
          task_id: TaskId.make(id),
          on: chance.of(["completed", "ended"] as const),
          required: chance.is(0.8)
        }))
      })
    }
  }

  const graph = (name: string): SubmitGraph => {
    const size = chance.between(2, 6)
    const keys = Array.from({ length: size }, (_, index) => `t${index}`)
    return {
      name,
      tasks: Object.fromEntries(
        keys.map((key, index) => [
          key,
          {
            ...fields(`${name}-${key}`),
            dependencies: keys
              .slice(0, index)
              .filter(() => chance.is(0.5))
              .map((parent) => ({ task: parent, on: chance.of(["completed", "ended"] as const) }))
          }
        ])
      )
    } as SubmitGraph
  }

  const submission = (): Submission => {
    const number = serial++
    const keyed = chance.is(0.5)
    const key = keyed ? `key-${number}` : undefined
    const name = keyed ? `key-${number}` : `task-${number}`
    const withKey = key === undefined ? {} : { idempotency_key: key as never }
    if (chance.is(0.15)) {
      const command = { ...graph(name), ...withKey }
      const effect = Effect.map(
        Scheduler.use((scheduler) => scheduler.submitGraph(command)),
        ({ tasks }) => Object.values(tasks)
      )
      return { name, key: undefined, effect }
    }
    if (chance.is(0.2)) {
      const commands = Array.from({ length: chance.between(2, 12) }, (_, index) => task(`${name}-${index}`))
      const atomic = chance.is(0.5)
      const effect = Effect.map(
        Scheduler.use((scheduler) => scheduler.submit(commands, { atomic })),
        (answers) => answers.flatMap((answer) => (Result.isSuccess(answer) ? [answer.success.id] : []))
      )
      return { name: `task-${number}`, key: undefined, effect }
    }
    const command: SubmitTask = { ...task(name), ...withKey }
    const effect = Effect.map(
      Scheduler.use((scheduler) => scheduler.submitOne(command)),
      ({ id }) => [id]
    )
    return { name, key, effect }
  }

  const send = (of: Submission, tries: number) => {
    let settled = false
    const settle = (how: string, again: boolean) => {
      if (settled) return
      settled = true
      machine.say(`client: ${of.name} ${how}`)
      if (again && of.key !== undefined) machine.after(chance.between(10, 500), () => send(of, tries + 1))
      else open--
    }
    const answered = (exit: Exit.Exit<ReadonlyArray<string>, { readonly _tag: string }>) => {
      if (exit._tag === "Success") {
        told.push({ ids: exit.value, key: of.key })
        return settle(`is ${exit.value.map(short).join(", ")}`, false)
      }
      const [reason] = exit.cause.reasons
      if (reason?._tag === "Die") throw reason.defect
      const tag = reason?._tag === "Fail" ? reason.error._tag : "interrupted"
      settle(tag, tag === "Unavailable" || tag === "Overloaded" || tag === "interrupted")
    }
    if (!chance.of(nodes).call(of.effect, answered)) return settle("finds no node", true)
    machine.after(patienceMillis, () => settle("gets no answer", true))
  }

  return {
    told,
    open: () => open,
    submitSome: () => {
      const of = submission()
      const copies = of.key !== undefined && chance.is(0.3) ? chance.between(2, 3) : 1
      for (let copy = 0; copy < copies; copy++) {
        open++
        machine.after(chance.is(0.5) ? 0 : chance.below(3_000), () => send(of, 1))
      }
    },
    cancelOne: () => {
      const ids = known()
      if (ids.length === 0) return
      const id = TaskId.make(chance.of(ids))
      const cancel = Effect.gen(function* () {
        const ledger = yield* Ledger
        const bus = yield* Bus
        const ended = yield* ledger.cancel(world.namespace, [id], { actor: "key:simulation", reason: undefined })
        for (const { id: cancelled, ranOn } of ended) {
          if (ranOn !== undefined) yield* bus.notify({ _tag: "Interrupt", agent: ranOn, tasks: [cancelled] })
        }
        return ended.length
      })
      machine.say(`client: cancels ${short(id)}`)
      chance.of(nodes).call(cancel, () => {})
    }
  }
}
