/** A key beside a command gets into it, once, and never over one of its own. */
import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import { withIdempotencyKey, withItemKey } from "../../protocol/IdempotencyKeys.ts"

const command: { readonly type: string; readonly idempotency_key?: string } = { type: "test.work" }

describe("a key in the header", () => {
  it("becomes the command's, when it has none", () => {
    expect(withIdempotencyKey(command, "a")).toEqual(Result.succeed({ type: "test.work", idempotency_key: "a" }))
    expect(withIdempotencyKey(command, undefined)).toEqual(Result.succeed(command))
  })

  it("may repeat the command's own, and not differ from it", () => {
    const own = { ...command, idempotency_key: "a" }
    expect(withIdempotencyKey(own, "a")).toEqual(Result.succeed(own))
    expect(withIdempotencyKey(own, "b")).toMatchObject({ failure: { errors: [{ field: "idempotency_key" }] } })
  })

  it("gives each item of a batch one of its own, by its place", () => {
    expect(withItemKey({ type: "test.work" }, "a", 3)).toEqual({ type: "test.work", idempotency_key: "a/3" })
    expect(withItemKey({ idempotency_key: "own" }, "a", 3)).toEqual({ idempotency_key: "own" })
    expect(withItemKey({ type: "test.work" }, undefined, 3)).toEqual({ type: "test.work" })
  })

  it("leaves what is no task as it is, for the schema to refuse", () => {
    for (const item of [null, 7, "x", ["y"]]) expect(withItemKey(item, "a", 0)).toEqual(item)
  })
})
