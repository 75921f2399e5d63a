/**
 * Carries the HTTP contract of agents to their use cases. Every answer that shows one agent has its version as ETag.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { type Agent, Capability, CreateAgent, ScaleAgent, UpdateAgent } from "../../protocol/Agent.ts"
import { Api } from "../../protocol/api/Api.ts"
import { etag, prefix } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { Agents } from "../app/Agents.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeCreate = inputDecoder(CreateAgent)
const decodeUpdate = inputDecoder(UpdateAgent)
const decodeScale = inputDecoder(ScaleAgent)
const decodeCapability = inputDecoder(Capability)

const versioned = (agent: Agent) => Effect.as(addHeaders({ etag: etag(agent.version) }), agent)

export const layer = HttpApiBuilder.group(
  Api,
  "agents",
  Effect.fnUntraced(function* (handlers) {
    const agents = yield* Agents
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const agent = yield* agents.create(yield* body.command(decodeCreate))
          yield* addHeaders({ location: `${prefix}/agents/${agent.id}` })
          return yield* versioned(agent)
        })
      )
      .handleRaw(
        "update",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeUpdate)
          return yield* Effect.flatMap(agents.update(params.agent, command, headers["if-match"]), versioned)
        })
      )
      .handleRaw(
        "scale",
        Effect.fnUntraced(function* ({ params }) {
          return yield* Effect.flatMap(agents.scale(params.agent, yield* body.command(decodeScale)), versioned)
        })
      )
      .handleRaw(
        "addCapability",
        Effect.fnUntraced(function* ({ params }) {
          const capability = yield* body.command(decodeCapability)
          return yield* Effect.flatMap(agents.addCapability(params.agent, capability), versioned)
        })
      )
      .handleAll({
        list: ({ query }) => agents.list(query),
        get: ({ params }) => Effect.flatMap(agents.get(params.agent), versioned),
        remove: ({ params, query }) =>
          Effect.flatMap(agents.remove(params.agent, { force: query.force ?? false }), versioned),
        pause: ({ params }) => Effect.flatMap(agents.pause(params.agent), versioned),
        resume: ({ params }) => Effect.flatMap(agents.resume(params.agent), versioned),
        removeCapability: ({ params }) => Effect.flatMap(agents.removeCapability(params.agent, params.name), versioned),
        metrics: ({ params }) => agents.metrics(params.agent)
      })
  })
)
