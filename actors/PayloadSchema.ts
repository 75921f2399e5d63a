/**
 * Checks payloads against the JSON Schema (draft 2020-12) that a capability declares, and such schemas themselves.
 *
 * Both come from users, so that neither may cost more than a bound: the keywords are a closed set, a schema that says
 * anything else is refused when it is defined, and a check that takes too many steps or goes too deep refuses the payload.
 * Nothing is compiled to code, and no `RegExp` is made of a pattern; the only thing prepared is what a pattern says, once per schema.
 * Pure: the same schema and payload give the same answer on every node.
 */
import type { Schema } from "effect"
import * as Limits from "../protocol/Limits.ts"
import type { InvalidField } from "../protocol/Problem.ts"
import { storable } from "../protocol/Storable.ts"
import * as PayloadPattern from "./PayloadPattern.ts"

/** One rule that a payload breaks. */
export interface Violation {
  /** Where in the payload, e.g. `payload.address.0.city`. */
  readonly field: string
  /** Where in the schema, as JSON Pointer of the keyword, e.g. `/properties/city/minLength`; `limit` for a check that ends. */
  readonly rule: string
  readonly message: string
}

type Json = Schema.Json
type JsonObject = { readonly [key: string]: Json }

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value)
const isList = (value: Json | undefined): value is ReadonlyArray<Json> => Array.isArray(value)
const isCount = (value: Json): boolean => typeof value === "number" && Number.isSafeInteger(value) && value >= 0

const types: ReadonlySet<string> = new Set(["array", "boolean", "integer", "null", "number", "object", "string"])
const draft = "https://json-schema.org/draft/2020-12/schema"
const referenceForm = /^#(?:\/\$defs\/(?<name>[A-Za-z0-9_.-]{1,64}))?$/u

/** The parts of a schema that hold schemas themselves. */
const inner: Readonly<Record<string, "one" | "list" | "named">> = {
  $defs: "named",
  properties: "named",
  additionalProperties: "one",
  items: "one",
  not: "one",
  prefixItems: "list",
  allOf: "list",
  anyOf: "list",
  oneOf: "list"
}

/** What each other keyword must be; those that only describe may be anything. */
const forms: Readonly<Record<string, readonly [holds: (value: Json) => boolean, form: string]>> = {
  $schema: [(value) => value === draft, `must be "${draft}"`],
  $ref: [(value) => typeof value === "string" && referenceForm.test(value), "must be # or #/$defs/NAME"],
  type: [
    (value) => {
      const named = isList(value) ? value : [value]
      return named.length > 0 && named.every((each) => typeof each === "string" && types.has(each))
    },
    `must be one of ${[...types].join(", ")}, or a list of them`
  ],
  enum: [(value) => isList(value) && value.length > 0, "must be a list that is not empty"],
  const: [() => true, ""],
  required: [
    (value) => isList(value) && value.every((name) => typeof name === "string"),
    "must be a list of names of properties"
  ],
  pattern: [() => true, ""],
  ...Object.fromEntries(
    ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"].map((name) => [
      name,
      [isCount, "must be a whole number from 0"] as const
    ])
  ),
  ...Object.fromEntries(
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].map((name) => [
      name,
      [(value: Json) => typeof value === "number", "must be a number"] as const
    ])
  ),
  multipleOf: [(value) => typeof value === "number" && value > 0, "must be a number above 0"],
  ...Object.fromEntries(
    ["title", "description", "default", "examples", "$comment"].map((name) => [name, [() => true, ""] as const])
  )
}

/** Every keyword that a schema may have. */
export const keywords: ReadonlyArray<string> = [...Object.keys(inner), ...Object.keys(forms)].toSorted()

