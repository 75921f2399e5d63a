/**
 * Owns the shape of lists: newest first, continued by a cursor that the caller passes back as it came.
 */
import { Schema } from "effect"

/** A page and the cursor of the next one; null when this was the last. */
export const Page = <S extends Schema.Top>(entry: S) =>
  Schema.Struct({ data: Schema.Array(entry), next_cursor: Schema.NullOr(Schema.String) })

export interface Page<A> {
  readonly data: ReadonlyArray<A>
  readonly next_cursor: string | null
}
