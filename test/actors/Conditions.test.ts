/** Conditions: what each comparison says of values that are there, are another kind, or are not there. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { holds } from "../../actors/Conditions.ts"
import { Condition, comparisonsOf, renamed } from "../../protocol/Condition.ts"

const data = new Map<string, Schema.Json>([
  ["check", { ok: true, n: 3, text: "b", none: null, list: [1, { a: 1, b: [2] }], "a/b": { "~": 1 } }],
  ["empty", null]
])
const condition = Schema.decodeUnknownSync(Condition, { onExcessProperty: "error" })
const says = (given: unknown) => holds(condition(given), (parent) => data.get(parent))
const of = (path: string, comparison: object) => ({ $result: "check", path, ...comparison })

describe("a comparison", () => {
  const cases: ReadonlyArray<readonly [boolean, object]> = [
    [true, of("/ok", { equals: true })],
    [false, of("/ok", { equals: 1 })],
    [true, of("/none", { equals: null })],
    [true, of("/list", { equals: [1, { b: [2], a: 1 }] })],
    [false, of("/list", { equals: [{ a: 1, b: [2] }, 1] })],
    [false, of("/list", { equals: { 0: 1, 1: { a: 1, b: [2] } } })],
    [true, of("/a~1b/~0", { equals: 1 })],
    [false, of("/missing", { equals: null })],
    [true, of("/missing", { not_equals: 1 })],
    [false, of("/n", { not_equals: 3 })],
    [true, of("/n", { greater: 2 })],
    [false, of("/n", { greater: 3 })],
    [true, of("/n", { less: 4 })],
    [false, of("/n", { less: "4" })],
    [true, of("/text", { greater: "a" })],
    [false, of("/missing", { less: 1 })],
    [false, of("/missing", { greater: -1 })],
    [true, of("/list/1/b/0", { in: [1, 2] })],
    [false, of("/n", { in: [] })],
    [false, of("/missing", { in: [null] })],
    [true, of("/none", { exists: true })],
    [true, of("/missing", { exists: false })],
    [true, { $result: "empty", exists: true }],
    [false, { $result: "nobody", exists: true }]
  ]
  it.each(cases)("is %s for %o", (expected, given) => {
    expect(says(given)).toBe(expected)
  })

  it("has exactly one operator, and a pointer for a path", () => {
    expect(() => condition(of("/n", {}))).toThrow("exactly one of")
    expect(() => condition(of("/n", { equals: 1, less: 2 }))).toThrow("exactly one of")
    expect(() => condition(of("n", { equals: 1 }))).toThrow("JSON Pointer")
  })
})

describe("a combination", () => {
  it("of none is true as all, false as any", () => {
    expect([says({ all: [] }), says({ any: [] }), says({ not: { any: [] } })]).toEqual([true, false, true])
  })

  const Term = Schema.Array(Schema.Boolean).check(Schema.isMaxLength(5))
  it.prop("says what its terms say together", { terms: Term }, ({ terms }) => {
    const all = terms.map((term) => of("/ok", { equals: term }))
    expect(says({ all })).toBe(terms.every(Boolean))
    expect(says({ any: all })).toBe(terms.some(Boolean))
    expect(says({ not: { all } })).toBe(!terms.every(Boolean))
    expect(comparisonsOf(condition({ any: [{ all }, { not: { all } }] }))).toHaveLength(2 * terms.length)
  })

  it("names its parents anew wherever they stand", () => {
    const given = condition({ any: [{ not: of("/n", { less: 1 }) }, { all: [{ $result: "empty", exists: true }] }] })
    expect(renamed(given, (parent) => `id of ${parent}`)).toEqual({
      any: [
        { not: { $result: "id of check", path: "/n", less: 1 } },
        { all: [{ $result: "id of empty", exists: true }] }
      ]
    })
  })
})
