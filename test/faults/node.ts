/**
 * A node that kills itself at a named place: `datamcp serve` with somebody listening at its crash points. The place comes from
 * the command line of this file, which only tests start; the product has no such switch.
 *
 *   node test/faults/node.ts <place> <before|after> <how many times it passes there first>
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { CrashPoints } from "../../actors/ports/CrashPoints.ts"
import { serve } from "../../src/main.ts"

const [place, moment, passes = "0"] = process.argv.slice(2)
let left = Number(passes)

const crashPoint = (at: string, when: "before" | "after") => {
  if (at !== place || when !== moment || left-- > 0) return
  process.kill(process.pid, "SIGKILL")
}

NodeRuntime.runMain(Effect.provideService(serve({}), CrashPoints, crashPoint))
