/** Decides, as a pure function, whether a condition holds for the results of a task's parents. */
import type { Schema } from "effect"
import type { Comparison, Condition } from "../protocol/Condition.ts"
import { pointed } from "./Pointer.ts"

/** `dataOf` gives a parent's result data; undefined when it has none. */
export const holds = (condition: Condition, dataOf: (parent: string) => Schema.Json | undefined): boolean => {
  if ("all" in condition) return condition.all.every((term) => holds(term, dataOf))
  if ("any" in condition) return condition.any.some((term) => holds(term, dataOf))
  if ("not" in condition) return !holds(condition.not, dataOf)
  return compares(condition, pointed(dataOf(condition.$result), condition.path ?? ""))
}

const compares = (comparison: Comparison, value: Schema.Json | undefined): boolean => {
  const { equals, exists, greater, in: among, less, not_equals: other } = comparison
  if (exists !== undefined) return (value !== undefined) === exists
  if (equals !== undefined) return value !== undefined && isEqual(value, equals)
  if (other !== undefined) return value === undefined || !isEqual(value, other)
  if (among !== undefined) return value !== undefined && among.some((entry) => isEqual(value, entry))
  return (greater !== undefined && isBefore(greater, value)) || (less !== undefined && isBefore(value, less))
}

const isBefore = (first: Schema.Json | undefined, second: Schema.Json | undefined): boolean =>
  (typeof first === "number" && typeof second === "number" && first < second) ||
  (typeof first === "string" && typeof second === "string" && first < second)

/** The same JSON value; the order of an object's keys says nothing. */
const isEqual = (one: Schema.Json, other: Schema.Json): boolean => {
  if (one === other) return true
  if (one === null || other === null || typeof one !== "object" || typeof other !== "object") return false
  if (Array.isArray(one) !== Array.isArray(other)) return false
  const keys = Object.keys(one)
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && isEqual(Reflect.get(one, key), Reflect.get(other, key)))
  )
}
