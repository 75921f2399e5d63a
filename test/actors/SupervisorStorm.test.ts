/** F34: an agent whose instance crashes again and again is given up within 30 s, and its neighbours' work goes on meanwhile. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { SqlClient } from "effect/sql"
import { agent, change, command, ended, solo, statusOf, submit, until } from "./ActorHarness.ts"

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("a supervisor storm", (it) => {
  it.effect("trips, is recorded with its cause, leaves others alone, and ends with the resume of a mended agent", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broken = yield* agent({ settings: { broken: "open" } })
      const healthy = yield* agent({ concurrency: 5 })
      const waiting = yield* submit([command(broken)])
      let neighbours = 0
      const work = Effect.gen(function* () {
        const found = yield* ended(yield* submit([command(healthy), command(healthy)]), "2 seconds")
        neighbours += found.filter(({ attempt, status }) => status === "completed" && attempt === 1).length
        yield* Effect.sleep("200 millis")
      })
      const [took] = yield* Effect.timed(
        Effect.raceFirst(
          until(statusOf(broken), (found) => found?.status === "error", "30 seconds"),
          Effect.forever(work)
        )
      )
      expect(Duration.toSeconds(took)).toBeLessThan(30)
      expect(neighbours).toBeGreaterThan(20)
      expect((yield* statusOf(healthy))?.status).toBe("active")
      expect((yield* statusOf(broken))?.status_reason).toMatch(
        /crashed 9 times within 60 s; the last: Error: cannot open/
      )
      const events = yield* sql`select type, actor, data from events where aggregate = ${broken}`
      expect(events).toMatchObject([
        { type: "AgentStatusChanged", actor: "node:solo", data: { status: "error", instance: 0 } }
      ])
      const [lease] = yield* sql`select restarts, last_crash from agent_instances where agent_id = ${broken}`
      expect(lease).toMatchObject({ restarts: 8, last_crash: { class: "Error", message: "cannot open" } })
      yield* change(broken, { status: "active", settings: {} })
      expect(yield* ended(waiting)).toMatchObject([{ status: "completed", attempt: 1 }])
    })
  )
})
