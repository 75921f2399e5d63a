/**
 * Owns the small part of JSON Schema (draft 2020-12) that says what a signal's payload must look like, and the check
 * against it. A shape is JSON itself: it is stored with the await, so that any node can refuse a payload at the door.
 *
 * Pure, total and bounded: it never runs a pattern, and depth is that of the shape. What a shape does not mention passes.
 */
import type { Schema } from "effect"

type Kind = "object" | "array" | "string" | "number" | "integer" | "boolean" | "null"

export interface JsonShape {
  readonly type?: Kind
  readonly description?: string
  readonly enum?: ReadonlyArray<Schema.Json>
  readonly properties?: { readonly [name: string]: JsonShape }
  readonly required?: ReadonlyArray<string>
  /** False refuses what `properties` does not name. */
  readonly additionalProperties?: boolean
  readonly items?: JsonShape
  readonly minItems?: number
  readonly maxItems?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
}

/** One place where a value breaks a shape. */
export interface ShapeFault {
  /** Path with dots; empty for the whole value. */
  readonly field: string
  readonly message: string
}

/** Faults that are told at most. */
const faultsMax = 20

/** Where the value breaks the shape, at most 20 places; none when it fits. */
export const faultsOf = (shape: JsonShape, value: Schema.Json): ReadonlyArray<ShapeFault> =>
  walk(shape, value, "").slice(0, faultsMax)

const walk = (shape: JsonShape, value: Schema.Json, field: string): ReadonlyArray<ShapeFault> => {
  const wrong = (message: string): ReadonlyArray<ShapeFault> => [{ field, message }]
  if (shape.type !== undefined && !isOf(shape.type, value)) return wrong(`must be ${names[shape.type]}`)
  if (shape.enum !== undefined && !shape.enum.some((one) => JSON.stringify(one) === JSON.stringify(value))) {
    return wrong(`must be one of ${shape.enum.map((one) => JSON.stringify(one)).join(", ")}`)
  }
  if (typeof value === "string") return lengths(shape, Array.from(value).length, "characters", field)
  if (typeof value === "number") {
    if (shape.minimum !== undefined && value < shape.minimum) return wrong(`must be at least ${shape.minimum}`)
    if (shape.maximum !== undefined && value > shape.maximum) return wrong(`must be at most ${shape.maximum}`)
    return []
  }
  if (isList(value)) {
    const { items, maxItems, minItems } = shape
    if (minItems !== undefined && value.length < minItems) return wrong(`must have at least ${minItems} items`)
    if (maxItems !== undefined && value.length > maxItems) return wrong(`must have at most ${maxItems} items`)
    return items === undefined ? [] : value.flatMap((item, index) => walk(items, item, within(field, String(index))))
  }
  return value !== null && typeof value === "object" ? walkObject(shape, value, field) : []
}

const walkObject = (shape: JsonShape, value: Schema.JsonObject, field: string): ReadonlyArray<ShapeFault> => {
  const faults: Array<ShapeFault> = []
  const { properties = {} } = shape
  for (const name of shape.required ?? []) {
    if (!Object.hasOwn(value, name)) faults.push({ field: within(field, name), message: "is missing" })
  }
  for (const [name, part] of Object.entries(value)) {
    const known = Object.hasOwn(properties, name) ? properties[name] : undefined
    if (known !== undefined) faults.push(...walk(known, part, within(field, name)))
    else if (shape.additionalProperties === false) {
      faults.push({ field: within(field, name.slice(0, 64)), message: "is not a known field" })
    }
  }
  return faults
}

const lengths = (shape: JsonShape, length: number, unit: string, field: string): ReadonlyArray<ShapeFault> => {
  const { maxLength, minLength } = shape
  if (minLength !== undefined && length < minLength) {
    return [{ field, message: `must have at least ${minLength} ${unit}` }]
  }
  return maxLength !== undefined && length > maxLength
    ? [{ field, message: `must have at most ${maxLength} ${unit}` }]
    : []
}

const isList = (value: Schema.Json): value is ReadonlyArray<Schema.Json> => Array.isArray(value)

const isOf = (kind: Kind, value: Schema.Json): boolean => {
  switch (kind) {
    case "object":
      return value !== null && typeof value === "object" && !isList(value)
    case "array":
      return isList(value)
    case "integer":
      return Number.isInteger(value)
    case "null":
      return value === null
    case "string":
    case "number":
    case "boolean":
      return typeof value === kind
  }
}

const names: { readonly [K in Kind]: string } = {
  object: "an object",
  array: "an array",
  string: "a string",
  number: "a number",
  integer: "a whole number",
  boolean: "true or false",
  null: "null"
}

const within = (field: string, name: string) => (field === "" ? name : `${field}.${name}`)