/** What is wrong with a schema, each with its place in it under `field`; nothing when payloads can be checked by it. */
export const problemsOf = (schema: Json, field: string): ReadonlyArray<InvalidField> => {
  const characters = JSON.stringify(schema).length
  const limit = Limits.payloadSchemaCharactersMax
  if (characters > limit) {
    return [{ field, message: `has ${characters} characters as JSON; at most ${limit} are taken`, limit }]
  }
  const definitions = isObject(schema) && isObject(schema["$defs"]) ? schema["$defs"] : {}
  const problems: Array<InvalidField> = []
  const visit = (part: Json, at: string, depth: number): void => {
    const refuse = (message: string, of = at) => problems.push({ field: of, message })
    if (depth > Limits.payloadSchemaDepthMax) {
      problems.push({ field: at, message: "is nested too deeply", limit: Limits.payloadSchemaDepthMax })
      return
    }
    if (typeof part === "boolean") return
    if (!isObject(part)) {
      refuse("must be a JSON Schema: an object, true or false")
      return
    }
    for (const [keyword, value] of Object.entries(part)) {
      const here = `${at}.${clipped(keyword)}`
      const holds = Object.hasOwn(inner, keyword) ? inner[keyword] : undefined
      const form = Object.hasOwn(forms, keyword) ? forms[keyword] : undefined
      if (keyword === "$defs" && depth > 0) refuse("may only stand at the top of the schema", here)
      else if (holds === "one") visit(value, here, depth + 1)
      else if (holds === "list") {
        if (!isList(value) || value.length === 0) refuse("must be a list of schemas that is not empty", here)
        else for (const [index, each] of value.entries()) visit(each, `${here}.${index}`, depth + 1)
      } else if (holds === "named") {
        if (!isObject(value)) refuse("must be an object of schemas", here)
        else for (const [name, each] of Object.entries(value)) visit(each, `${here}.${clipped(name)}`, depth + 1)
      } else if (keyword === "pattern") {
        const problem = PayloadPattern.problemOf(value)
        if (problem !== undefined) refuse(problem, here)
      } else if (form === undefined)
        refuse(`is no keyword that is checked here; there are: ${keywords.join(", ")}`, here)
      else if (!form[0](value)) refuse(form[1], here)
      else if (keyword === "$ref") {
        const name = definitionName(value)
        if (name !== undefined && !Object.hasOwn(definitions, name)) refuse(`there is no "${name}" in $defs`, here)
      }
    }
  }
  visit(schema, field, 0)
  if (problems.length === 0 && neverEnds(schema, definitions)) {
    problems.push({ field, message: "refers to itself at the same place of the payload, which never ends" })
  }
  return problems.slice(0, Limits.payloadViolationsMax)
}

/** Whether some `$ref` leads back to its own schema without going deeper into the payload: no payload would ever fit. */
const neverEnds = (root: Json, definitions: JsonObject): boolean => {
  const done = new Set<Json>()
  const open = new Set<Json>()
  const leadsBack = (part: Json): boolean => {
    if (!isObject(part) || done.has(part)) return false
    if (open.has(part)) return true
    open.add(part)
    const back = samePlace(part).some(leadsBack)
    open.delete(part)
    done.add(part)
    return back
  }
  const samePlace = (part: JsonObject): ReadonlyArray<Json> => {
    const { $ref, allOf, anyOf, not, oneOf } = part
    const name = $ref === undefined ? undefined : definitionName($ref)
    const target = $ref === undefined ? [] : [name === undefined ? root : (definitions[name] ?? true)]
    return [...target, ...[allOf, anyOf, oneOf].flatMap((each) => (isList(each) ? each : [])), not ?? true]
  }
  const everyPart = (part: Json): boolean =>
    leadsBack(part) || (typeof part === "object" && part !== null && Object.values(part).some(everyPart))
  return everyPart(root)
}

/** What a payload breaks of a schema that `problemsOf` found nothing wrong with, at most `payloadViolationsMax`. */
export const violationsOf = (schema: Json, payload: Json, budget: Budget = wholeBudget()): ReadonlyArray<Violation> =>
  checked(schema, payload, budget).violations

/** Steps that are left. Checks that share one take no more together than one alone may. */
export interface Budget {
  left: number
}

export const wholeBudget = (): Budget => ({ left: Limits.payloadCheckStepsMax })

/** The same with the steps that it took. */
export const checked = (
  schema: Json,
  payload: Json,
  budget: Budget = wholeBudget()
): { readonly violations: ReadonlyArray<Violation>; readonly steps: number } => {
  const check = new Check(schema, budget)
  const violations: Array<Violation> = []
  check.apply(schema, payload, { rule: "", field: "payload", depth: 0, violations })
  return { violations: check.ended === undefined ? violations : [check.ended], steps: check.steps }
}

/** Where a part of the schema meets a part of the payload, and where what is found goes. */
interface Place {
  readonly rule: string
  readonly field: string
  readonly depth: number
  readonly violations: Array<Violation>
}

/** One check, with what it may still cost. Once it has `ended` everything in it ends. */
class Check {
  readonly root: Json
  readonly budget: Budget
  steps = 0
  ended: Violation | undefined

  constructor(root: Json, budget: Budget) {
    this.root = root
    this.budget = budget
  }

