/** Some of the catalogue on one rig, one after the other: what every run of the tests shows. */
import type { Fault, FaultRun, Figure } from "../Fault.ts"
import { killNats } from "./nats.ts"
import { freezeNode, killNodes } from "./nodes.ts"
import { killPostgres, loseAnswers } from "./postgres.ts"

/** The same run, for so many seconds from now. */
const part = (run: FaultRun, seconds: number): FaultRun => {
  const until = performance.now() + seconds * 1_000
  return { ...run, millis: seconds * 1_000, goesOn: () => performance.now() < until }
}

const parts: ReadonlyArray<readonly [fault: Fault, seconds: number]> = [
  [killNats, 2],
  [killPostgres, 2],
  [loseAnswers, 4],
  [killNodes, 4],
  [freezeNode, 1]
]

export const shortSelection: Fault = {
  id: "short",
  title: parts.map(([{ id }]) => id).join(", "),
  pass: "as each of them",
  ...{ nodes: 2, perSecond: 60, seconds: 0, quietSeconds: 40 },
  inject: async (run) => {
    const figures: Array<Figure> = []
    for (const [fault, seconds] of parts) {
      const own = await fault.inject(part(run, seconds))
      // In so short a time what is rare need not happen; what may not happen still may not.
      figures.push(...own.map(({ least: _, ...figure }) => ({ ...figure, name: `${fault.id}: ${figure.name}` })))
    }
    return figures
  }
}
