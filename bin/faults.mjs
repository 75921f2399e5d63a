#!/usr/bin/env node
/** Breaks a platform in many ways and checks what became of every task. */
import { runProgram } from "./setup.mjs"

await runProgram("test/faults/main.ts", process.argv.slice(2), { development: true })
