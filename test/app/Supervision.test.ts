/** Supervision on real Postgres and real instances: the tree, and what is ordered of an instance. */
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Supervision } from "../../src/app/Supervision.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { until } from "../actors/ActorHarness.ts"
import { admin, as } from "./as.ts"
import { echoAgent, running, submitTask } from "./Cases.ts"

const instanceOf = Effect.fnUntraced(function* (agent: string) {
  const supervision = yield* Supervision
  const { agents } = yield* supervision.show({ agent })
  return agents[0]?.instances[0]
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("supervision", (it) => {
  it.effect(
    "shows what runs; a quarantine gives it back and holds until it is released; a restart takes a new epoch",
    () =>
      Effect.gen(function* () {
        const supervision = yield* Supervision
        const tasks = yield* Tasks
        yield* echoAgent("watched")
        const task = yield* tasks.submit(
          submitTask({ agent: "watched", name: "sleeper", payload: { sleep_ms: 60_000 } })
        )
        const first = yield* until(instanceOf("watched"), (seen) => seen?.running === 1)
        expect(first).toMatchObject({
          state: "running",
          node: "solo",
          tasks: [{ id: task.id, name: "sleeper", attempt: 1 }]
        })

        yield* supervision.restart("watched", 0, { reason: "try" })
        yield* until(instanceOf("watched"), (seen) => seen?.running === 1 && (seen.epoch ?? 0) > (first?.epoch ?? 0))
        expect(yield* tasks.get(task.id)).toMatchObject({ status: "running", attempt: 1 })

        expect(yield* supervision.quarantine("watched", 0, { reason: "looks odd" })).toMatchObject({
          quarantine: { reason: "looks odd" }
        })
        yield* until(tasks.get(task.id), ({ status }) => status === "queued")
        expect(yield* instanceOf("watched")).toMatchObject({
          state: "quarantined",
          quarantine: { reason: "looks odd" }
        })
        const refused = yield* Effect.flip(supervision.restart("watched", 0, {}))
        expect(refused).toMatchObject({ _tag: "Conflict", reason: "state" })

        yield* supervision.release("watched", 0, {})
        yield* until(tasks.get(task.id), ({ status }) => status === "running")
        expect(yield* tasks.get(task.id)).toMatchObject({ attempt: 1 })
        expect(yield* Effect.flip(supervision.quarantine("watched", 7, {}))).toMatchObject({
          _tag: "InvalidInput",
          errors: [{ field: "index", limit: 0 }]
        })
        expect(yield* Effect.flip(supervision.show({ agent: "nobody" }))).toMatchObject({ _tag: "AgentNotFound" })
      }).pipe(as(admin))
  )
})
