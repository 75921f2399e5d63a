/**
 * The demonstration's agents: made when they are missing, brought up to date when they are there.
 */
import { Effect } from "effect"
import type { AgentConfiguration } from "../../protocol/Agent.ts"
import { AgentName } from "../../protocol/Ids.ts"
import { Client } from "../../src/cli/Client.ts"

export const agentNames = { http: AgentName.make("demo-http"), sql: AgentName.make("demo-sql") }

/**
 * Both agents, ready to work. `filesUrl` is where the data sets are served: a private address, which an agent reaches
 * only when its settings name it.
 */
export const ensureAgents = Effect.fnUntraced(function* (given: {
  readonly filesUrl: string
  readonly threads: number
}) {
  yield* ensure(agentNames.http, "http", "Fetches the demonstration's data sets.", {
    max_concurrent_tasks: 4,
    settings: { allow_private: [new URL(given.filesUrl).host] }
  })
  yield* ensure(agentNames.sql, "sql", "Checks, joins and counts the demonstration's data sets.", {
    max_concurrent_tasks: 2,
    settings: { memory_mib: 512, threads: given.threads }
  })
})

const ensure = Effect.fnUntraced(function* (
  name: AgentName,
  type: string,
  description: string,
  configuration: AgentConfiguration
) {
  const client = yield* Client
  const params = { agent: name }
  const found = yield* client.agents
    .get({ params })
    .pipe(
      Effect.catchTag("AgentNotFound", () =>
        client.agents.create({ payload: { name, type, description, configuration } })
      )
    )
  yield* client.agents.update({ params, headers: {}, payload: { description, configuration } })
  if (found.status === "maintenance" || found.status === "error") yield* client.agents.resume({ params })
})
