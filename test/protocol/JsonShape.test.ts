/** What a shape lets through, and how it tells what it does not. */
import { describe, expect, it } from "@effect/vitest"
import type { Schema } from "effect"
import { faultsOf, type JsonShape } from "../../protocol/JsonShape.ts"

const order: JsonShape = {
  type: "object",
  required: ["color", "count"],
  additionalProperties: false,
  properties: {
    color: { enum: ["red", "blue"] },
    count: { type: "integer", minimum: 1, maximum: 9 },
    note: { type: "string", minLength: 2, maxLength: 4 },
    tags: { type: "array", items: { type: "string" }, minItems: 1, maxItems: 2 },
    exact: { type: "boolean" },
    gone: { type: "null" },
    ratio: { type: "number" }
  }
}

describe("a shape", () => {
  it.each<[string, Schema.Json]>([
    ["what it asks for", { color: "red", count: 1 }],
    [
      "everything that it names",
      { color: "blue", count: 9, note: "🙂🙂🙂🙂", tags: ["a"], exact: true, gone: null, ratio: 0.5 }
    ]
  ])("lets through %s", (_, value) => {
    expect(faultsOf(order, value)).toEqual([])
  })

  it.each<[string, Schema.Json, ReadonlyArray<readonly [string, string]>]>([
    ["another type", [], [["", "must be an object"]]],
    [
      "missing fields",
      {},
      [
        ["color", "is missing"],
        ["count", "is missing"]
      ]
    ],
    ["unknown fields", { color: "red", count: 1, more: 1 }, [["more", "is not a known field"]]],
    [
      "other values",
      { color: "green", count: 1.5 },
      [
        ["color", 'must be one of "red", "blue"'],
        ["count", "must be a whole number"]
      ]
    ],
    ["numbers out of range", { color: "red", count: 0 }, [["count", "must be at least 1"]]],
    ["numbers above", { color: "red", count: 10 }, [["count", "must be at most 9"]]],
    ["texts too short", { color: "red", count: 1, note: "🙂" }, [["note", "must have at least 2 characters"]]],
    ["texts too long", { color: "red", count: 1, note: "abcde" }, [["note", "must have at most 4 characters"]]],
    ["lists too short", { color: "red", count: 1, tags: [] }, [["tags", "must have at least 1 items"]]],
    ["lists too long", { color: "red", count: 1, tags: ["a", "b", "c"] }, [["tags", "must have at most 2 items"]]],
    ["items of another type", { color: "red", count: 1, tags: ["a", 2] }, [["tags.1", "must be a string"]]]
  ])("refuses %s, naming the place", (_, value, faults) => {
    expect(faultsOf(order, value).map(({ field, message }) => [field, message])).toEqual(faults)
  })

  it("without words lets everything through", () => {
    for (const value of [null, 1, "a", [1], { a: { b: [] } }]) expect(faultsOf({}, value)).toEqual([])
  })

  it("tells a bounded number of faults", () => {
    const value = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`f${index}`, 1]))
    expect(faultsOf({ type: "object", additionalProperties: false }, value)).toHaveLength(20)
  })

  it("does not take names of the prototype for fields of its own", () => {
    const value: Schema.Json = JSON.parse('{"toString": 1, "__proto__": 2}')
    expect(faultsOf({ type: "object", properties: {}, additionalProperties: false }, value)).toHaveLength(2)
    expect(faultsOf({ type: "object", required: ["toString"] }, {})).toHaveLength(1)
  })
})
