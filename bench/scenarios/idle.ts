/** A platform that does nothing: memory after its start, and the share of one core that each process uses. */
import { hundredths } from "../Figures.ts"
import { cpuMicros } from "../ProcessTree.ts"
import { memory, onPlatform, pause, type Scenario } from "./Bench.ts"

const settleMillis = 10_000

export const idle: Scenario = {
  name: "idle",
  run: ({ seconds }) =>
    onPlatform(async ({ costs }) => {
      await pause(settleMillis)
      const before = cpuMicros(costs)
      const began = performance.now()
      await pause(Math.max(10, seconds) * 1_000)
      const after = cpuMicros(costs)
      const elapsedMicros = (performance.now() - began) * 1_000
      const cpu = Object.entries(after).map(([name, micros]) => [
        `cpu_percent_${name}`,
        hundredths(((micros - (before[name] ?? 0)) / elapsedMicros) * 100)
      ])
      return { ...memory(costs), ...Object.fromEntries(cpu) }
    })
}
