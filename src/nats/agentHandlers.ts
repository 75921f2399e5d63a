/**
 * Carries the service's endpoints of agents to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { Agents } from "../app/Agents.ts"
import { AgentVersions } from "../app/AgentVersions.ts"
import type { Handlers } from "./Handlers.ts"

export const agentHandlers = Effect.gen(function* () {
  const agents = yield* Agents
  const versions = yield* AgentVersions
  return {
    "agents.create": (command) => agents.create(command),
    "agents.get": ({ agent }) => agents.get(agent),
    "agents.list": (query) => agents.list(query),
    "agents.update": ({ agent, if_version, ...change }) => agents.update(agent, change, if_version),
    "agents.scale": ({ agent, ...change }) => agents.scale(agent, change),
    "agents.pause": ({ agent }) => agents.pause(agent),
    "agents.resume": ({ agent }) => agents.resume(agent),
    "agents.delete": ({ agent, force = false }) => agents.remove(agent, { force }),
    "agents.metrics": ({ agent }) => agents.metrics(agent),
    "agents.versions": ({ agent }) => versions.list(agent),
    "agents.version": ({ agent, version }) => versions.get(agent, version),
    "agents.rollback": ({ agent, if_version, ...command }) => versions.rollBack(agent, command, if_version),
    "agents.rollout": ({ agent, if_version, ...command }) => versions.rollOut(agent, command, if_version)
  } satisfies Partial<Handlers>
})
