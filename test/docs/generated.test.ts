/** What the documents say of variables, metrics and endpoints is what the program does. */
import { describe, expect, it } from "@effect/vitest"
import { documents, parts, plain, present, wholeText } from "./generated.ts"

describe("the made parts of the documents are up to date (node test/docs/generated.ts rewrites them)", () => {
  it.each(parts.map((part) => [`${part.file}: ${part.name}`, part] as const))("%s", (_, part) => {
    expect(plain(present(part))).toBe(plain(part.text))
  })

  it.each(documents.map(({ file, text }) => [file, text] as const))("%s", (file, text) => {
    expect(JSON.parse(wholeText(file))).toEqual(JSON.parse(text))
  })
})
