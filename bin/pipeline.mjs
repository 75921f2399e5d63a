#!/usr/bin/env node
/** The nightly pipeline, set up and run on a running platform. */
import { runProgram } from "./setup.mjs"

await runProgram("examples/pipeline/pipeline.ts", process.argv.slice(2), { development: true })
