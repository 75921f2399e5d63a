/** Finds what a JSON Pointer names within a value. */
import { JsonPointer, Schema } from "effect"

/** The value that a JSON Pointer (RFC 6901) names; undefined when it names nothing. */
export const pointed = (value: Schema.Json | undefined, path: string): Schema.Json | undefined => {
  if (value === undefined || path === "") return value
  if (!path.startsWith("/")) return undefined
  let at: unknown = value
  for (const token of path.slice(1).split("/")) {
    const key = JsonPointer.unescapeToken(token)
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, key)) return undefined
    at = Reflect.get(at, key)
  }
  return Schema.is(Schema.Json)(at) ? at : undefined
}
