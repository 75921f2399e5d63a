/**
 * A node that kills itself at a named place: `datamcp serve` with somebody listening at its crash points. The place comes from
 * the command line of this file, which only tests start; the product has no such switch.
 *
 *   node test/faults/node.ts <place> <before|after> <how many times it passes there first> <file>
 *
 * It appends to the file the name of each place when it first passes there. Its instances hibernate early, so that this is seen.
 */
import { appendFileSync } from "node:fs"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Duration, Effect } from "effect"
import { InstanceLimits } from "../../actors/Instance.ts"
import { CrashPoints } from "../../actors/ports/CrashPoints.ts"
import { serve } from "../../src/main.ts"

const [place, moment, passes = "0", file] = process.argv.slice(2)
let left = Number(passes)
const passed = new Set<string>()

const crashPoint = (at: string, when: "before" | "after") => {
  if (file !== undefined && !passed.has(at)) {
    passed.add(at)
    appendFileSync(file, `${at}\n`)
  }
  if (at !== place || when !== moment || left-- > 0) return
  process.kill(process.pid, "SIGKILL")
}

NodeRuntime.runMain(
  Effect.gen(function* () {
    const limits = { ...(yield* InstanceLimits), idleAfter: Duration.seconds(3) }
    return yield* serve({}).pipe(
      Effect.provideService(CrashPoints, crashPoint),
      Effect.provideService(InstanceLimits, limits)
    )
  })
)
