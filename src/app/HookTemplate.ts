/**
 * Decides, as pure functions, which templates of a task a hook may have, and what a request makes of one. The forms stand
 * in `protocol/Hook.ts`; nothing else of a template is looked at, and nothing of a request is ever run.
 */
import { Result, type Schema } from "effect"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { type InvalidInput, invalidField } from "../../protocol/Problem.ts"
import { SubmitTask } from "../../protocol/Task.ts"

type Json = Schema.Json

/** What a template is filled in from. */
export interface HookRequest {
  readonly body: Json
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
}

/** Most bytes of a template as JSON. */
const templateBytesMax = 64 * 1024

/** Fields of SubmitTask that a sender must not decide, or that mean nothing here. */
const refusedFields: Readonly<Record<string, string>> = {
  idempotency_key: "is made of the request: see idempotency_header",
  dependencies: "cannot stand in a template",
  parent_id: "cannot stand in a template"
}

/** Headers that a template cannot read: they are between the sender and this server. */
const refusedHeaders: ReadonlySet<string> = new Set(["authorization", "cookie", "proxy-authorization"])

const decodeTask = inputDecoder(SubmitTask)

/** Why a template is refused: its forms are checked, and every field without one as `tasks.submit` would. */
export const checkTemplate = (template: Readonly<Record<string, Json>>): Result.Result<void, InvalidInput> => {
  if (JSON.stringify(template).length > templateBytesMax) {
    return Result.fail(invalidField("task", `has more than ${templateBytesMax} bytes as JSON`, templateBytesMax))
  }
  const refused = Object.keys(template).find((field) => field in refusedFields)
  if (refused !== undefined) return Result.fail(invalidField(`task.${refused}`, refusedFields[refused] ?? ""))
  for (const [field, value] of Object.entries(template)) {
    const fault = faultOf(value, `task.${field}`)
    if (fault !== undefined) return Result.fail(fault)
  }
  const unknown = Object.keys(template).find((field) => !(field in SubmitTask.fields))
  if (unknown !== undefined) return Result.fail(invalidField(`task.${unknown}`, "is not a known field"))
  const constant = Object.fromEntries(Object.entries(template).filter(([, value]) => !holdsForm(value)))
  return Result.map(decodeTask(constant, "task"), () => undefined)
}

/** The task that a request asks for. `InvalidInput` when something that the template names is not in it. */
export const fillTemplate = (template: Json, request: HookRequest): Result.Result<SubmitTask, InvalidInput> =>
  Result.flatMap(fill(template, request), (task) => decodeTask(task))

/** The one form that an object is; undefined when it is none. */
const formOf = (value: Json): "$body" | "$header" | "$text" | "$literal" | undefined => {
  if (!isObject(value)) return undefined
  const [first, ...more] = Object.keys(value).filter((key) => key.startsWith("$") && key !== "$result")
  return more.length === 0 ? forms.find((form) => form === first) : undefined
}

const forms = ["$body", "$header", "$text", "$literal"] as const

const isObject = (value: Json): value is Schema.JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const holdsForm = (value: Json): boolean =>
  Array.isArray(value)
    ? value.some(holdsForm)
    : isObject(value) && (formOf(value) !== undefined || Object.values(value).some(holdsForm))

