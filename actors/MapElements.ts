/**
 * Decides, as pure functions, what a map becomes: the elements of its list, and the payload of the task for each. No I/O:
 * results come in with the input.
 */
import { Result, type Schema } from "effect"
import * as Limits from "../protocol/Limits.ts"
import type { TaskError } from "../protocol/Task.ts"
import type { StepMap } from "./GraphStep.ts"
import { pointed } from "./Pointer.ts"
import { hasMeaning } from "./Routing.ts"

/** The list that a map goes over, or why there is none. `data` is the result data of the parent. */
export const elementsOf = (
  map: StepMap,
  data: Schema.Json | undefined
): Result.Result<ReadonlyArray<Schema.Json>, TaskError> => {
  const { default: otherwise, path = "" } = map.over
  const list = pointed(data, path) ?? otherwise
  if (!isList(list)) {
    const found = list === undefined ? "nothing" : list === null ? "null" : `a ${typeof list}`
    return Result.fail({
      code: "map_not_a_list",
      message: `the map goes over "${path}" of its parent's result, where there is ${found} instead of a list`,
      details: { task_id: map.over.$result, path }
    })
  }
  const most = map.max_items ?? Limits.mapElementsMax
  return list.length <= most
    ? Result.succeed(list)
    : Result.fail({
        code: "map_too_long",
        message: `the list has ${list.length} elements; at most ${most} are mapped`,
        details: { items: list.length, limit: most }
      })
}

const isList = (value: Schema.Json | undefined): value is ReadonlyArray<Schema.Json> => Array.isArray(value)

/**
 * The payload of one element's task: `{"$item": pointer}` and `{"$index": true}` replaced. References to results stay and
 * are replaced when the task starts; what comes from the element is data, whatever it looks like.
 */
export const payloadOf = (
  template: Schema.Json,
  element: { readonly item: Schema.Json; readonly index: number }
): Result.Result<Schema.Json, TaskError> => {
  const missing: Array<string> = []
  const rendered = render(template, element, missing)
  return missing.length === 0
    ? Result.succeed(rendered)
    : Result.fail({
        code: "map_item",
        message: `element ${element.index} has nothing at ${missing.slice(0, 5).join(", ")}, to which the payload refers`,
        details: { index: element.index, paths: missing.slice(0, 5) }
      })
}

const render = (
  template: Schema.Json,
  element: { readonly item: Schema.Json; readonly index: number },
  missing: Array<string>
): Schema.Json => {
  if (template === null || typeof template !== "object") return template
  if (Array.isArray(template)) return template.map((entry) => render(entry, element, missing))
  if (Object.hasOwn(template, "$literal")) return template
  if (Reflect.get(template, "$index") === true) return element.index
  const path = itemPath(template)
  if (path === undefined) {
    return Object.fromEntries(Object.entries(template).map(([key, value]) => [key, render(value, element, missing)]))
  }
  const value = pointed(element.item, path) ?? Reflect.get(template, "default")
  if (value === undefined) missing.push(path)
  return value === undefined ? null : hasMeaning(value) ? { $literal: value } : value
}

const itemPath = (value: object): string | undefined => {
  const path = Object.hasOwn(value, "$item") ? Reflect.get(value, "$item") : undefined
  return typeof path === "string" ? path : undefined
}

/** Pointers of a template that are none. */
export const badPointers = (template: Schema.Json | undefined): ReadonlyArray<string> => {
  if (template === undefined || template === null || typeof template !== "object") return []
  if (Array.isArray(template)) return template.flatMap(badPointers)
  const path = itemPath(template)
  if (path !== undefined) return path === "" || path.startsWith("/") ? [] : [path]
  return Object.values(template).flatMap(badPointers)
}
