#!/usr/bin/env node
/** The benchmark: starts a platform of its own and measures it from a client process. One JSON line per result. */
import { runProgram } from "./setup.mjs"

await runProgram("bench/main.ts", process.argv.slice(2), { development: true })
