#!/usr/bin/env node
/** The benchmarks; one line of JSON per result. */
import { runProgram } from "./setup.mjs"

await runProgram("bench/main.ts", process.argv.slice(2), { development: true })
