/** Modules of one's own stand beside the built-in behaviours, and a wrong one is told before anything runs. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { Behaviours } from "../actors/Behaviour.ts"
import * as behaviours from "../src/behaviours.ts"
import { attemptOf, services } from "./actors/behaviours/attempts.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "behaviours-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true }))
)

const isolation = { processesMax: 8, environment: {} }

const right = `{ type: "greet", description: "Greets.", capabilities: [{ name: "greet" }], check: () => {}, open: () => {} }`

/** The mistakes of a module with this source. */
const mistakesOf = (source: string, ...more: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const module = join(yield* folder, "module.mjs")
    writeFileSync(module, source)
    const problem = yield* Effect.flip(Effect.provide(Behaviours, behaviours.layer([module, ...more], isolation)))
    return problem.mistakes.map((mistake) => mistake.replace(module, "MODULE"))
  }).pipe(Effect.scoped)

describe("behaviours", () => {
  it.live("are the built-in ones when nothing else is named", () =>
    Effect.gen(function* () {
      const { get, types } = yield* Behaviours
      expect(types).toEqual(["approval", "echo", "http", "sql"])
      expect(get("sql")?.capabilities).toMatchObject([{ name: "sql.query", parameters: { type: "object" } }])
      expect(get("toString")).toBeUndefined()
    }).pipe(Effect.provide(behaviours.layer([], isolation)))
  )

  it.live("are those of modules too: default export or `behaviour`, by path", () =>
    Effect.gen(function* () {
      const here = yield* folder
      writeFileSync(join(here, "a.mjs"), `export default ${right}`)
      writeFileSync(join(here, "b.mjs"), `export const behaviour = ${right.replace("greet", "wave")}`)
      const loaded = yield* Effect.provide(
        Behaviours,
        behaviours.layer([join(here, "a.mjs"), join(here, "b.mjs")], isolation)
      )
      expect(loaded.types).toEqual(["approval", "echo", "http", "sql", "greet", "wave"])
      expect(loaded.get("wave")?.description).toBe("Greets.")
    }).pipe(Effect.scoped)
  )

  it.live("are those of packages that the working directory sees", () =>
    Effect.gen(function* () {
      const home = join(process.cwd(), "node_modules", "datamcp-test-behaviour")
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          mkdirSync(home, { recursive: true })
          writeFileSync(
            join(home, "package.json"),
            `{"name": "datamcp-test-behaviour", "type": "module", "exports": {"import": "./index.js"}}`
          )
          writeFileSync(join(home, "index.js"), `export default ${right}`)
        }),
        () => Effect.sync(() => rmSync(home, { recursive: true }))
      )
      const loaded = yield* Effect.provide(Behaviours, behaviours.layer(["datamcp-test-behaviour"], isolation))
      expect(loaded.types).toContain("greet")
    }).pipe(Effect.scoped)
  )

  it.live("cannot be replaced", () =>
    Effect.gen(function* () {
      expect(yield* mistakesOf(`export default ${right.replace("greet", "http")}`)).toEqual([
        `MODULE: its type "http" is that of datamcp itself; choose another`
      ])
    })
  )

  it.live("are refused with the module and the field that is wrong, all at once", () =>
    Effect.gen(function* () {
      expect(
        yield* mistakesOf(
          `export default { type: "Greet!", capabilities: [{ name: "two words" }], check: 1 }`,
          "./nowhere.ts"
        )
      ).toEqual([
        "MODULE: its field `type` is wrong: it must be a name of 1 to 64 lower-case letters, digits, `_` or `-` that begins with a letter",
        "MODULE: its field `description` is missing: it must be a text",
        expect.stringMatching(
          /^MODULE: its field `capabilities` is wrong: it must be an array of 1 to 100 capabilities/u
        ),
        "MODULE: its field `check` is wrong: it must be a function of the settings that returns an Effect",
        "MODULE: its field `open` is missing: it must be a function of the settings that returns an Effect",
        expect.stringMatching(/^\.\/nowhere\.ts: it cannot be loaded: Cannot find module/u)
      ])
      const unchecked = right.replace('{ name: "greet" }', '{ name: "greet", payload_schema: { format: "email" } }')
      expect(yield* mistakesOf(`export default ${unchecked}`)).toEqual([
        expect.stringMatching(
          /^MODULE: its field `capabilities` is wrong: it must be one whose every `payload_schema`/u
        )
      ])
      expect(yield* mistakesOf(`export const greet = ${right}`)).toEqual([
        "MODULE: it exports no behaviour: export one as default or as `behaviour`"
      ])
      expect(yield* mistakesOf("throw new Error('not today')")).toEqual(["MODULE: it cannot be loaded: not today"])
      expect(yield* mistakesOf("export default (")).toEqual([expect.stringMatching(/^MODULE: it cannot be loaded: /u)])
    })
  )

  it.live("of the examples run", () =>
    Effect.gen(function* () {
      const { get } = yield* Behaviours
      const statistics = get("text-statistics")
      if (statistics === undefined) return yield* Effect.die(new Error("it is not there"))
      const result = yield* Effect.scoped(
        Effect.flatMap(statistics.open({}), (run) => run(attemptOf(statistics, { text: "One two. Two?", top: 1 })))
      )
      expect(result).toMatchObject({
        words: 3,
        distinct_words: 2,
        sentences: 2,
        top_words: [{ word: "two", count: 2 }]
      })
    }).pipe(Effect.provide([behaviours.layer(["./examples/behaviours/textStatistics.ts"], isolation), services]))
  )
})
