#!/usr/bin/env node
/** Everything that is checked without running the product: types, use of Effect, lint, format, import rules. */
import { runSteps } from "./setup.mjs"

await runSteps([
  ["tsc"],
  ["effect-tsgo", "diagnostics", "--project", "tsconfig.json", "--format", "text", "--severity", "error,warning"],
  ["oxlint", "--deny-warnings"],
  ["biome", "ci", "--error-on-warnings"],
  ["test/architecture/importRules.ts"]
])
