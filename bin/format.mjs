#!/usr/bin/env node
/** Formats every file and sorts its imports. */
import { runSteps } from "./setup.mjs"

await runSteps([["biome", "check", "--write"]])
