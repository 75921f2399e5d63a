/** Tasks with 64 KiB of payload, which echo gives back as a result of the same size: in batches over HTTP, 4 in flight. */
import { type Figures, hundredths, perSecond } from "../Figures.ts"
import { cpuMicros } from "../ProcessTree.ts"
import { makeAgent, memory, onPlatform, type Scenario, untilCompleted } from "./Bench.ts"

const agent = "payloads"
const payloadBytes = 64 * 1024
const tasksPerBatch = 50

export const payloads: Scenario = {
  name: "payloads",
  run: ({ tasks }) =>
    onPlatform(async ({ client, costs }) => {
      const task = { agent, type: "echo", payload: { text: "x".repeat(payloadBytes - '{"text":""}'.length) } }
      const batch = Array.from({ length: tasksPerBatch }, () => task)
      await makeAgent(client, agent, 100)
      let done = 0
      const run = async (count: number) => {
        const began = performance.now()
        let sent = 0
        const sender = async () => {
          while (sent < count) {
            sent += tasksPerBatch
            const { accepted } = await client.request("POST", "/api/v1/tasks/batch", batch)
            if (accepted !== tasksPerBatch) throw new Error(`only ${accepted} of ${tasksPerBatch} tasks were accepted`)
          }
        }
        await Promise.all(Array.from({ length: 4 }, sender))
        const acceptedAt = performance.now()
        done += sent
        await untilCompleted(client, [agent], done)
        return { sent, acceptedMillis: acceptedAt - began, endedMillis: performance.now() - began }
      }
      await run(Math.ceil(tasks / 60))
      const before = cpuMicros(costs)
      const { acceptedMillis, endedMillis, sent } = await run(Math.ceil(tasks / 15))
      const after = cpuMicros(costs)
      const figures: Figures = {
        tasks: sent,
        done_per_s: perSecond(sent, endedMillis),
        accepted_per_s: perSecond(sent, acceptedMillis),
        payload_mb_per_s: hundredths((sent * payloadBytes) / 1e6 / (endedMillis / 1_000)),
        cpu_us_node: Math.round(((after["node"] ?? Number.NaN) - (before["node"] ?? 0)) / sent),
        cpu_us_postgres: Math.round(((after["postgres"] ?? Number.NaN) - (before["postgres"] ?? 0)) / sent)
      }
      return { ...figures, ...memory(costs) }
    })
}
