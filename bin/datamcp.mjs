#!/usr/bin/env node
/** The command line, as it stands in a clone. */
import { runProgram } from "./setup.mjs"

await runProgram("src/cli.ts", process.argv.slice(2), { development: false })
