/**
 * Simulated placement: shards of instances, and singletons, each with a node that should have it. What a node believes lags
 * behind: for a while two nodes, or none, believe to own the same instance. Epochs must decide.
 */
import { Effect, Latch } from "effect"
import { Placement } from "../../actors/ports/Placement.ts"
import { NodeName } from "../../protocol/Ids.ts"
import type { Chance } from "./Chance.ts"
import type { Machine, Process } from "./Machine.ts"

const shards = 12

interface Member {
  readonly process: Process
  readonly believes: Set<string>
  readonly handlers: Set<() => void>
  readonly changed: Latch.Latch
}

export interface SimPlacement {
  readonly join: (process: Process) => Placement["Service"]
  /** It has left in order: what it had goes to others at once. */
  readonly leave: (process: Process) => void
  /** It is dead: what it had goes to others once its leases have run out. */
  readonly lose: (process: Process) => void
  /** It stands still: the same, and it learns of it when it goes on. */
  readonly suspect: (process: Process) => void
  /** Moves some shards and singletons, and lets beliefs lag by up to `lagMillis`. */
  readonly shuffle: (share: number, lagMillis: number) => void
}

/** As ShardLeases has it: a dead node's shards go on after this. */
const leaseMillis = 3_500

export const make = (machine: Machine, chance: Chance): SimPlacement => {
  const members = new Map<string, Member>()
  const owners = new Map<string, string | undefined>()
  for (let shard = 0; shard < shards; shard++) owners.set(`shard/${shard}`, undefined)

  const shardOf = (agentId: string, index: number) => {
    let hash = index + 7
    for (const character of agentId) hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) >>> 0
    return `shard/${hash % shards}`
  }

  const tell = (member: Member) => {
    for (const handler of [...member.handlers]) handler()
    member.changed.openUnsafe()
  }

  /** A member learns after a while; until then it believes what it did. */
  const learn = (name: string, what: string, owns: boolean, lagMillis: number) => {
    const member = members.get(name)
    member?.process.after(chance.below(lagMillis + 1), () => {
      // It may have changed again meanwhile: the last word counts.
      if ((owners.get(what) === name) !== owns || member.believes.has(what) === owns) return
      if (owns) member.believes.add(what)
      else member.believes.delete(what)
      machine.say(`${name} ${owns ? "gains" : "loses"} ${what}`)
      tell(member)
    })
  }

  const give = (what: string, to: string | undefined, lagMillis: number) => {
    const from = owners.get(what)
    if (from === to) return
    owners.set(what, to)
    if (from !== undefined) learn(from, what, false, lagMillis)
    if (to !== undefined) learn(to, what, true, lagMillis)
  }

  const names = () => [...members.keys()].sort()

  const spread = (of: (owner: string | undefined) => boolean, lagMillis: number, without?: string) => {
    const candidates = names().filter((name) => name !== without)
    for (const [what, owner] of owners) {
      if (of(owner)) give(what, candidates.length === 0 ? undefined : chance.of(candidates), lagMillis)
    }
  }

  const remove = (process: Process) => {
    if (members.get(process.name)?.process === process) members.delete(process.name)
  }

  return {
    join: (process) => {
      const { name } = process
      const member: Member = {
        process,
        believes: new Set(),
        handlers: new Set(),
        changed: Latch.makeUnsafe(false)
      }
      members.set(name, member)
      for (const [what, owner] of owners) if (owner === name) owners.set(what, undefined)
      machine.after(20, () => {
        spread((owner) => owner === undefined || (owner !== name && chance.is(1 / members.size)), 50)
      })
      return Placement.of({
        node: NodeName.make(name),
        takesWork: () => true,
        nodes: Effect.sync(() => names().map((each) => NodeName.make(each))),
        owns: (agentId, index) => member.believes.has(shardOf(agentId, index)),
        onChange: (handler) =>
          Effect.asVoid(
            Effect.acquireRelease(
              Effect.sync(() => member.handlers.add(handler)),
              () => Effect.sync(() => member.handlers.delete(handler))
            )
          ),
        singleton: (singleton, loop) => {
          const what = `singleton/${singleton}`
          const until = (owns: boolean): Effect.Effect<void> =>
            Effect.suspend(() => {
              if (member.believes.has(what) === owns) return Effect.void
              member.changed.closeUnsafe()
              return Effect.andThen(member.changed.await, until(owns))
            })
          if (!owners.has(what)) owners.set(what, undefined)
          if (owners.get(what) === undefined) give(what, chance.of(names()), 20)
          return until(true).pipe(
            Effect.andThen(Effect.raceFirst(loop, until(false))),
            Effect.forever,
            Effect.forkScoped,
            Effect.asVoid
          )
        }
      })
    },
    leave: (process) => {
      remove(process)
      spread((owner) => owner === process.name, 50)
    },
    lose: (process) => {
      remove(process)
      machine.after(leaseMillis, () => {
        if (!members.has(process.name)) spread((owner) => owner === process.name, 500)
      })
    },
    suspect: (process) =>
      machine.after(leaseMillis, () => {
        if (members.size > 1) spread((owner) => owner === process.name, 500, process.name)
      }),
    shuffle: (share, lagMillis) => spread(() => chance.is(share), lagMillis)
  }
}
