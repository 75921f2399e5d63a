/**
 * Owns the grammar of conditions: what a task of a graph may ask of its parents' results before it runs. A closed set of
 * comparisons and three ways to combine them, as JSON; nothing in it is ever executed.
 */
import { Schema } from "effect"
import * as Limits from "./Limits.ts"

/** JSON Pointer (RFC 6901): empty for the whole value. */
export const Pointer = Schema.String.check(
  Schema.isPattern(/^(\/[^]*)?$/u, { expected: 'a JSON Pointer: empty, or beginning with "/"' }),
  Schema.isMaxLength(Limits.pointerCharactersMax)
)

const operators = ["equals", "not_equals", "greater", "less", "in", "exists"] as const

/**
 * One comparison of a value in a parent's result data. A value that is not there equals nothing, is neither greater nor
 * less, and does not exist. Numbers compare with numbers, strings with strings by code unit; anything else is false.
 */
export const Comparison = Schema.Struct({
  $result: Schema.String.annotateKey({ description: "The parent, by its key in the graph." }),
  path: Schema.optionalKey(Pointer),
  equals: Schema.optionalKey(Schema.Json),
  not_equals: Schema.optionalKey(Schema.Json),
  greater: Schema.optionalKey(Schema.Union([Schema.Finite, Schema.String])),
  less: Schema.optionalKey(Schema.Union([Schema.Finite, Schema.String])),
  in: Schema.optionalKey(Schema.Array(Schema.Json)),
  exists: Schema.optionalKey(Schema.Boolean)
})
  .check(
    Schema.makeFilter(
      (comparison) => operators.filter((operator) => Object.hasOwn(comparison, operator)).length === 1,
      { expected: `exactly one of ${operators.join(", ")}` }
    )
  )
  .annotate({ identifier: "Comparison" })
export type Comparison = typeof Comparison.Type

export type Condition =
  | Comparison
  | { readonly all: ReadonlyArray<Condition> }
  | { readonly any: ReadonlyArray<Condition> }
  | { readonly not: Condition }

const inner = Schema.suspend((): Schema.Codec<Condition> => Condition)

/** A comparison, or a combination: `all` (true when empty), `any` (false when empty), `not`. */
export const Condition: Schema.Codec<Condition> = Schema.Union([
  Comparison,
  Schema.Struct({ all: Schema.Array(inner) }),
  Schema.Struct({ any: Schema.Array(inner) }),
  Schema.Struct({ not: inner })
]).annotate({ identifier: "Condition" })

/** Every comparison of a condition, in reading order. */
export const comparisonsOf = (condition: Condition): ReadonlyArray<Comparison> => {
  if ("all" in condition) return condition.all.flatMap(comparisonsOf)
  if ("any" in condition) return condition.any.flatMap(comparisonsOf)
  return "not" in condition ? comparisonsOf(condition.not) : [condition]
}

/** A condition with other words for the parents it names. */
export const renamed = (condition: Condition, rename: (parent: string) => string): Condition => {
  if ("all" in condition) return { all: condition.all.map((term) => renamed(term, rename)) }
  if ("any" in condition) return { any: condition.any.map((term) => renamed(term, rename)) }
  if ("not" in condition) return { not: renamed(condition.not, rename) }
  return { ...condition, $result: rename(condition.$result) }
}
