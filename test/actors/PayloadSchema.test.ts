/** What a payload schema takes and refuses, keyword by keyword, and that neither it nor a payload costs more than its bound. */
import { describe, expect, it } from "@effect/vitest"
import type { Schema } from "effect"
import * as PayloadFit from "../../actors/PayloadFit.ts"
import { checked, keywords, problemsOf, violationsOf } from "../../actors/PayloadSchema.ts"
import type { AgentRecord } from "../../actors/ports/AgentStore.ts"
import { AgentId, AgentName, Namespace, TaskType } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"

type Json = Schema.Json
const json = (text: string): Json => JSON.parse(text)

/** A schema, what fits, and what does not. */
const examples: ReadonlyArray<readonly [Json, ReadonlyArray<Json>, ReadonlyArray<Json>]> = [
  [true, [null, 1, {}], []],
  [false, [], [null, 1, {}]],
  [{}, [null, "a"], []],
  [{ type: "integer" }, [1, 1.0, -3], [1.5, "1", null, true]],
  [{ type: "number" }, [1, 1.5], ["1"]],
  [{ type: ["string", "null"] }, ["", null], [0, [], {}]],
  [{ type: "object" }, [{}], [[], null]],
  [{ type: "array" }, [[]], [{}]],
  [{ type: "boolean" }, [false], [0]],
  [{ enum: [1, "a", { b: [2, null] }] }, [1, "a", { b: [2, null] }], [2, { b: [null, 2] }, { b: [2] }]],
  [{ const: { a: 1, b: 2 } }, [{ b: 2, a: 1 }], [{ a: 1 }, { a: 1, b: 2, c: 3 }]],
  [{ properties: { a: { type: "string" } } }, [{}, { a: "x" }, { b: 1 }, 7], [{ a: 1 }]],
  [{ required: ["a"] }, [{ a: null }, 3], [{}, json(`{"b": 1}`)]],
  [{ required: ["toString", "__proto__"] }, [json(`{"toString": 1, "__proto__": 2}`)], [{}]],
  [{ properties: { a: true }, additionalProperties: false }, [{ a: 1 }, {}], [{ b: 1 }, json(`{"__proto__": 1}`)]],
  [{ additionalProperties: { type: "number" } }, [{ a: 1 }], [{ a: "1" }]],
  [{ items: { type: "number" } }, [[], [1, 2], "no list"], [[1, "2"]]],
  [{ prefixItems: [{ type: "string" }, { type: "number" }] }, [[], ["a"], ["a", 1, null]], [[1], ["a", "b"]]],
  [{ prefixItems: [{ type: "string" }], items: false }, [["a"], []], [["a", 1]]],
  [{ minLength: 2 }, ["ab", 1], ["a", "\u{1F600}"]],
  [{ maxLength: 1 }, ["a", "\u{1F600}"], ["ab"]],
  [{ minItems: 1, maxItems: 2 }, [[1], [1, 2]], [[], [1, 2, 3]]],
  [{ minProperties: 1, maxProperties: 1 }, [{ a: 1 }], [{}, { a: 1, b: 1 }]],
  [{ minimum: 1, maximum: 3 }, [1, 3, "0"], [0, 4]],
  [{ exclusiveMinimum: 1, exclusiveMaximum: 3 }, [2], [1, 3]],
  [{ multipleOf: 0.1 }, [0.3, 0, 1.1], [0.35]],
  [{ multipleOf: 3 }, [9, -3], [10]],
  [{ pattern: "^[a-z]+-\\d{2}$" }, ["ab-12", 5], ["ab-1", "Ab-12", "ab-123"]],
  [{ pattern: "^a" }, ["abc"], ["ba"]],
  [{ allOf: [{ minimum: 1 }, { maximum: 2 }] }, [1, 2], [0, 3]],
  [{ anyOf: [{ type: "string" }, { minimum: 5 }] }, ["a", 5, null], [4]],
  [{ oneOf: [{ minimum: 1 }, { minimum: 5 }] }, [1, 4], [5, 0]],
  [{ not: { type: "string" } }, [1], ["a"]],
  [{ $ref: "#/$defs/name", maxLength: 2, $defs: { name: { type: "string" } } }, ["ab"], ["abc", 1]],
  [
    { properties: { next: { $ref: "#" } }, additionalProperties: false },
    [{ next: { next: {} } }],
    [{ next: { x: 1 } }]
  ],
  [
    { $schema: "https://json-schema.org/draft/2020-12/schema", title: "t", description: "d", default: 1, examples: [] },
    ["a"],
    []
  ],
  [{ $comment: "nothing" }, [1], []]
]

