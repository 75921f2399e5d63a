/** Payload schemas through every door of a whole node: defined over HTTP, kept to over NATS, HTTP and from the shell. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "../cli/runCli.ts"
import { askPort } from "../http/support/TestServer.ts"
import { ownFolder } from "../support/Servers.ts"
import { servePlatform } from "./ServedPlatform.ts"
import { rawClient } from "./support.ts"

const schema = { type: "object", properties: { copies: { type: "integer", minimum: 1 } } }

describe("a payload schema", () => {
  it.live(
    "is shown and kept to by every door",
    () =>
      Effect.gen(function* () {
        const platform = yield* servePlatform()
        const nats = yield* rawClient(platform.nats.natsUrl)
        const headers = { authorization: `Bearer ${platform.key}`, "content-type": "application/json" }
        const post = (path: string, body: unknown) =>
          Effect.promise(() =>
            askPort(Number(new URL(platform.url).port), {
              ...{ method: "POST", path: `/api/v1${path}`, body: JSON.stringify(body), headers }
            })
          )
        const ask = (endpoint: string, body: unknown) =>
          Effect.promise(() =>
            nats.request(`datamcp.v1.default.${endpoint}`, body, { Authorization: headers.authorization })
          )
        const folder = ownFolder("schema-")
        const cli = (...args: ReadonlyArray<string>) =>
          runCli(args, { cwd: folder, env: { DATAMCP_URL: platform.url, DATAMCP_API_KEY: platform.key } })

        const agent = (payload_schema: unknown) => ({
          ...{ name: "printer", type: "echo", capabilities: [{ name: "print", payload_schema }] }
        })
        const bad = yield* post("/agents", agent({ patternProperties: {} }))
        expect([bad.status, bad.json.errors[0].field]).toEqual([422, "capabilities.0.payload_schema.patternProperties"])
        expect(yield* post("/agents", agent(schema))).toMatchObject({ status: 201 })

        const unfit = { agent: "printer", payload: { copies: 0 } }
        const errors = [{ field: "payload.copies", message: expect.stringContaining("must be at least 1") }]
        expect(yield* post("/tasks", unfit)).toMatchObject({ status: 422, json: { errors } })
        const batch = yield* post("/tasks/batch", [{ agent: "printer", payload: { copies: 1 } }, unfit])
        expect(batch.json).toMatchObject({ accepted: 1, refused: 1, data: [{ status: 202 }, { index: 1 }] })

        expect((yield* ask("tasks.submit", unfit)).json).toMatchObject({ status: 422, errors })
        expect((yield* ask("agents.get", { agent: "printer" })).json).toMatchObject({
          capabilities: [{ name: "print", payload_schema: schema }]
        })

        const refused = yield* cli("tasks", "submit", "--agent", "printer", "--payload", JSON.stringify(unfit.payload))
        expect([refused.code, refused.stderr]).toEqual([
          1,
          expect.stringContaining("payload.copies: must be at least 1")
        ])
        const shown = yield* cli("agents", "get", "printer", "--json")
        expect(JSON.parse(shown.stdout)).toMatchObject({ capabilities: [{ payload_schema: schema }] })
      }).pipe(Effect.scoped),
    120_000
  )
})
