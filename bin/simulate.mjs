#!/usr/bin/env node
/** Simulated worlds of nodes, from seeds; see docs/simulation.md. */
import { runProgram } from "./setup.mjs"

await runProgram("test/simulation/simulate.ts", process.argv.slice(2), { development: true })