const worker: AgentRecord = {
  ...{ id: AgentId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b2"), namespace: Namespace.make("default") },
  ...{ name: AgentName.make("worker"), type: "echo", capabilities: [], configuration: {}, status: "active" },
  ...{ draining: false, desiredInstances: 1, definitionVersion: 1, rollout: undefined, version: 1 }
}

describe("a payload schema", () => {
  it("takes what fits and refuses what does not, by every keyword", () => {
    const wrong = examples.flatMap(([schema, fitting, others]) => [
      ...problemsOf(schema, "schema"),
      ...fitting.filter((value) => violationsOf(schema, value).length > 0).map((value) => ({ schema, value })),
      ...others.filter((value) => violationsOf(schema, value).length === 0).map((value) => ({ schema, value }))
    ])
    expect(wrong).toEqual([])
    const used = new Set(examples.flatMap(([schema]) => Object.keys(Object(schema))))
    expect(keywords.filter((keyword) => !used.has(keyword))).toEqual([])
  })

  it("means the same negated twice, alone in a list of alternatives, and behind a reference", () => {
    for (const [schema, fitting, others] of examples) {
      if (JSON.stringify(schema).includes("$")) continue
      for (const value of [...fitting, ...others]) {
        const fits = violationsOf(schema, value).length === 0
        const same: ReadonlyArray<Json> = [
          { not: { not: schema } },
          { allOf: [schema] },
          { anyOf: [schema] },
          { oneOf: [schema] },
          { $ref: "#/$defs/it", $defs: { it: schema } }
        ]
        for (const form of same)
          expect([form, value, violationsOf(form, value).length === 0]).toEqual([form, value, fits])
        expect(violationsOf({ items: schema }, [value]).length === 0).toBe(fits)
        expect(violationsOf({ properties: { a: schema } }, { a: value }).length === 0).toBe(fits)
      }
    }
  })

  it("tells where in the payload which rule is broken, everything at once up to a bound", () => {
    const schema = { required: ["id"], properties: { rows: { items: { properties: { n: { minimum: 1 } } } } } }
    expect(violationsOf(schema, { rows: [{ n: 1 }, { n: 0 }] })).toEqual([
      { field: "payload.id", rule: "/required", message: "is required" },
      { field: "payload.rows.1.n", rule: "/properties/rows/items/properties/n/minimum", message: "must be at least 1" }
    ])
    const many = Array.from({ length: 1_000 }, () => "no")
    expect(violationsOf({ items: { type: "number" } }, many)).toHaveLength(Limits.payloadViolationsMax)
    const [long] = violationsOf({ additionalProperties: false }, { ["n".repeat(5_000)]: 1 })
    expect(long?.field.length).toBeLessThan(200)
    expect(violationsOf({ additionalProperties: false }, { "a\u0000": 1 })[0]?.field).not.toContain("\u0000")
  })

  it("is refused with the place of what is not understood", () => {
    const nested = (depth: number): Json => (depth === 0 ? {} : { not: nested(depth - 1) })
    const cases: ReadonlyArray<readonly [Json, string]> = [
      [{ properties: { a: { format: "date" } } }, "s.properties.a.format"],
      [{ patternProperties: {} }, "s.patternProperties"],
      [json(`{"constructor": 1}`), "s.constructor"],
      [7, "s"],
      [{ type: "text" }, "s.type"],
      [{ type: [] }, "s.type"],
      [{ enum: [] }, "s.enum"],
      [{ required: [1] }, "s.required"],
      [{ minLength: -1 }, "s.minLength"],
      [{ minimum: "1" }, "s.minimum"],
      [{ multipleOf: 0 }, "s.multipleOf"],
      [{ allOf: [] }, "s.allOf"],
      [{ anyOf: [{ oops: 1 }] }, "s.anyOf.0.oops"],
      [{ $ref: "https://example.com/schema" }, "s.$ref"],
      [{ $ref: "#/$defs/gone" }, "s.$ref"],
      [{ $ref: "#/$defs/toString", $defs: {} }, "s.$ref"],
      [{ items: { $defs: {} } }, "s.items.$defs"],
      [{ $schema: "http://json-schema.org/draft-07/schema#" }, "s.$schema"],
      [{ title: "t".repeat(Limits.payloadSchemaCharactersMax) }, "s"],
      [nested(Limits.payloadSchemaDepthMax + 1), `s${".not".repeat(Limits.payloadSchemaDepthMax + 1)}`]
    ]
    for (const [schema, field] of cases) expect(problemsOf(schema, "s").map((each) => each.field)).toEqual([field])
    expect(problemsOf(nested(Limits.payloadSchemaDepthMax), "s")).toEqual([])
  })

  it("ends a check that takes too many steps or goes too deep, and says so", () => {
    const defs = Object.fromEntries(
      Array.from({ length: 40 }, (_, index) => [
        `d${index}`,
        { allOf: [{ $ref: `#/$defs/d${index + 1}` }, { $ref: `#/$defs/d${index + 1}` }] }
      ])
    )
    const doubling = { $ref: "#/$defs/d0", $defs: { ...defs, d40: true } }
    const list = Array.from({ length: 3_000 }, (_, index) => index)
    const hostile: ReadonlyArray<readonly [Json, Json]> = [
      [doubling, 1],
      [{ items: { enum: list.map((n) => -n - 1) } }, list],
      [{ items: { const: "x".repeat(30_000) } }, list.map(() => "x".repeat(30_000))],
      [{ items: { pattern: "^a*a*$" } }, list.map(() => `${"a".repeat(255)}b`)]
    ]
    expect(problemsOf(doubling, "s")).toEqual([])
    for (const [schema, payload] of hostile) {
      const { steps, violations } = checked(schema, payload)
      expect(violations).toMatchObject([{ rule: "limit", message: expect.stringContaining("500000 steps") }])
      expect(steps).toBeLessThan(Limits.payloadCheckStepsMax + 5_000)
    }
    const deep = (depth: number): Json => (depth === 0 ? [] : [deep(depth - 1)])
    expect(violationsOf({ items: { $ref: "#" } }, deep(20))).toEqual([])
    for (const [schema, payload] of [
      [{ items: { $ref: "#" } }, deep(5_000)],
      [{ items: { not: { $ref: "#" } } }, deep(5_000)]
    ] satisfies ReadonlyArray<readonly [Json, Json]>) {
      expect(violationsOf(schema, payload)).toMatchObject([{ rule: "limit", message: expect.stringContaining("deep") }])
    }
  })

  it("refuses a schema that comes back to itself at one place, which no payload could fit", () => {
    const message = "refers to itself at the same place of the payload, which never ends"
    for (const endless of [
      { $ref: "#" },
      { not: { $ref: "#" } },
      { $defs: { a: { allOf: [{ $ref: "#/$defs/b" }] }, b: { oneOf: [true, { $ref: "#/$defs/a" }] } } },
      { properties: { a: { anyOf: [{ $ref: "#/$defs/a" }] } }, $defs: { a: { $ref: "#/$defs/a" } } }
    ]) {
      expect(problemsOf(endless, "s")).toEqual([{ field: "s", message }])
    }
    const deeper = { $defs: { a: { properties: { a: { $ref: "#/$defs/a" } } } }, allOf: [{ $ref: "#/$defs/a" }] }
    expect(problemsOf(deeper, "s")).toEqual([])
    expect(problemsOf({ const: { $ref: "#" }, items: { $ref: "#" } }, "s")).toEqual([])
  })

  it("matches long texts by patterns of many parts, and ends where the two together are too much", () => {
    const url = { pattern: "^https?://[^/]+/.*#[a-z]*$" }
    expect(violationsOf(url, `https://example.com/${"x".repeat(20_000)}#end`)).toEqual([])
    expect(violationsOf(url, `https://example.com/${"x".repeat(20_000)}`)).toMatchObject([{ rule: "/pattern" }])
    const many = { pattern: `^${"a*".repeat(90)}b$` }
    expect(violationsOf(many, "a".repeat(10_000))).toMatchObject([{ rule: "/pattern" }])
    expect(violationsOf(many, "a".repeat(20_000))).toMatchObject([{ rule: "limit" }])
  })

  it("shares its steps with others where it is told to", () => {
    const budget = { left: 1_000 }
    const each = { items: { type: "integer" } }
    expect(violationsOf(each, [1, 2, 3], budget)).toEqual([])
    expect(budget.left).toBeLessThan(1_000)
    budget.left = 5
    expect(violationsOf(each, [1, 2, 3], budget)).toMatchObject([{ rule: "limit" }])
    expect(violationsOf(each, [], budget)).toMatchObject([{ rule: "limit" }])
  })

  it("looks into the items of what was gathered within the steps of one check", () => {
    const defs = Object.fromEntries(
      Array.from({ length: 14 }, (_, index) => [
        `d${index}`,
        { allOf: [{ $ref: `#/$defs/d${index + 1}` }, { $ref: `#/$defs/d${index + 1}` }] }
      ])
    )
    const slow = { type: "integer", allOf: [{ $ref: "#/$defs/d0" }], $defs: { ...defs, d14: true } }
    const payload = Array.from({ length: 10_000 }, () => 1)
    const budget = { left: Limits.payloadCheckStepsMax }
    const agent = { ...worker, capabilities: [{ name: TaskType.make("slow"), payload_schema: slow }] }
    const found = PayloadFit.violationsAtStart(agent, "slow", { payload, stored: payload }, budget)
    expect(found).toMatchObject([{ rule: "/type" }])
    // One of the list and one of all of its items.
    expect(budget.left).toBeGreaterThan(-Limits.payloadCheckStepsMax - 1_000)
    expect(PayloadFit.violationsAtStart(agent, "slow", { payload: [1, 1], stored: [1, 1] })).toEqual([])
  })
})
