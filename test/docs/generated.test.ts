/** What the documents say of variables and metrics is what the program does. */
import { describe, expect, it } from "@effect/vitest"
import { parts, present } from "./generated.ts"

describe("the made parts of the documents are up to date (node test/docs/generated.ts rewrites them)", () => {
  it.each(parts.map((part) => [`${part.file}: ${part.name}`, part] as const))("%s", (_, part) => {
    expect(present(part)).toBe(part.text)
  })
})
