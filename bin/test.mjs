#!/usr/bin/env node
/** All tests, or those whose file names contain the arguments. */
import { runProgram } from "./setup.mjs"

await runProgram("node_modules/vitest/vitest.mjs", ["run", ...process.argv.slice(2)], { development: true })
