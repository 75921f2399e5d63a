/** What a run of a schedule submits: all that its template says. */
import { expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { askedFor } from "../../actors/ScheduledRun.ts"
import { ScheduleId } from "../../protocol/Ids.ts"
import { CreateSchedule } from "../../protocol/Schedule.ts"

const id = ScheduleId.make("01936a3c-5f0e-7d1a-9a57-0c3a51d2b7e4")

it.effect("submits the graph of its template with what it says of failures and labels", () =>
  Effect.gen(function* () {
    const graph = { name: "night", on_failure: "fail_fast", labels: { a: "b" }, tasks: { one: { agent: "echo" } } }
    const schedule = yield* Schema.decodeUnknownEffect(CreateSchedule, { onExcessProperty: "error" })({
      name: "nightly",
      cron: "@daily",
      graph
    })
    const command = askedFor({ id, task: undefined, graph: schedule.graph }, "once")
    expect(command.graph).toEqual({
      ...graph,
      tasks: { one: { agent: "echo", metadata: { schedule_id: id } } },
      idempotency_key: "once"
    })
  })
)
