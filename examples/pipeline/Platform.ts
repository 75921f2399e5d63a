/**
 * A platform as its users see it: what the pipeline needs of the REST API, by `fetch` and nothing else.
 */
import { setTimeout as sleep } from "node:timers/promises"
import * as nightly from "./nightly.ts"

/** One request to `/api/v1`; null when there is no such thing. Throws what was refused, as the problem says it. */
export type Ask = (method: string, path: string, body?: unknown) => Promise<any>

export const askOf =
  (platform: { readonly url: string; readonly key: string }): Ask =>
  async (method, path, body) => {
    const answer = await fetch(`${platform.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${platform.key}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    const said = await answer.text()
    if (answer.status === 404) return null
    if (!answer.ok) throw new Error(`${method} ${path} was refused: ${answer.status} ${said}`)
    return said === "" ? undefined : JSON.parse(said)
  }

/** Makes the agents, the schedule and the webhook, or brings them up to date. Answers the webhook's secret. */
export const setUp = async (ask: Ask, places: nightly.Places): Promise<string> => {
  for (const [name, { configuration, type }] of Object.entries(nightly.agents(places))) {
    const found = await ask("PUT", `/agents/${name}`, { configuration })
    if (found === null) await ask("POST", "/agents", { name, type, configuration })
  }
  const schedule = nightly.schedule(places)
  const found = await ask("PUT", "/schedules/nightly", schedule)
  if (found === null) await ask("POST", "/schedules", { name: "nightly", ...schedule })
  if (found?.status === "paused") await ask("POST", "/schedules/nightly/resume")
  // The secret is told once, when the webhook is made: so it is made anew.
  const webhook = nightly.webhook(places)
  const webhooks = await ask("GET", "/webhooks?limit=100")
  for (const { id, name } of webhooks.data) if (name === webhook.name) await ask("DELETE", `/webhooks/${id}`)
  return (await ask("POST", "/webhooks", webhook)).secret
}

/** Runs the schedule now; answers the id of the graph. */
export const runNow = async (ask: Ask): Promise<string> => (await ask("POST", "/schedules/nightly/run")).graph.id

/** Of a graph that has come so far: what waits for a decision, with the question. Throws when it ended before. */
export const awaitQuestion = async (ask: Ask, graphId: string) => {
  for (;;) {
    const graph = await ask("GET", `/graphs/${graphId}`)
    const { id, waiting_for: waitingFor } = taskOf(graph, "approve")
    if (waitingFor === "signal") {
      const { awaiting } = await ask("GET", `/tasks/${id}/signals`)
      return { taskId: id, message: awaiting[0].message }
    }
    if (graph.ended) throw new Error(`the graph ended before anybody was asked: ${JSON.stringify(graph.tasks)}`)
    await sleep(100)
  }
}

export const decide = (ask: Ask, taskId: string, decision: "approve" | "reject", comment: string) =>
  ask("POST", `/tasks/${taskId}/signals/approval`, { decision, comment })

/** The graph, once all of it has ended. */
export const awaitEnd = async (ask: Ask, graphId: string) => {
  for (;;) {
    const graph = await ask("GET", `/graphs/${graphId}?wait=30s`)
    if (graph.ended) return graph
  }
}

export const taskOf = (graph: any, key: string) => graph.tasks.find((task: any) => task.key === key)

/** What a task of a graph returned. */
export const resultOf = async (ask: Ask, graph: any, key: string) =>
  (await ask("GET", `/tasks/${taskOf(graph, key).id}`)).result.data
