/**
 * Carries the HTTP contract of an agent's versions to their use cases.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import type { Agent } from "../../protocol/Agent.ts"
import { RollBackAgent, RollOutAgent } from "../../protocol/AgentVersion.ts"
import { Api } from "../../protocol/api/Api.ts"
import { etag } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { AgentVersions } from "../app/AgentVersions.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeRollBack = inputDecoder(RollBackAgent)
const decodeRollOut = inputDecoder(RollOutAgent)

const versioned = (agent: Agent) => Effect.as(addHeaders({ etag: etag(agent.version) }), agent)

export const layer = HttpApiBuilder.group(
  Api,
  "agentVersions",
  Effect.fnUntraced(function* (handlers) {
    const versions = yield* AgentVersions
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "rollBack",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeRollBack)
          return yield* Effect.flatMap(versions.rollBack(params.agent, command, headers["if-match"]), versioned)
        })
      )
      .handleRaw(
        "rollOut",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeRollOut)
          return yield* Effect.flatMap(versions.rollOut(params.agent, command, headers["if-match"]), versioned)
        })
      )
      .handleAll({
        list: ({ params }) => versions.list(params.agent),
        get: ({ params }) => versions.get(params.agent, params.version)
      })
  })
)
