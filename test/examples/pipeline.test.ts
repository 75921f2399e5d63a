/**
 * The nightly pipeline on a whole node: real Postgres, real JetStream, real files and a real receiver. Its report's figures
 * are compared with the same figures computed in plain JavaScript.
 */
import { expect, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { type Outside, openOutside } from "../../examples/pipeline/Outside.ts"
import {
  type Ask,
  askOf,
  awaitEnd,
  awaitQuestion,
  decide,
  resultOf,
  runNow,
  setUp,
  taskOf
} from "../../examples/pipeline/Platform.ts"
import { isGenuine } from "../../examples/pipeline/Receiver.ts"
import { type ServedPlatform, servePlatform } from "../nats/ServedPlatform.ts"
import { eventually } from "../webhooks/Receiver.ts"
import { pipelineFigures } from "./pipelineFigures.ts"

class Rig extends Context.Service<Rig, { readonly platform: ServedPlatform; readonly outside: Outside }>()(
  "datamcp/test/examples/Rig"
) {
  static readonly layer = Layer.effect(
    Rig,
    Effect.gen(function* () {
      // The receiver listens on the loopback.
      const platform = yield* servePlatform({ DATAMCP_WEBHOOKS_ALLOW_PRIVATE: "127.0.0.1" })
      const outside = yield* Effect.acquireRelease(
        Effect.promise(() => openOutside()),
        ({ close }) => Effect.sync(close)
      )
      return Rig.of({ platform, outside })
    })
  )
}

interface Rigged {
  readonly ask: Ask
  readonly outside: Outside
  readonly platform: ServedPlatform
  /** What has been published and told since the test began. */
  readonly since: () => { readonly published: ReadonlyArray<any>; readonly told: Outside["told"] }
}

/** Each test sets the pipeline up anew on the same platform, as a second run of the script does. */
const onRig = (test: (rigged: Rigged) => Promise<void>) =>
  Effect.flatMap(Rig, ({ outside, platform }) =>
    Effect.promise(async () => {
      const ask = askOf(platform)
      outside.secret = await setUp(ask, outside)
      const before = { published: outside.published.size, told: outside.told.length }
      const since = () => ({
        published: [...outside.published.values()].slice(before.published),
        told: outside.told.slice(before.told)
      })
      await test({ ask, outside, platform, since })
    })
  )

const statusesOf = (graph: any) => Object.fromEntries(graph.tasks.map(({ key, status }: any) => [key, status]))

layer(Rig.layer, { excludeTestServices: true, timeout: "90 seconds" })("the nightly pipeline", (it) => {
  it.effect(
    "publishes the figures that plain JavaScript finds in the same files, and tells of it with a signature",
    () =>
      onRig(async ({ ask, outside, since }) => {
        const graphId = await runNow(ask)
        const { message, taskId } = await awaitQuestion(ask, graphId)
        const { files, problems, rows } = pipelineFigures()
        expect(message).toBe(
          `Publish the report of ${files.length} files with ${rows} rows and ${problems.length} problems?`
        )
        expect(since()).toEqual({ published: [], told: [] })
        await decide(ask, taskId, "approve", "fine")
        const graph = await awaitEnd(ask, graphId)
        expect(new Set(Object.values(statusesOf(graph)))).toEqual(new Set(["completed"]))
        expect([taskOf(graph, "fetch").map.total, taskOf(graph, "check").map.total]).toEqual([8, 8])
        const { report } = await resultOf(ask, graph, "report")
        expect(report.sections.map((section: any) => section.rows)).toEqual([files, problems])
        expect(problems).toHaveLength(3)
        expect(since().published).toMatchObject([{ approved_by: expect.stringMatching(/^key:/u), report }])

        await eventually("the webhook", () => since().told.length > 0)
        const [told] = since().told
        if (told === undefined) throw new Error("nothing was told")
        expect(told.genuine).toBe(true)
        expect(JSON.parse(told.body)).toMatchObject({
          type: "TaskCompleted",
          data: { task: { id: taskOf(graph, "publish").id, result: { data: { status: 201 } } } }
        })
        const { body, headers } = told
        expect(isGenuine(outside.secret, headers, body.replace("TaskCompleted", "TaskFailed"))).toBe(false)
        expect(isGenuine(`whsec_${Buffer.alloc(32).toString("base64")}`, headers, body)).toBe(false)
        expect(isGenuine(outside.secret, { ...headers, "webhook-timestamp": "1764000000" }, body)).toBe(false)
      }),
    60_000
  )

  it.effect(
    "publishes nothing and tells nobody when the report is rejected, or when the one who answers may not",
    () =>
      onRig(async ({ ask, platform, since }) => {
        const graphId = await runNow(ask)
        const { taskId } = await awaitQuestion(ask, graphId)
        const { key } = await ask("POST", "/api-keys", { name: "user", role: "api_user" })
        await expect(decide(askOf({ ...platform, key }), taskId, "approve", "me")).rejects.toThrow("403")
        await decide(ask, taskId, "reject", "stocks are missing")
        const graph = await awaitEnd(ask, graphId)
        expect(statusesOf(graph)).toMatchObject({ report: "completed", approve: "failed", publish: "cancelled" })
        expect(taskOf(graph, "approve").error).toMatchObject({
          code: "rejected",
          details: { comment: "stocks are missing" }
        })
        // The webhook works: it is asked for a ping after all that could have been told.
        const [{ id }] = (await ask("GET", "/webhooks")).data
        expect((await ask("POST", `/webhooks/${id}/test`)).status).toBe("delivered")
        expect(since().published).toEqual([])
        expect(since().told.map(({ body }) => JSON.parse(body).type)).toEqual(["Ping"])
        const { data } = await ask("GET", `/webhooks/${id}/deliveries`)
        expect(data.filter(({ event }: any) => event !== "Ping")).toEqual([])
      }),
    60_000
  )

  it.effect(
    "runs again when its schedule fires, independent of the run before, and not while that waits for its approval",
    () =>
      onRig(async ({ ask, since }) => {
        const byHand = await runNow(ask)
        await ask("PUT", "/schedules/nightly", { cron: "*/2 * * * * *" })
        const runs = async (outcome: string): Promise<ReadonlyArray<any>> =>
          (await ask("GET", "/schedules/nightly/runs")).data.filter((run: any) => run.due && run.outcome === outcome)
        await eventually("a due time", async () => (await runs("fired")).length > 0)
        const [fired] = await runs("fired")
        const first = await awaitQuestion(ask, byHand)
        const second = await awaitQuestion(ask, fired.graph_id)
        await eventually("a due time that is left out", async () => (await runs("skipped")).length > 0)
        await ask("POST", "/schedules/nightly/pause")
        expect(await runs("fired")).toHaveLength(1)
        expect(fired.graph_id).not.toBe(byHand)

        // One is rejected, which is nothing to the other.
        await decide(ask, first.taskId, "reject", "not this one")
        await decide(ask, second.taskId, "approve", "this one")
        const [rejected, published] = [await awaitEnd(ask, byHand), await awaitEnd(ask, fired.graph_id)]
        expect([statusesOf(rejected)["publish"], statusesOf(published)["publish"]]).toEqual(["cancelled", "completed"])
        const elements = await ask("GET", `/tasks?parent=${taskOf(published, "check").id}`)
        expect(elements.data).toHaveLength(8)
        await eventually("the webhook", () => since().told.length > 0)
        expect(since().told.map(({ body }) => JSON.parse(body).data.task.id)).toEqual([taskOf(published, "publish").id])
        expect(since().published).toHaveLength(1)
      }),
    60_000
  )
})
