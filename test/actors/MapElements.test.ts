/** Maps: the list they go over, and the payload of each element. */
import { describe, expect, it } from "@effect/vitest"
import { Result, type Schema } from "effect"
import * as MapElements from "../../actors/MapElements.ts"
import * as Routing from "../../actors/Routing.ts"

const over = { $result: "list", path: "/items" }

describe("the list of a map", () => {
  const codeOf = (map: Parameters<typeof MapElements.elementsOf>[0], data: Schema.Json | undefined) =>
    Result.match(MapElements.elementsOf(map, data), { onSuccess: (list) => list, onFailure: ({ code }) => code })

  it("is what stands at its path, or its default where nothing does", () => {
    expect(codeOf({ over }, { items: [1, [2]] })).toEqual([1, [2]])
    expect(codeOf({ over: { ...over, default: [] } }, {})).toEqual([])
    expect(codeOf({ over: { ...over, default: [] } }, { items: 1 })).toBe("map_not_a_list")
    for (const data of [undefined, null, {}, { items: null }, { items: { length: 3 } }, { items: "abc" }]) {
      expect(codeOf({ over }, data)).toBe("map_not_a_list")
    }
  })

  it("has no more elements than the map allows, 10,000 unless it says less", () => {
    expect(codeOf({ over, max_items: 1 }, { items: [1, 2] })).toBe("map_too_long")
    expect(codeOf({ over }, { items: Array(10_000).fill(0) })).toHaveLength(10_000)
    expect(codeOf({ over }, { items: Array(10_001).fill(0) })).toBe("map_too_long")
  })
})

describe("the payload of an element", () => {
  const render = (template: Schema.Json, item: Schema.Json, index = 0) =>
    Result.getOrThrow(MapElements.payloadOf(template, { item, index }))

  it("has the element, its parts and its place where the template says so, and nowhere else", () => {
    const template = {
      all: { $item: "" },
      part: [{ $item: "/a/0" }, { $item: "/none", default: null }],
      at: { $index: true },
      kept: { $result: "id", path: "/x" },
      literal: { $literal: { $item: "" } },
      no: { $index: false }
    }
    expect(render(template, { a: [7] }, 3)).toEqual({
      all: { a: [7] },
      part: [7, null],
      at: 3,
      kept: { $result: "id", path: "/x" },
      literal: { $literal: { $item: "" } },
      no: { $index: false }
    })
  })

  it("passes on what looks like a reference within an element as the data that it is", () => {
    for (const item of [
      { $result: "someone" },
      [{ deep: { $result: "x" } }],
      { $literal: 1 }
    ] as ReadonlyArray<Schema.Json>) {
      const payload = render({ given: { $item: "" } }, item)
      expect([...Routing.references(payload)]).toEqual([])
      expect(Routing.replaceReferences(payload, () => "followed")).toEqual({ given: item })
    }
  })

  it("fails with the place of what is missing", () => {
    const failure = MapElements.payloadOf([{ $item: "/x" }, { $item: "/y" }], { item: { x: 1 }, index: 4 })
    expect(Result.getOrThrow(Result.flip(failure))).toMatchObject({
      code: "map_item",
      details: { index: 4, paths: ["/y"] }
    })
  })

  it("is refused beforehand for pointers that are none", () => {
    expect(MapElements.badPointers({ a: [{ $item: "x" }, { $item: "/x" }], b: { $item: "" } })).toEqual(["x"])
  })
})
