/**
 * Loads a module that shall be a behaviour into this process and says all that is wrong with it.
 *
 * Loading runs the module's own code, with all that this process may do: the node loads only modules that say
 * `isolated: false`, and processes of their own (`src/isolation/`) load the others.
 */
import { createRequire } from "node:module"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { Effect, Predicate, Result, Schema } from "effect"
import type { Behaviour } from "../actors/Behaviour.ts"
import * as PayloadSchema from "../actors/PayloadSchema.ts"
import { AgentType, Capability } from "../protocol/Agent.ts"
import * as Limits from "../protocol/Limits.ts"

/** The behaviour, or each mistake, written for the person who starts the program. */
export type Loaded = Result.Result<Behaviour, ReadonlyArray<string>>

/** `specifier` as `specifierOf` gives it. */
export const load = (specifier: string): Effect.Effect<Loaded> =>
  Effect.tryPromise(() => import(specifier)).pipe(
    Effect.match({
      onFailure: ({ cause }): Loaded =>
        Result.fail([`it cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`]),
      onSuccess: behaviourOf
    })
  )

/** What `import` takes. A package is looked for from the working directory first, then from datamcp's own place. */
export const specifierOf = (name: string): string => {
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

/** What a behaviour says of itself, besides its functions. */
export const Traits = Schema.Struct({
  type: AgentType,
  description: Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax)),
  capabilities: Schema.Array(Capability).check(Schema.isBetweenLength(1, Limits.capabilitiesMax)),
  idempotent: Schema.optionalKey(Schema.Boolean),
  isolated: Schema.optionalKey(Schema.Boolean)
})
export type Traits = typeof Traits.Type

const isFlag = (value: unknown) => value === undefined || Predicate.isBoolean(value)

const hasCheckableSchema = ({ payload_schema: schema }: Capability): boolean =>
  schema === undefined || PayloadSchema.problemsOf(schema, "payload_schema").length === 0

const shape: ReadonlyArray<readonly [name: keyof Behaviour, isRight: (value: unknown) => boolean, rule: string]> = [
  [
    "type",
    Schema.is(Traits.fields.type),
    "a name of 1 to 64 lower-case letters, digits, `_` or `-` that begins with a letter"
  ],
  ["description", Schema.is(Traits.fields.description), "a text"],
  [
    "capabilities",
    Schema.is(Traits.fields.capabilities),
    `an array of 1 to ${Limits.capabilitiesMax} capabilities such as { name: "text.statistics" }`
  ],
  [
    "capabilities",
    (value) => !Schema.is(Traits.fields.capabilities)(value) || value.every(hasCheckableSchema),
    "one whose every `payload_schema` is a JSON Schema that payloads can be checked by: see docs/agents.md"
  ],
  ["idempotent", isFlag, "true or false"],
  ["isolated", isFlag, "true or false"],
  ["check", Predicate.isFunction, "a function of the settings that returns an Effect"],
  ["open", Predicate.isFunction, "a function of the settings that returns an Effect"]
]

const isBehaviour = (candidate: unknown): candidate is Behaviour =>
  shape.every(([name, isRight]) => isRight(field(candidate, name)))