  apply(schema: Json, value: Json, place: Place): boolean {
    const { field, violations } = place
    if (!this.charge(1, field)) return false
    if (place.depth > Limits.payloadCheckDepthMax) {
      return this.end(field, `payload and schema are nested more than ${Limits.payloadCheckDepthMax} deep`)
    }
    if (!isObject(schema)) {
      if (schema !== false) return true
      add(violations, { field, rule: place.rule, message: "must not be there" })
      return false
    }
    let fits = true
    for (const [keyword, argument] of Object.entries(schema)) {
      if (!this.charge(1, field)) return false
      if (!this.keyword(keyword, argument, schema, value, { ...place, rule: `${place.rule}/${escaped(keyword)}` })) {
        fits = false
      }
      if (this.ended !== undefined) return false
    }
    return fits
  }

  private keyword(keyword: string, argument: Json, schema: JsonObject, value: Json, at: Place): boolean {
    const broken = (message: string) => {
      add(at.violations, { field: at.field, rule: at.rule, message })
      return false
    }
    const bound = (holds: boolean, message: string) => holds || broken(`${message} ${JSON.stringify(argument)}`)
    switch (keyword) {
      case "$ref": {
        const name = definitionName(argument)
        const target = name === undefined ? this.root : ownOf(ownOf(this.root, "$defs"), name)
        const rule = name === undefined ? "" : `/$defs/${name}`
        return this.apply(target ?? false, value, { ...at, rule, depth: at.depth + 1 })
      }
      case "type": {
        const wanted = isList(argument) ? argument : [argument]
        return wanted.some((type) => isOfType(value, type)) || broken(`must be of type ${wanted.join(" or ")}`)
      }
      case "const":
        return this.isSame(argument, value, at) || broken(`must be ${clipped(JSON.stringify(argument))}`)
      case "enum":
        return (
          !isList(argument) ||
          argument.some((each) => this.isSame(each, value, at)) ||
          broken(`must be one of ${clipped(argument.map((each) => JSON.stringify(each)).join(", "))}`)
        )
      case "allOf":
        return this.count(argument, value, at, at.violations) === (isList(argument) ? argument.length : 0)
      case "anyOf":
        return this.count(argument, value, at, []) > 0 || broken("fits none of the alternatives")
      case "oneOf": {
        const fitting = this.count(argument, value, at, [])
        return fitting === 1 || broken(`must fit exactly one of the alternatives, and fits ${fitting}`)
      }
      case "not":
        return !this.apply(argument, value, { ...at, depth: at.depth + 1, violations: [] }) || broken("must not fit")
    }
    if (typeof value === "number" && typeof argument === "number") {
      switch (keyword) {
        case "minimum":
          return bound(value >= argument, "must be at least")
        case "maximum":
          return bound(value <= argument, "must be at most")
        case "exclusiveMinimum":
          return bound(value > argument, "must be above")
        case "exclusiveMaximum":
          return bound(value < argument, "must be below")
        case "multipleOf":
          return bound(isMultiple(value, argument), "must be a multiple of")
      }
    } else if (typeof value === "string") {
      switch (keyword) {
        case "minLength":
          return bound(this.characters(value, at) >= Number(argument), "has fewer characters than")
        case "maxLength":
          return bound(this.characters(value, at) <= Number(argument), "has more characters than")
        case "pattern": {
          const source = typeof argument === "string" ? argument : ""
          const pattern = PayloadPattern.of(schema, source)
          if (pattern === undefined) return true
          if (!this.charge(PayloadPattern.stepsOf(pattern, value), at.field)) return false
          return PayloadPattern.matches(pattern, value) || broken(`must fit ${source}`)
        }
      }
    } else if (isList(value)) {
      switch (keyword) {
        case "minItems":
          return bound(value.length >= Number(argument), "has fewer items than")
        case "maxItems":
          return bound(value.length <= Number(argument), "has more items than")
        case "prefixItems":
          return this.each(at, isList(argument) ? argument.entries() : [], (index, each) =>
            index < value.length ? [each, value[index] ?? null] : undefined
          )
        case "items": {
          const from = isList(schema["prefixItems"]) ? schema["prefixItems"].length : 0
          return this.each({ ...at, whole: true }, value.entries(), (index, each) =>
            index < from ? undefined : [argument, each]
          )
        }
      }
    } else if (isObject(value)) {
      switch (keyword) {
        case "minProperties":
          return bound(Object.keys(value).length >= Number(argument), "has fewer properties than")
        case "maxProperties":
          return bound(Object.keys(value).length <= Number(argument), "has more properties than")
        case "required": {
          let fits = true
          for (const name of isList(argument) ? argument : []) {
            if (!this.charge(1, at.field)) return false
            if (typeof name !== "string" || Object.hasOwn(value, name)) continue
            add(at.violations, { field: `${at.field}.${clipped(name)}`, rule: at.rule, message: "is required" })
            fits = false
          }
          return fits
        }
        case "properties":
          return this.each(at, isObject(argument) ? Object.entries(argument) : [], (name, each) =>
            Object.hasOwn(value, name) ? [each, value[name] ?? null] : undefined
          )
        case "additionalProperties": {
          const known = schema["properties"]
          return this.each({ ...at, whole: true }, Object.entries(value), (name, each) =>
            isObject(known) && Object.hasOwn(known, name) ? undefined : [argument, each]
          )
        }
      }
    }
    return true
  }

