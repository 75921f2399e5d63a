#!/usr/bin/env node
/** Brings up the whole platform on this machine and stays in the foreground. */
import { runProgram } from "./setup.mjs"

await runProgram("src/cli.ts", ["up", ...process.argv.slice(2)], { development: false })
