/**
 * One environment variable: how it is described, read, and shown in the documents. A mistake is told by name, by what was
 * expected, and by an example; a secret's text is never told.
 */
import { Redacted, Result } from "effect"
import type { Grammar } from "./Grammar.ts"

export interface Variable<out A, out D, out S extends boolean> {
  readonly name: string
  readonly grammar: Grammar<A>
  readonly secret: S
  readonly default: D
  /** How the documents show the default. */
  readonly shown: string
  readonly example: string
  readonly meaning: string
}

/** What reading a variable gives: its value (`Redacted` when secret) or its default. */
export type ValueOf<V> =
  V extends Variable<infer A, infer D, infer S> ? (S extends true ? Redacted.Redacted<A> : A) | D : never

export const variable = <A, const D, const S extends boolean = false>(
  name: string,
  given: {
    readonly grammar: Grammar<A>
    readonly default: D
    readonly example: string
    readonly meaning: string
    readonly secret?: S
    readonly shown?: string
  }
): Variable<A, D, S> => ({
  name,
  grammar: given.grammar,
  secret: (given.secret ?? false) as S,
  default: given.default,
  shown: given.shown ?? (given.default === undefined ? "not set" : String(given.default)),
  example: given.example,
  meaning: given.meaning
})

type Variables = Readonly<Record<string, Variable<unknown, unknown, boolean>>>

/** Reads all variables; when some are wrong, one sentence for each. An empty value counts as not set. */
export const readAll = <V extends Variables>(
  variables: V,
  environment: Readonly<Record<string, string | undefined>>
): Result.Result<{ readonly [K in keyof V]: ValueOf<V[K]> }, ReadonlyArray<string>> => {
  const values: Record<string, unknown> = {}
  const mistakes: Array<string> = []
  for (const [key, variable] of Object.entries(variables)) {
    const text = environment[variable.name]?.trim() ?? ""
    const value = text === "" ? undefined : variable.grammar.parse(text)
    if (text === "") values[key] = variable.default
    else if (value === undefined) mistakes.push(mistake(variable, text))
    else values[key] = variable.secret ? Redacted.make(value, { label: variable.name }) : value
  }
  return mistakes.length === 0
    ? Result.succeed(values as { readonly [K in keyof V]: ValueOf<V[K]> })
    : Result.fail(mistakes)
}

const mistake = (variable: Variables[string], text: string) => {
  const got = variable.secret
    ? "what is set is none (not shown, it may be secret)"
    : `got ${JSON.stringify(text.slice(0, 80))}`
  return `${variable.name}: expected ${variable.grammar.expected}; ${got}. ${exampleOf(variable)}`
}

/** The sentence for a variable that must be set and is not. */
export const missing = (variable: Variables[string]) =>
  `${variable.name} is not set. ${variable.meaning} ${exampleOf(variable)}`

export const exampleOf = ({ example, name }: Variables[string]) => `Example: ${name}=${example}`

/** The variables as a table in Markdown. */
export const markdownTable = (variables: ReadonlyArray<Variables[string]>) =>
  [
    "| variable | what it may be | default | example | meaning |",
    "|---|---|---|---|---|",
    ...variables.map(
      ({ example, grammar, meaning, name, secret, shown }) =>
        `| \`${name}\`${secret ? " (secret)" : ""} | ${grammar.expected} | ${shown} | \`${example}\` | ${meaning} |`
    )
  ].join("\n")
