/**
 * The behaviour of one instance by version of its agent's definition: attempts that began under a version end under it, and
 * its resources are released once the last of them has ended and a newer one is in force.
 */
import { Effect, Exit, Scope } from "effect"
import { type BehaviourFailure, Behaviours, type RunAttempt, SettingsInvalid } from "./Behaviour.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"

/** The behaviour as one version of the definition opens it. */
export interface Generation {
  readonly agent: AgentRecord
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

  const open = Effect.fnUntraced(function* (agent: AgentRecord) {
    const behaviour = behaviours.get(agent.type)
    if (behaviour === undefined) {
      return yield* new SettingsInvalid({ message: `this node has no behaviour of type "${agent.type}"` })
    }
    const own = yield* Scope.fork(scope)
    const run = yield* behaviour.open(agent.configuration.settings ?? {}).pipe(
      Scope.provide(own),
      Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
    )
    const idempotent = behaviour.idempotent === true
    const generation: Generation = { agent, run, idempotent, scope: own, attempts: 0 }
    return generation
  })

  let current = yield* open(first)

  const retire = (generation: Generation) =>
    generation !== current && generation.attempts === 0 ? Scope.close(generation.scope, Exit.void) : Effect.void

  return {
    current: () => current,
    /** An attempt begins. */
    enter: () => {
      current.attempts++
      return current
    },
    /** It has ended. */
    leave: (generation: Generation) =>
      Effect.suspend(() => {
        generation.attempts--
        return retire(generation)
      }),
    /** Puts a newer version in force. Versions that open at the same time may do so in any order: the newest stays. */
    reload: (
      agent: AgentRecord
    ): Effect.Effect<void, SettingsInvalid | BehaviourFailure, Effect.Services<ReturnType<typeof open>>> =>
      Effect.suspend(() => {
        if (agent.version <= current.agent.version) return Effect.void
        return Effect.flatMap(open(agent), (next) => {
          if (next.agent.version <= current.agent.version) return Scope.close(next.scope, Exit.void)
          const before = current
          current = next
          return retire(before)
        })
      })
  }
})
