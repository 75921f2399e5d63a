/**
 * How many durable accepts per second the HTTP door gives: `POST /tasks`, 64 and 256 connections with one request in flight each.
 * Once while the agent works on what is accepted (all of the platform), once with the agent paused (the door and the accept alone).
 */
import { type Figures, percentiles, perSecond } from "../Figures.ts"
import { httpLoad } from "../HttpLoad.ts"
import { cpuMicros } from "../ProcessTree.ts"
import { type Bench, makeAgent, onPlatform, type Scenario, taskFor, untilCompleted } from "./Bench.ts"

const agent = "accepts"

const load = async (
  { costs, platform }: Bench,
  name: string,
  connections: number,
  seconds: number
): Promise<{ readonly figures: Figures; readonly sent: number }> => {
  const before = cpuMicros(costs)
  const task = taskFor(agent)
  const { elapsedMillis, errors, millis } = await httpLoad({
    url: platform.url,
    key: platform.key,
    connections,
    seconds,
    request: () => ({ method: "POST", path: "/api/v1/tasks", body: task }),
    status: 202
  })
  const after = cpuMicros(costs)
  const cpu = Object.entries(after).map(([process, micros]) => [
    `${name}_cpu_us_${process}`,
    Math.round((micros - (before[process] ?? 0)) / millis.length)
  ])
  const figures = {
    [`${name}_accepted_per_s`]: perSecond(millis.length - errors, elapsedMillis),
    ...percentiles(`${name}_`, millis),
    [`${name}_errors`]: errors,
    ...Object.fromEntries(cpu)
  }
  return { figures, sent: millis.length - errors }
}

export const accepts: Scenario = {
  name: "accepts",
  run: ({ seconds, warm }) =>
    onPlatform(async (bench) => {
      await makeAgent(bench.client, agent)
      let sent = (await load(bench, "warm", 64, Math.max(1, warm))).sent
      const working = await load(bench, "working_64", 64, seconds)
      sent += working.sent
      await untilCompleted(bench.client, [agent], sent)
      await bench.client.request("POST", `/api/v1/agents/${agent}/pause`)
      const few = await load(bench, "paused_64", 64, seconds)
      const many = await load(bench, "paused_256", 256, seconds)
      return { ...working.figures, ...few.figures, ...many.figures }
    })
}
