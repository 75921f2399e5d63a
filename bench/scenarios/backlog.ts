/**
 * How cost grows as work waits: N tasks are accepted while their agent is paused, then it drains them. Rates of the first and
 * the last tenth tell whether the size of the backlog shows; memory is read before, full and after.
 */
import { type Figures, percentiles, perSecond } from "../Figures.ts"
import { httpLoad } from "../HttpLoad.ts"
import {
  completed,
  makeAgent,
  memory,
  onPlatform,
  pause,
  type Scenario,
  submitBatches,
  taskFor,
  untilCompleted
} from "./Bench.ts"

const agent = "backlog"

const named = (suffix: string, figures: Figures): Figures =>
  Object.fromEntries(Object.entries(figures).map(([name, value]) => [`${name}_${suffix}`, value]))

export const backlog: Scenario = {
  name: "backlog",
  once: true,
  run: ({ backlog: size, seconds, warm }) =>
    onPlatform(async ({ client, costs, platform }) => {
      await makeAgent(client, agent)
      const warmTasks = Math.min(size, 2_500 * Math.max(1, warm))
      await submitBatches(client, warmTasks, () => agent)
      await untilCompleted(client, [agent], warmTasks)
      const empty = memory(costs)

      await client.request("POST", `/api/v1/agents/${agent}/pause`)
      const tenth = Math.ceil(size / 10)
      const accepted: Array<number> = []
      for (let part = 0; part < 10; part++) {
        const began = performance.now()
        await submitBatches(client, tenth, () => agent)
        accepted.push(perSecond(tenth, performance.now() - began))
        process.stderr.write(`backlog: ${tenth * (part + 1)} queued, ${accepted[part]} accepted per second\n`)
      }
      const full = memory(costs)
      const single = await httpLoad({
        url: platform.url,
        key: platform.key,
        connections: 64,
        seconds: Math.min(5, seconds),
        request: () => ({ method: "POST", path: "/api/v1/tasks", body: taskFor(agent) }),
        status: 202
      })
      const page = await httpLoad({
        url: platform.url,
        key: platform.key,
        connections: 16,
        seconds: Math.min(5, seconds),
        request: () => ({ method: "GET", path: "/api/v1/tasks?limit=50&status=queued" }),
        status: 200
      })
      const queued = tenth * 10 + single.millis.length - single.errors

      const began = performance.now()
      await client.request("POST", `/api/v1/agents/${agent}/resume`)
      const drained: Array<{ readonly at: number; readonly done: number }> = []
      const end = began + Math.max(600_000, size * 2)
      for (;;) {
        const done = (await completed(client, [agent])) - warmTasks
        drained.push({ at: performance.now() - began, done })
        if (done >= queued) break
        if (performance.now() > end) throw new Error(`only ${done} of ${queued} queued tasks completed in time`)
        await pause(100)
      }
      const last = drained.at(-1)?.at ?? Number.NaN
      const whenDone = (share: number) => drained.find(({ done }) => done >= queued * share)?.at ?? Number.NaN
      return {
        queued,
        accepted_per_s_first_tenth: accepted[0] ?? Number.NaN,
        accepted_per_s_last_tenth: accepted[9] ?? Number.NaN,
        accepted_per_s: Math.round(10 / accepted.reduce((sum, rate) => sum + 1 / rate, 0)),
        http_accepted_per_s_full: perSecond(single.millis.length, single.elapsedMillis),
        ...percentiles("http_accept_full_", single.millis),
        page_of_50_per_s_full: perSecond(page.millis.length, page.elapsedMillis),
        ...percentiles("page_of_50_full_", page.millis),
        errors: single.errors + page.errors,
        drained_per_s: perSecond(queued, last),
        drained_per_s_first_tenth: perSecond(queued / 10, whenDone(0.1)),
        drained_per_s_last_tenth: perSecond(queued / 10, last - whenDone(0.9)),
        ...named("empty", empty),
        ...named("full", full),
        ...named("after", memory(costs))
      }
    })
}
