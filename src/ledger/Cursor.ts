/**
 * Owns the cursor of a list: the place after its last entry, in a form that callers pass back and never read.
 *
 * Invariant: a cursor continues the list that gave it, same namespace and same filters, or is refused. It is no
 * secret and grants nothing: every query names its namespace anyway.
 */
import { hash } from "node:crypto"
import { Result, type Schema } from "effect"
import { Base64Url } from "effect/encoding"
import { type InvalidInput, invalidField } from "../../protocol/Problem.ts"

/** What a cursor belongs to: the list's name, namespace and filters. Order of the filters does not matter. */
export interface CursorScope {
  readonly list: string
  readonly namespace: string
  readonly filters: { readonly [name: string]: Schema.Json | undefined }
}

/** Bytes of the scope's digest that a cursor carries. Against mistakes, not against forgery. */
const digestBytes = 8

export const encodeCursor = (scope: CursorScope, position: string): string =>
  Base64Url.encode(Buffer.concat([digest(scope), Buffer.from(position, "utf8")]))

/** The position within a cursor. `accepts` tells whether it is one; anything else is `InvalidInput` of field `cursor`. */
export const decodeCursor = (
  scope: CursorScope,
  cursor: string,
  accepts: RegExp
): Result.Result<string, InvalidInput> => {
  const bytes = Base64Url.decode(cursor)
  if (Result.isFailure(bytes) || bytes.success.length <= digestBytes) return notOurs
  const head = Buffer.from(bytes.success.subarray(0, digestBytes))
  const position = Buffer.from(bytes.success.subarray(digestBytes)).toString("utf8")
  if (!accepts.test(position)) return notOurs
  return head.equals(digest(scope))
    ? Result.succeed(position)
    : Result.fail(invalidField("cursor", "belongs to a list with other filters; start without a cursor"))
}

const notOurs: Result.Result<never, InvalidInput> = Result.fail(
  invalidField("cursor", "is not a next_cursor of this list; start without a cursor")
)

const digest = (scope: CursorScope): Buffer => {
  const filters = Object.entries(scope.filters)
    .filter(([, value]) => value !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1))
  return hash("sha256", JSON.stringify([scope.list, scope.namespace, filters]), "buffer").subarray(0, digestBytes)
}