  /** Applies a schema to a part of the value for each entry that has both; all of them, so that all is told at once. */
  private each<K extends string | number>(
    at: Place & { readonly whole?: boolean },
    entries: Iterable<readonly [K, Json]>,
    pairOf: (key: K, each: Json) => readonly [schema: Json, value: Json] | undefined
  ): boolean {
    let fits = true
    for (const [key, each] of entries) {
      if (!this.charge(1, at.field)) return false
      const pair = pairOf(key, each)
      if (pair === undefined) continue
      const rule = at.whole === true ? at.rule : `${at.rule}/${escaped(String(key))}`
      const field = `${at.field}.${clipped(String(key))}`
      if (!this.apply(pair[0], pair[1], { rule, field, depth: at.depth + 1, violations: at.violations })) fits = false
      if (this.ended !== undefined) return false
    }
    return fits
  }

  /** How many of the alternatives a value fits. */
  private count(alternatives: Json, value: Json, at: Place, violations: Array<Violation>): number {
    let fitting = 0
    for (const [index, each] of (isList(alternatives) ? alternatives : []).entries()) {
      const place = { ...at, rule: `${at.rule}/${index}`, depth: at.depth + 1, violations }
      if (this.apply(each, value, place)) fitting++
      if (this.ended !== undefined) return 0
    }
    return fitting
  }

  private isSame(one: Json, other: Json, at: Place): boolean {
    if (!this.charge(typeof one === "string" ? 1 + one.length / charactersPerStep : 1, at.field)) return false
    if (isList(one)) {
      return (
        isList(other) &&
        one.length === other.length &&
        one.every((each, index) => this.isSame(each, other[index] ?? null, at))
      )
    }
    if (!isObject(one)) return one === other
    if (!isObject(other)) return false
    const names = Object.keys(one)
    return (
      names.length === Object.keys(other).length &&
      names.every((name) => Object.hasOwn(other, name) && this.isSame(one[name] ?? null, other[name] ?? null, at))
    )
  }

  /** Characters as JSON Schema counts them: code points. */
  private characters(text: string, at: Place): number {
    if (!this.charge(text.length / charactersPerStep, at.field)) return 0
    let pairs = 0
    for (let index = 1; index < text.length; index++) {
      if (isTrail(text.charCodeAt(index)) && isLead(text.charCodeAt(index - 1))) pairs++
    }
    return text.length - pairs
  }

  private charge(steps: number, field: string): boolean {
    if (this.ended !== undefined) return false
    this.steps += steps
    this.budget.left -= steps
    const limit = Limits.payloadCheckStepsMax
    return this.budget.left >= 0 || this.end(field, `takes more than ${limit} steps to check`)
  }

  private end(field: string, message: string): false {
    this.ended ??= { field, rule: "limit", message }
    return false
  }
}

/** Characters of a text that are looked at for the cost of one step. */
const charactersPerStep = 16

const isLead = (code: number) => code >= 0xd8_00 && code <= 0xdb_ff
const isTrail = (code: number) => code >= 0xdc_00 && code <= 0xdf_ff

const add = (violations: Array<Violation>, violation: Violation) => {
  if (violations.length < Limits.payloadViolationsMax) violations.push(violation)
}

const ownOf = (value: Json | undefined, name: string): Json | undefined =>
  isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined

const definitionName = (reference: Json): string | undefined =>
  typeof reference === "string" ? referenceForm.exec(reference)?.groups?.["name"] : undefined

const isOfType = (value: Json, type: Json): boolean => {
  if (type === "null") return value === null
  if (type === "array") return isList(value)
  if (type === "object") return isObject(value)
  if (type === "integer") return Number.isInteger(value)
  return typeof value === type
}

/** Decimal fractions are no binary ones: 0.3 is a multiple of 0.1. */
const isMultiple = (value: number, of: number): boolean => {
  const times = value / of
  return Number.isFinite(times) && Math.abs(times - Math.round(times)) <= Math.abs(times) * 2 * Number.EPSILON
}

const escaped = (text: string) => clipped(text).replaceAll("~", "~0").replaceAll("/", "~1")

/** Names of properties are as long as their sender likes. */
const clipped = (text: string) => storable(text.length <= 100 ? text : `${text.slice(0, 100)}...`)
