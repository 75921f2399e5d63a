#!/usr/bin/env node
/** The demonstration, on a running platform or on one that it starts. */
import { runProgram } from "./setup.mjs"

await runProgram("examples/demo/demo.ts", process.argv.slice(2), { development: true })
