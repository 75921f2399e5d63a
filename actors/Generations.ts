/**
 * The behaviour of one instance by version of its agent's definition: attempts that began under a version end under it, and
 * its resources are released once the last of them has ended and it is not in force any more.
 *
 * One version is in force, two while a newer one is rolled out: each task has its own by `Rollout`. A change that leaves a
 * definition as it was (a pause, a larger share) opens nothing.
 */
import { Effect, Equal, Exit, Scope } from "effect"
import type { TaskId } from "../protocol/Ids.ts"
import { type BehaviourFailure, Behaviours, type RunAttempt, SettingsInvalid } from "./Behaviour.ts"
import * as Isolation from "./Isolation.ts"
import type { AgentRecord, Definition } from "./ports/AgentStore.ts"
import { takesNew } from "./Rollout.ts"

/** The behaviour as one version of the definition opens it. */
export interface Generation {
  readonly definition: Definition
  readonly run: RunAttempt
  /** Its attempts may begin before their claim is written. */
  readonly idempotent: boolean
  readonly scope: Scope.Closeable
  attempts: number
}

/** Opens the first one; all of them close with the scope. */
export const make = Effect.fnUntraced(function* (first: AgentRecord) {
  const behaviours = yield* Behaviours
  const scope = yield* Effect.scope

  const open = Effect.fnUntraced(function* (definition: Definition) {
    const behaviour = behaviours.get(first.type)
    if (behaviour === undefined) {
      return yield* new SettingsInvalid({ message: `this node has no behaviour of type "${first.type}"` })
    }
    const own = yield* Scope.fork(scope)
    const run = yield* behaviour.open(definition.configuration.settings ?? {}, definition.configuration.isolation).pipe(
      Scope.provide(own),
      Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
    )
    const idempotent = behaviour.idempotent === true
    const generation: Generation = { definition, run, idempotent, scope: own, attempts: 0 }
    return generation
  })

  const definitionsOf = (agent: AgentRecord) => ({
    newest: { version: agent.definitionVersion, configuration: agent.configuration },
    base: agent.rollout?.base
  })

  let record = first
  const wanted = definitionsOf(first)
  let newest = yield* open(wanted.newest)
  let base = wanted.base === undefined ? undefined : yield* open(wanted.base)

  const retire = (generation: Generation | undefined) =>
    generation !== undefined && generation !== newest && generation !== base && generation.attempts === 0
      ? Scope.close(generation.scope, Exit.void)
      : Effect.void

  const closeAll = (generations: ReadonlyArray<Generation>) => Effect.forEach(generations, retire, { discard: true })

  /** Puts a newer version in force. Versions that open at the same time may do so in any order: the newest stays. */
  const reload: (
    agent: AgentRecord
  ) => Effect.Effect<void, SettingsInvalid | BehaviourFailure, Effect.Services<ReturnType<typeof open>>> =
    Effect.fnUntraced(function* (agent) {
      const next = definitionsOf(agent)
      const opened: Array<Generation> = []
      const known = (definition: Definition) =>
        [newest, base, ...opened].find((each) => each !== undefined && isSame(each.definition, definition))
      const missing = () =>
        [next.newest, next.base].find((definition) => definition !== undefined && known(definition) === undefined)
      // What is known may go out of force while something else opens: then it is opened again.
      for (let absent = missing(); agent.version > record.version && absent !== undefined; absent = missing()) {
        opened.push(yield* open(absent))
      }
      const found = known(next.newest)
      const foundBase = next.base === undefined ? undefined : known(next.base)
      if (agent.version <= record.version || found === undefined) return yield* closeAll(opened)
      const before = [newest, base]
      record = agent
      newest = found
      base = foundBase
      yield* closeAll([...before, ...opened].filter((each) => each !== undefined))
    })

  return {
    /** The agent as it was last heard of. */
    agent: () => record,
    /** Tasks that may run at a time: an isolated behaviour has a process for each. */
    concurrentTasks: () =>
      Isolation.concurrentTasks(record.configuration, behaviours.get(first.type)?.isolated === true),
    /** True when attempts that begin now may do so before their claim is written. */
    idempotent: () => newest.idempotent,
    /** An attempt of a task is about to begin. */
    enter: (id: TaskId) => {
      const chosen =
        base === undefined || record.rollout === undefined || takesNew(record.rollout.percent, id) ? newest : base
      chosen.attempts++
      return chosen
    },
    /** It has ended, or does not begin. */
    leave: (generation: Generation) =>
      Effect.suspend(() => {
        generation.attempts--
        return retire(generation)
      }),
    reload
  }
})

/** By configuration too: nodes of an earlier version of this program change it without a new number. */
const isSame = (one: Definition, other: Definition) =>
  one.version === other.version && Equal.equals(one.configuration, other.configuration)
