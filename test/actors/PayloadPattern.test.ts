/** Patterns: what they match is what `RegExp` matches, and what they cost grows with pattern times text only. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as PayloadPattern from "../../actors/PayloadPattern.ts"
import * as Limits from "../../protocol/Limits.ts"

const parsed = (source: string) => Result.getOrThrow(PayloadPattern.parse(source))
const refusal = (source: string) => Result.getOrThrow(Result.flip(PayloadPattern.parse(source)))

describe("a pattern", () => {
  it.each([
    ["[^a]{2}$", ["b🙂", "🙂🙂", "ab🙂"], ["🙂"]],
    ["^[a-z]{2,3}$", ["ab", "abc"], ["a", "abcd", "aB", ""]],
    ["ell", ["hello", "ell"], ["el", ""]],
    ["^a*a*b$", ["b", "aaab"], ["aaa", "ba"]],
    ["^\\d{4}-\\d{2}-\\d{2}$", ["2026-11-24"], ["2026-1-24", "2026-11-24 "]],
    ["^[^@\\s]+@[^@\\s]+$", ["a@b.c"], ["a@b@c", "@b", "a b@c"]],
    ["^\\.\\$\\\\$", [".$\\"], ["a$\\"]],
    ["^colou?r", ["color", "colours"], ["colouur"]],
    ["^.$", ["ü", "🙂"], ["", "ab", "\n"]],
    ["^[🙂-🙄-]{2}$", ["🙃-"], ["🙃"]],
    ["^a{0}b", ["b"], ["ab"]],
    ["", ["", "any"], []],
    ["^$", [""], ["a"]],
    ["\\w\\W\\S\\D$", ["a-bc"], ["a-b1"]],
    ["^[\\]\\d-]+$", ["]-1"], ["a"]]
  ] as const)("%s matches from any place that its ends leave open", (source, yes, no) => {
    for (const text of yes)
      expect({ text, matches: PayloadPattern.matches(parsed(source), text) }).toEqual({ text, matches: true })
    for (const text of no)
      expect({ text, matches: PayloadPattern.matches(parsed(source), text) }).toEqual({ text, matches: false })
  })

  it.each([
    ["(a|b)", "no groups and no alternatives"],
    ["a|b", "no alternatives"],
    ["(?=a)", "no groups"],
    ["a^", "only at the beginning"],
    ["a$b", "only at the end"],
    ["*", "does not follow"],
    ["a**", "does not follow"],
    ["a+?", "is not understood"],
    ["a{2", "is not how often"],
    ["a{3,2}", "asks for more than it allows"],
    ["a{10001}", "more than 10000 times"],
    ["[a", "never closed"],
    ["[z-a]", "is not a range"],
    ["[\\d-z]", "is not a range"],
    ["[[:alpha:]]", "does not follow"],
    ["\\1", "is not understood"],
    ["\\b", "is not understood"],
    ["\\p{L}", "is not understood"],
    ["a\\", "is not understood"],
    ["a}", "does not follow"]
  ])("%s is refused: it %s", (source, why) => {
    expect(refusal(source)).toContain(why)
  })

  it.each(["^", "^a{2,2}b+c+", "^[a[]$", "^a{3,}$", "^\\^\\$\\.\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|\\/\\-$"])(
    "%s is taken",
    (source) => {
      expect(PayloadPattern.problemOf(source)).toBeUndefined()
    }
  )

  it("that is no text, or too long, is refused; a part of a schema has its own read once", () => {
    expect(PayloadPattern.problemOf(7)).toBe("must be a text")
    expect(PayloadPattern.problemOf("a".repeat(Limits.payloadPatternCharactersMax))).toBeUndefined()
    expect(PayloadPattern.problemOf("a".repeat(Limits.payloadPatternCharactersMax + 1))).toContain("200 characters")
    const part = { pattern: "^a" }
    expect(PayloadPattern.of(part, part.pattern)).toBe(PayloadPattern.of(part, part.pattern))
    expect(PayloadPattern.of({}, "(a)")).toBeUndefined()
  })

  const Piece = Schema.Literals(["a", "b", ".", "[ab]", "[^a]", "\\w", "\\d", "[a-c-]", "\\."])
  const Times = Schema.Literals(["", "*", "+", "?", "{2}", "{1,}", "{0,2}"])
  const Source = Schema.Array(Schema.Tuple([Piece, Times])).check(Schema.isMaxLength(5))
  const Letters = Schema.Array(Schema.Literals(["a", "b", "c", "-", ".", "1", "\n", "🙂"])).check(Schema.isMaxLength(8))

  it.prop(
    "matches what RegExp matches",
    { pieces: Source, letters: Letters, fromStart: Schema.Boolean, toEnd: Schema.Boolean },
    ({ fromStart, letters, pieces, toEnd }) => {
      const rest = `${pieces.flat().join("")}${toEnd ? "$" : ""}`
      const source = `${fromStart ? "^" : ""}${rest}`
      // Not `source` itself: V8 finds no /[^a]{2}$/u in "b🙂", where the standard does.
      const sought = fromStart ? source : `^[^]*?${rest}`
      const text = letters.join("")
      expect({ source, text, matches: PayloadPattern.matches(parsed(source), text) }).toEqual({
        ...{ source, text },
        matches: new RegExp(sought, "u").test(text)
      })
    },
    { arbitrary: { runs: 3_000 } }
  )

  it("costs atoms times characters, also where others try everything twice", () => {
    const hostile = parsed(`^${"a*".repeat(60)}b$`)
    expect(PayloadPattern.stepsOf(hostile, "a".repeat(10_000))).toBe((62 * 10_001) / 2)
    // 60 stars over 10,000 letters: an engine that goes back would not come to an end.
    expect(PayloadPattern.matches(hostile, "a".repeat(10_000))).toBe(false)
    expect(PayloadPattern.matches(hostile, `${"a".repeat(10_000)}b`)).toBe(true)
  })
})
