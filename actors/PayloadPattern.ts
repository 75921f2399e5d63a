/**
 * The patterns that a payload schema may have: a part of the regular expressions of JavaScript small enough that testing
 * a text of bounded length takes a bounded time.
 *
 * They begin with `^` and are characters, `.`, classes and escapes, each with a quantifier or without. No groups, no
 * alternatives, no look-around, no references back: what can vary is at most `payloadPatternVaryingMax` quantifiers, so that
 * an engine that tries every way tries at most so many lengths of each.
 */
import type { Schema } from "effect"
import * as Limits from "../protocol/Limits.ts"

/** One character of a text, and how often; sticky, so that it goes on where the last one ended. */
const atom =
  /(?:\\[dDwWsS]|\\[\\^$.*+?()[\]{}|/-]|\[\^?(?:\\[dDwWsS\\^\]/-]|[^\\\]])+\]|[^\\^$*+?()[\]{}|])(?<times>[*+?]|\{(?<least>\d{1,3})(?<open>,(?<most>\d{0,3}))?\})?/uy

/** Why a value is no such pattern; undefined when it is one. */
export const problemOf = (pattern: Schema.Json): string | undefined => {
  if (typeof pattern !== "string") return "must be a text"
  if (pattern.length > Limits.payloadPatternCharactersMax) {
    return `has more than ${Limits.payloadPatternCharactersMax} characters`
  }
  if (!pattern.startsWith("^")) return "must begin with ^"
  const end = pattern.endsWith("$") && !pattern.endsWith("\\$") ? pattern.length - 1 : pattern.length
  let varying = 0
  atom.lastIndex = 1
  while (atom.lastIndex < end) {
    const from = atom.lastIndex
    const found = atom.exec(pattern)
    if (found === null || atom.lastIndex > end) {
      return `has something at character ${from + 1} that is not taken: only characters, ., classes and escapes with *, +, ? or {}`
    }
    const { least, most, open, times } = found.groups ?? {}
    if (times !== undefined && (least === undefined || (open !== undefined && least !== most))) varying++
  }
  if (varying > Limits.payloadPatternVaryingMax) {
    return `has ${varying} quantifiers that vary; at most ${Limits.payloadPatternVaryingMax} are taken`
  }
  try {
    new RegExp(pattern, "u")
    return undefined
  } catch {
    return "is no regular expression of JavaScript with the flag u"
  }
}

/** What testing a text costs at most: every length of one varying part with every length of the other. */
export const stepsOf = (text: string): number => 1 + (text.length * text.length) / 16

const expressions = new WeakMap<object, RegExp>()

/** The expression of the part of a schema that has this pattern, made once. */
export const of = (part: object, pattern: string): RegExp => {
  const known = expressions.get(part)
  if (known !== undefined) return known
  const made = new RegExp(pattern, "u")
  expressions.set(part, made)
  return made
}
