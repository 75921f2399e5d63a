/** Templates of tasks: which are accepted, and what a request makes of them. Nothing of a request is ever run. */
import { Result, type Schema } from "effect"
import { describe, expect, it } from "vitest"
import { checkTemplate, fillTemplate } from "../../src/app/HookTemplate.ts"

const request = {
  body: {
    ref: "main",
    "a/b": { "m~n": 1 },
    list: [{ id: "c1" }, null],
    deep: { $body: "/ref", $eval: "1" },
    __proto: { x: 1 }
  },
  headers: { "x-kind": "push" }
}

const filled = (payload: Schema.Json) => {
  const task = fillTemplate({ type: "echo", payload }, request)
  return Result.isSuccess(task) ? task.success.payload : task.failure.errors[0]
}

describe("a form", () => {
  it("stands for the value at a pointer of the body, whatever it is", () => {
    expect(filled({ $body: "/ref" })).toBe("main")
    expect(filled({ $body: "/a~1b/m~0n" })).toBe(1)
    expect(filled({ $body: "/list/0/id" })).toBe("c1")
    expect(filled({ $body: "/list/1" })).toBe(null)
    expect(filled({ $body: "" })).toEqual(request.body)
    expect(filled([{ a: { $body: "/ref" } }])).toEqual([{ a: "main" }])
  })

  it("that finds nothing has its default, or refuses the request by name", () => {
    expect(filled({ $body: "/none", default: null })).toBe(null)
    expect(filled({ $header: "X-Kind" })).toBe("push")
    expect(filled({ $header: "x-other", default: "o" })).toBe("o")
    for (const pointer of [
      "/none",
      "/list/2",
      "/list/-",
      "/list/00",
      "/ref/length",
      "/constructor",
      "/__proto__",
      "//"
    ]) {
      expect([pointer, filled({ $body: pointer })]).toMatchObject([pointer, { field: `body${pointer}` }])
    }
  })

  it("puts texts together, and writes other values as JSON", () => {
    expect(filled({ $text: ["of ", { $body: "/ref" }, ": ", { $body: "/list/0" }] })).toBe('of main: {"id":"c1"}')
    expect(filled({ $literal: { $body: "/ref" } })).toEqual({ $body: "/ref" })
  })

  it("in what a request brings is no form any more", () => {
    expect(filled({ $body: "/deep" })).toEqual({ $body: "/ref", $eval: "1" })
  })
})

describe("a filled template", () => {
  it("is checked as a submission is", () => {
    const of = (template: Schema.Json) => {
      const task = fillTemplate(template, request)
      return Result.isFailure(task) ? task.failure.errors[0]?.field : undefined
    }
    expect(of({ type: { $body: "/ref" } })).toBeUndefined()
    expect(of({ type: { $body: "/list" } })).toBe("type")
    expect(of({ type: "echo", priority: { $body: "/ref" } })).toBe("priority")
    expect(of({ type: "echo", labels: { kind: { $body: "/a~1b/m~0n" } } })).toBe("labels.kind")
  })
})

describe("a template", () => {
  it("is refused for what it cannot hold, by field", () => {
    const refused = (template: Readonly<Record<string, Schema.Json>>) => {
      const checked = checkTemplate(template)
      return Result.isFailure(checked) ? checked.failure.errors[0]?.field : undefined
    }
    expect(refused({ agent: "echo", payload: { $result: "a task" } })).toBeUndefined()
    expect(refused({ agent: "echo", payload: [{ a: { $Body: "" } }] })).toBe("task.payload.0.a.$Body")
    expect(refused({ payload: { $body: "", $header: "x" } })).toBe("task.payload.$body")
    expect(refused({ payload: { $text: [{ $text: [] }] } })).toBe("task.payload.$text")
    expect(refused({ payload: { $header: "cookie" } })).toBe("task.payload.$header")
    expect(refused({ dependencies: [] })).toBe("task.dependencies")
    expect(refused({ parent_id: { $body: "/id" } })).toBe("task.parent_id")
    expect(refused({ payload: "x".repeat(64 * 1024) })).toBe("task")
  })
})