const faultOf = (value: Json, at: string): InvalidInput | undefined => {
  if (Array.isArray(value)) {
    return firstFault(value.map((item, index) => [item, `${at}.${index}`] as const))
  }
  if (!isObject(value)) return undefined
  const marks = Object.keys(value).filter((key) => key.startsWith("$") && key !== "$result")
  const [mark] = marks
  if (mark === undefined) {
    return firstFault(Object.entries(value).map(([key, child]) => [child, `${at}.${key}`] as const))
  }
  const form = formOf(value)
  if (form === undefined) {
    return invalidField(`${at}.${mark}`, `is no form of a template; there are ${forms.join(", ")}, one to an object`)
  }
  const others = Object.keys(value).filter((key) => key !== form && !(key === "default" && takesDefault.has(form)))
  if (others[0] !== undefined) return invalidField(`${at}.${others[0]}`, `does not belong beside ${form}`)
  const given = value[form]
  switch (form) {
    case "$literal":
      return undefined
    case "$body":
      return typeof given === "string" && /^(\/([^~]|~[01])*)?$/u.test(given)
        ? undefined
        : invalidField(
            `${at}.$body`,
            'must be a JSON Pointer (RFC 6901), such as "/repository/name", or "" for all of it'
          )
    case "$header":
      return typeof given === "string" &&
        /^[A-Za-z0-9-]{1,64}$/u.test(given) &&
        !refusedHeaders.has(given.toLowerCase())
        ? undefined
        : invalidField(`${at}.$header`, "must be the name of a header that carries no credential")
    case "$text":
      return Array.isArray(given) && given.every((part) => typeof part === "string" || isPart(part))
        ? firstFault(given.map((part, index) => [part, `${at}.$text.${index}`] as const))
        : invalidField(`${at}.$text`, "must be an array of texts, $body and $header")
  }
}

const isPart = (value: Json) => formOf(value) === "$body" || formOf(value) === "$header"

const takesDefault: ReadonlySet<string> = new Set(["$body", "$header"])

const firstFault = (values: ReadonlyArray<readonly [value: Json, at: string]>): InvalidInput | undefined => {
  for (const [value, at] of values) {
    const fault = faultOf(value, at)
    if (fault !== undefined) return fault
  }
  return undefined
}

type Filled = Result.Result<Json, InvalidInput>

const fill = (value: Json, request: HookRequest): Filled => {
  if (Array.isArray(value)) {
    const items: Array<Json> = []
    for (const item of value) {
      const filled = fill(item, request)
      if (Result.isFailure(filled)) return filled
      items.push(filled.success)
    }
    return Result.succeed(items)
  }
  if (!isObject(value)) return Result.succeed(value)
  switch (formOf(value)) {
    case "$literal":
      return Result.succeed(value["$literal"] ?? null)
    case "$body": {
      const pointer = textOf(value["$body"])
      return orDefault(value, at(request.body, pointer), `body${pointer}`)
    }
    case "$header": {
      const name = textOf(value["$header"]).toLowerCase()
      return orDefault(value, request.headers[name], `header ${name}`)
    }
    case "$text":
      return text(value["$text"] ?? [], request)
    case undefined: {
      const fields: Array<readonly [string, Json]> = []
      for (const [key, child] of Object.entries(value)) {
        const filled = fill(child ?? null, request)
        if (Result.isFailure(filled)) return filled
        fields.push([key, filled.success])
      }
      return Result.succeed(Object.fromEntries(fields))
    }
  }
}

/** What stands in a form that has passed `checkTemplate`. */
const textOf = (value: Json | undefined) => (typeof value === "string" ? value : "")

const orDefault = (form: Schema.JsonObject, found: Json | undefined, what: string): Filled => {
  if (found !== undefined) return Result.succeed(found)
  return Object.hasOwn(form, "default")
    ? Result.succeed(form["default"] ?? null)
    : Result.fail(
        invalidField(what.slice(0, 300), "is not in the request, and the hook's template has no default for it")
      )
}

const text = (parts: Json, request: HookRequest): Filled => {
  let whole = ""
  for (const part of Array.isArray(parts) ? parts : []) {
    const filled = fill(part, request)
    if (Result.isFailure(filled)) return filled
    whole += typeof filled.success === "string" ? filled.success : JSON.stringify(filled.success)
  }
  return Result.succeed(whole)
}

/** The value at a JSON Pointer (RFC 6901); undefined when there is none. */
const at = (root: Json, pointer: string): Json | undefined => {
  let value: Json | undefined = root
  for (const token of pointer.split("/").slice(1)) {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~")
    if (Array.isArray(value)) value = /^(0|[1-9]\d{0,9})$/u.test(key) ? value[Number(key)] : undefined
    else if (value !== undefined && isObject(value) && Object.hasOwn(value, key)) value = value[key]
    else return undefined
  }
  return value
}
