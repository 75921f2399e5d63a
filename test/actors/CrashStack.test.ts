/** What is told of a crash: where it happened, and nothing of the machine or the message. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { frameCharactersMax, framesMax, stackOf } from "../../actors/CrashStack.ts"

const withStack = (message: string, stack: string) => Object.assign(new Error(message), { stack })

describe("the stack of a crash", () => {
  it("names files by their last folders, and packages by their own", () => {
    const stack = [
      "TypeError: x is not",
      "    at run (file:///srv/secret/app/actors/behaviours/Echo.ts:88:13)",
      "    at async /home/me/work/app/node_modules/effect/dist/Fiber.js:10:2",
      "    at C:\\Users\\me\\app\\src\\main.ts:1:1",
      "    at process.processTicksAndRejections (node:internal/process/task_queues:103:5)"
    ].join("\n")
    expect(stackOf(withStack("x is not", stack))?.split("\n")).toEqual([
      "at run (actors/behaviours/Echo.ts:88:13)",
      "at async effect/dist/Fiber.js:10:2",
      "at app/src/main.ts:1:1",
      "at process.processTicksAndRejections (node:internal/process/task_queues:103:5)"
    ])
  })

  it("leaves the message out, even one that looks like a frame", () => {
    const message = "at secret (/etc/passwd:1:1)\n    at more"
    expect(stackOf(withStack(message, `Error: ${message}\n    at f (a.ts:1:1)`))).toBe("at f (a.ts:1:1)")
  })

  it("is of a real error what the runtime says", () => {
    const stack = stackOf(new Error("boom"))
    expect(stack).toContain("CrashStack.test.ts")
    expect(stack).not.toContain("boom")
    expect(stack).not.toContain(process.cwd())
  })

  it("is nothing of what is no error", () => {
    expect([stackOf("text"), stackOf(undefined), stackOf({ stack: "at x" }), stackOf(withStack("m", ""))]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined
    ])
  })

  it.prop("is bounded and storable whatever is thrown", { text: Schema.String, repeat: Schema.Int }, (input) => {
    const line = `    at ${input.text.replaceAll("\n", "")}\u0000\ud800(${"x/".repeat(300)})`
    const stack = stackOf(withStack("m", `Error: m\n${`${line}\n`.repeat(100)}`)) ?? ""
    expect(stack.split("\n").length).toBeLessThanOrEqual(framesMax)
    for (const frame of stack.split("\n")) expect(frame.length).toBeLessThanOrEqual(frameCharactersMax)
    expect(stack.isWellFormed() && !stack.includes("\u0000")).toBe(true)
  })
})
