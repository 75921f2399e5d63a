/**
 * Assembles the behaviours that this node can run: the built-in ones, and those of modules that the configuration names.
 *
 * A module exports one `Behaviour` (actors/Behaviour.ts), as its default or as `behaviour`. Its shape is checked before
 * the node serves anything, and all mistakes are told at once. It cannot take the name of another one. Unless it says
 * `isolated: false`, its code never runs in this process: neither now nor later.
 */
import { Effect, Layer, Result, Schema } from "effect"
import { type Behaviour, Behaviours } from "../actors/Behaviour.ts"
import { approval } from "../actors/behaviours/Approval.ts"
import { echo } from "../actors/behaviours/Echo.ts"
import { http } from "../actors/behaviours/Http.ts"
import { sql } from "../actors/behaviours/Sql.ts"
import * as Metrics from "../protocol/Metrics.ts"
import * as BehaviourModule from "./BehaviourModule.ts"
import * as IsolatedBehaviour from "./isolation/IsolatedBehaviour.ts"

/** Modules that cannot be used. `message` is written for the person who starts the program. */
export class BehaviourModulesInvalid extends Schema.TaggedError<BehaviourModulesInvalid>()("BehaviourModulesInvalid", {
  mistakes: Schema.Array(Schema.String)
}) {
  override get message() {
    return `DATAMCP_BEHAVIOURS names modules that cannot be used:\n${this.mistakes.map((mistake) => `  ${mistake}`).join("\n")}`
  }
}

const builtIn: ReadonlyArray<Behaviour> = [approval, echo, http, sql]

const builtInTypes = new Set(builtIn.map(({ type }) => type))

/** What isolated behaviours get of this node. */
export interface IsolationOptions {
  /** Most attempts of isolated behaviours that run on the node at a time. */
  readonly processesMax: number
  /** All that their processes get to know of the node's environment. */
  readonly environment: Readonly<Record<string, string>>
}

/** Modules that are looked at at a time: each takes a process of its own. */
const loadsAtATime = 4

/**
 * `modules`: paths that begin with `.` or `/`, from the working directory, or package names, as seen from there. Fails
 * with `BehaviourModulesInvalid`, which names each module and what is wrong with it.
 */
export const layer = (
  modules: ReadonlyArray<string>,
  options: IsolationOptions
): Layer.Layer<Behaviours, BehaviourModulesInvalid> =>
  Layer.effect(
    Behaviours,
    Effect.gen(function* () {
      const host = IsolatedBehaviour.makeHost(options)
      yield* Metrics.gaugeReads(Metrics.isolatedProcesses, () => host.alive.size)
      const byType = new Map(builtIn.map((behaviour) => [behaviour.type, { behaviour, from: "datamcp itself" }]))
      const mistakes: Array<string> = []
      const found = yield* Effect.forEach(
        new Set(modules),
        (name) => Effect.map(Effect.result(behaviourOf(host, name)), (loaded) => ({ name, loaded })),
        { concurrency: loadsAtATime }
      )
      for (const { loaded, name } of found) {
        if (Result.isFailure(loaded)) {
          mistakes.push(...loaded.failure.map((mistake) => `${name}: ${mistake}`))
          continue
        }
        const behaviour = loaded.success
        const taken = byType.get(behaviour.type)
        if (taken === undefined) byType.set(behaviour.type, { behaviour, from: name })
        else mistakes.push(`${name}: its type "${behaviour.type}" is that of ${taken.from}; choose another`)
      }
      if (mistakes.length > 0) return yield* new BehaviourModulesInvalid({ mistakes })
      return Behaviours.of({
        get: (type) => byType.get(type)?.behaviour,
        types: [...byType.keys()],
        builtIn: builtInTypes
      })
    })
  )

/** The node itself loads only what wants to run in it; a process of its own finds that out. */
const behaviourOf = (
  host: IsolatedBehaviour.IsolationHost,
  name: string
): Effect.Effect<Behaviour, ReadonlyArray<string>> => {
  const module = BehaviourModule.specifierOf(name)
  return Effect.flatMap(IsolatedBehaviour.describe(host, module), (traits) =>
    traits.isolated === false
      ? Effect.flatMap(BehaviourModule.load(module), Effect.fromResult)
      : Effect.succeed(IsolatedBehaviour.make(host, module, traits))
  )
}
