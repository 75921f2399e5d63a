/**
 * Assembles the behaviours that this node can run: the built-in ones, and those of modules that the configuration names.
 *
 * A module exports one `Behaviour` (actors/Behaviour.ts), as its default or as `behaviour`. Its shape is checked before
 * the node serves anything, and all mistakes are told at once. It cannot take the name of another one.
 */
import { createRequire } from "node:module"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { Effect, Layer, Predicate, Result, Schema } from "effect"
import { type Behaviour, Behaviours } from "../actors/Behaviour.ts"
import { approval } from "../actors/behaviours/Approval.ts"
import { echo } from "../actors/behaviours/Echo.ts"
import { http } from "../actors/behaviours/Http.ts"
import { sql } from "../actors/behaviours/Sql.ts"
import { AgentType, Capability } from "../protocol/Agent.ts"
import * as Limits from "../protocol/Limits.ts"

/** Modules that cannot be used. `message` is written for the person who starts the program. */
export class BehaviourModulesInvalid extends Schema.TaggedError<BehaviourModulesInvalid>()("BehaviourModulesInvalid", {
  mistakes: Schema.Array(Schema.String)
}) {
  override get message() {
    return `DATAMCP_BEHAVIOURS names modules that cannot be used:\n${this.mistakes.map((mistake) => `  ${mistake}`).join("\n")}`
  }
}

const builtIn: ReadonlyArray<Behaviour> = [approval, echo, http, sql]

/**
 * `modules`: paths that begin with `.` or `/`, from the working directory, or package names, as seen from there. Fails
 * with `BehaviourModulesInvalid`, which names each module and what is wrong with it.
 */
export const layer = (modules: ReadonlyArray<string>): Layer.Layer<Behaviours, BehaviourModulesInvalid> =>
  Layer.effect(
    Behaviours,
    Effect.gen(function* () {
      const byType = new Map(builtIn.map((behaviour) => [behaviour.type, { behaviour, from: "datamcp itself" }]))
      const mistakes: Array<string> = []
      for (const name of new Set(modules)) {
        const loaded = yield* load(name)
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
      return Behaviours.of({ get: (type) => byType.get(type)?.behaviour, types: [...byType.keys()] })
    })
  )

type Loaded = Result.Result<Behaviour, ReadonlyArray<string>>

const load = (name: string): Effect.Effect<Loaded> =>
  Effect.tryPromise(() => import(specifierOf(name))).pipe(
    Effect.match({
      onFailure: ({ cause }): Loaded =>
        Result.fail([`it cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`]),
      onSuccess: behaviourOf
    })
  )

/** What `import` takes. A package is looked for from the working directory first, then from datamcp's own place. */
const specifierOf = (name: string): string => {
  if (/^(\.|\/|[A-Za-z]:[\\/])/u.test(name)) return pathToFileURL(resolve(name)).href
  const found = Result.try(() => createRequire(pathToFileURL(resolve("package.json"))).resolve(name))
  return Result.isSuccess(found) ? pathToFileURL(found.success).href : name
}

const behaviourOf = (loaded: unknown): Loaded => {
  const candidate = field(loaded, "default") ?? field(loaded, "behaviour")
  if (!Predicate.isObject(candidate)) {
    return Result.fail(["it exports no behaviour: export one as default or as `behaviour`"])
  }
  if (isBehaviour(candidate)) return Result.succeed(candidate)
  return Result.fail(
    shape.flatMap(([name, isRight, rule]) => {
      const value = field(candidate, name)
      if (isRight(value)) return []
      return [`its field \`${name}\` ${value === undefined ? "is missing" : "is wrong"}: it must be ${rule}`]
    })
  )
}

const field = (value: unknown, name: string): unknown => (Predicate.hasProperty(value, name) ? value[name] : undefined)

const shape: ReadonlyArray<readonly [name: keyof Behaviour, isRight: (value: unknown) => boolean, rule: string]> = [
  ["type", Schema.is(AgentType), "a name of 1 to 64 lower-case letters, digits, `_` or `-` that begins with a letter"],
  ["description", Schema.is(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))), "a text"],
  [
    "capabilities",
    Schema.is(Schema.Array(Capability).check(Schema.isBetweenLength(1, Limits.capabilitiesMax))),
    `an array of 1 to ${Limits.capabilitiesMax} capabilities such as { name: "text.statistics" }`
  ],
  ["check", Predicate.isFunction, "a function of the settings that returns an Effect"],
  ["open", Predicate.isFunction, "a function of the settings that returns an Effect"]
]

const isBehaviour = (candidate: unknown): candidate is Behaviour =>
  shape.every(([name, isRight]) => isRight(field(candidate, name)))
