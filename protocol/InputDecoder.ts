/**
 * Owns how a JSON value from outside becomes a command, the same at every door: closed (an unknown field is refused),
 * all faults at once, each with the field it stands in and the limit it passed.
 *
 * It never repeats the refused value, so that nothing secret or huge comes back in a problem or a log.
 */
import { Predicate, Result, Schema, SchemaIssue } from "effect"
import { InvalidInput } from "./Problem.ts"

/** Faults that one refusal lists at most. */
const faultsMax = 20

/** How commands are decoded: unknown fields are errors, and decoding goes on after the first one. */
export const closed = { onExcessProperty: "error", errors: "all" } as const

/**
 * Compiles a schema, once, into a decoder whose failure is the `InvalidInput` to answer. `at` is put in front of each
 * field, e.g. `items.3`.
 */
export const inputDecoder = <S extends Schema.ConstraintDecoder<unknown>>(schema: S) => {
  const decode = Schema.decodeUnknownResult(schema, closed)
  return (input: unknown, at = ""): Result.Result<S["Type"], InvalidInput> =>
    Result.mapError(decode(input), (error) => invalidInput(error.issue, input, at))
}

/** The problem that says what a schema refused. `input` is only looked at to tell which end of a range was passed. */
export const invalidInput = (issue: SchemaIssue.Issue, input: unknown, at = ""): InvalidInput => {
  const faults = faultsOf(issue, at === "" ? [] : [at], input)
  const errors = faults.slice(0, faultsMax)
  const [first] = errors
  const more = faults.length - 1
  const detail = first === undefined ? "" : first.field === "" ? first.message : `${first.field}: ${first.message}`
  return new InvalidInput({ detail: more > 0 ? `${detail} (and ${more} more)` : detail, errors })
}

type Fault = InvalidInput["errors"][number]

const faultsOf = (issue: SchemaIssue.Issue, path: ReadonlyArray<PropertyKey>, value: unknown): ReadonlyArray<Fault> => {
  if (issue._tag === "Pointer") {
    return faultsOf(issue.issue, [...path, ...issue.path], issue.path.reduce(childOf, value))
  }
  // A rule about several fields that says at which of them it was broken.
  if (issue._tag === "Filter" && issue.issue._tag === "Pointer") return faultsOf(issue.issue, path, value)
  if (issue._tag === "Encoding") return faultsOf(issue.issue, path, value)
  if ((issue._tag === "Composite" || issue._tag === "AnyOf") && issue.issues.length > 0) {
    return issue.issues.flatMap((part) => faultsOf(part, path, value))
  }
  return [fault(issue, path, issue._tag === "Filter" ? limitOf(issue, value) : undefined)]
}

const childOf = (value: unknown, key: PropertyKey): unknown =>
  Predicate.hasProperty(value, key) ? value[key] : undefined

const fault = (issue: SchemaIssue.Issue, path: ReadonlyArray<PropertyKey>, limit?: number): Fault => {
  const field = path.map(String).join(".").slice(0, fieldCharactersMax)
  const message = messageOf(issue)
  return limit === undefined ? { field, message } : { field, message, limit }
}

const fieldCharactersMax = 300

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => {
    if (issue._tag === "MissingKey") return "is missing"
    if (issue._tag === "InvalidType" && issue.ast._tag === "Objects") return "Expected object"
    if (issue._tag === "InvalidType" && issue.ast._tag === "Arrays") return "Expected array"
    return issue._tag === "UnexpectedKey" ? unexpected(issue) : SchemaIssue.defaultLeafHook(issue)
  }
})

/** Of a key that a record does not take: which keys it takes. Of any other: that there is no such field. */
const unexpected = ({ ast }: SchemaIssue.UnexpectedKey): string => {
  const rule = ast._tag === "Objects" ? ast.indexSignatures[0]?.parameter.checks?.[0]?.annotations : undefined
  const expected = Predicate.hasProperty(rule, "expected") ? rule.expected : undefined
  return typeof expected === "string" ? `its key must be ${expected}` : "is not a known field or key"
}

const messageOf = (issue: SchemaIssue.Issue): string => {
  const message = format(issue).issues[0]?.message ?? "is refused"
  if (!message.startsWith("Expected ")) return message
  const expected = message.slice("Expected ".length)
  return `must be ${plainNames.get(expected) ?? expected}`
}

const plainNames = new Map([
  ["object", "an object"],
  ["array", "an array"],
  ["string", "a string"],
  ["number", "a number"],
  ["boolean", "true or false"]
])

/** The bound that a length or range check refused the value by. */
const limitOf = (issue: SchemaIssue.Filter, value: unknown): number | undefined => {
  const bounds = childOf(issue.filter.annotations?.representation, "payload")
  const bound = (name: string) => {
    const found = childOf(bounds, name)
    return typeof found === "number" ? found : undefined
  }
  const minimum = bound("minimum")
  if (minimum !== undefined && Number(value) < minimum) return minimum
  return bound("maxLength") ?? bound("maxProperties") ?? bound("maximum") ?? minimum
}
