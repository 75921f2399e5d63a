/**
 * 10,000 registered agents, 100 of them active: what registering costs, memory, and whether bulk work spread over 100 agents is
 * as fast as the same work for one.
 */
import { percentiles, perSecond } from "../Figures.ts"
import { httpLoad } from "../HttpLoad.ts"
import { makeAgent, memory, onPlatform, type Scenario, submitBatches, untilCompleted } from "./Bench.ts"

const registered = 10_000
const active = 100

const nameOf = (n: number) => `agent-${String(n).padStart(5, "0")}`

export const agents: Scenario = {
  name: "agents",
  once: true,
  run: ({ tasks }) =>
    onPlatform(async ({ client, costs, platform }) => {
      const one = "only"
      await makeAgent(client, one)
      const rate = async (names: ReadonlyArray<string>, before: number) => {
        const began = performance.now()
        await submitBatches(client, tasks, (batch) => names[batch % names.length] ?? one)
        await untilCompleted(client, names, before + tasks)
        return perSecond(tasks, performance.now() - began)
      }
      await rate([one], 0)
      const aloneBefore = await rate([one], tasks)
      const idle = memory(costs)

      // One request in flight per connection, until each name was asked for once.
      const began = performance.now()
      const made: Array<number> = []
      let next = 0
      const sender = async () => {
        while (next < registered) {
          const at = performance.now()
          await makeAgent(client, nameOf(next++))
          made.push(performance.now() - at)
        }
      }
      await Promise.all(Array.from({ length: 32 }, sender))
      const registeredPerSecond = perSecond(registered, performance.now() - began)
      const full = memory(costs)

      const aloneAfter = await rate([one], tasks * 2)
      const names = Array.from({ length: active }, (_, n) => nameOf(n * (registered / active)))
      // The first run wakes them: consumers, leases.
      const waking = await rate(names, 0)
      const spread = await rate(names, tasks)
      const page = await httpLoad({
        url: platform.url,
        key: platform.key,
        connections: 16,
        seconds: 2,
        request: () => ({ method: "GET", path: "/api/v1/agents?limit=50" }),
        status: 200
      })
      return {
        registered_per_s: registeredPerSecond,
        ...percentiles("register_", made),
        one_agent_done_per_s_before: aloneBefore,
        one_agent_done_per_s_among_10000: aloneAfter,
        waking_100_agents_done_per_s: waking,
        "100_agents_done_per_s": spread,
        page_of_50_agents_per_s: perSecond(page.millis.length, page.elapsedMillis),
        rss_node_mb_one_agent: idle["rss_node_mb"] ?? Number.NaN,
        rss_node_mb_10000_agents: full["rss_node_mb"] ?? Number.NaN,
        ...memory(costs)
      }
    })
}
