/** A command that breaks a rule is refused with the field and the limit, and without what was sent. */
import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { SubmitTask } from "../../protocol/Task.ts"

const decode = inputDecoder(SubmitTask)

const refusal = (input: unknown, at?: string) => {
  const decoded = decode(input, at)
  return Result.isFailure(decoded) ? decoded.failure : undefined
}

describe("an input decoder", () => {
  it("gives back what the schema accepts", () => {
    const input = { type: "echo", payload: { a: [1, null] }, labels: { a: "b" } }
    expect(decode(input)).toEqual(Result.succeed(input))
  })

  it.each([
    [null, "", "must be an object"],
    [[], "", "must be an object"],
    [{ type: 1 }, "type", "must be a string"],
    [{ type: "echo", attempt: 3 }, "attempt", "is not a known field or key"],
    [{ labels: { "": "x" } }, "labels.", "its key must be a value with a length between 1 and 255"],
    [{ agent: "*" }, "agent", 'must be an agent id or name of 1 to 64 letters, digits, "_" or "-"'],
    [{ dependencies: [{}] }, "dependencies.0.task_id", "is missing"],
    [{ priority: "urgent" }, "priority", 'must be "critical" | "high" | "normal" | "low"']
  ])("names the field of %j", (input, field, message) => {
    expect(refusal(input)?.errors).toEqual([{ field, message }])
  })

  it.each([
    [{ configuration: { timeout_ms: 0 } }, "configuration.timeout_ms", 1],
    [{ configuration: { timeout_ms: 86_400_001 } }, "configuration.timeout_ms", 86_400_000],
    [{ description: "x".repeat(4_001) }, "description", 4_000],
    [{ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ""])) }, "labels", 64]
  ])("names the limit that was passed", (input, field, limit) => {
    expect(refusal(input)?.errors).toMatchObject([{ field, limit }])
  })

  it("lists all faults, but no more than 20, and counts the rest", () => {
    const many = refusal({ dependencies: Array.from({ length: 50 }, () => ({})) })
    expect(many?.errors).toHaveLength(20)
    expect(many?.detail).toBe("dependencies.0.task_id: is missing (and 49 more)")
  })

  it("puts the place of an item in front of its fields", () => {
    expect(refusal({ type: 1 }, "items.3")?.errors[0]?.field).toBe("items.3.type")
  })

  it("does not repeat the refused value", () => {
    expect(JSON.stringify(refusal({ type: "Secret Value", priority: "hunter2" }))).not.toMatch(/Secret|hunter2/u)
  })
})
