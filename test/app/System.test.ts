/** Readiness and status tell the truth about each part, in time, and fail closed. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Ref, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Readiness, Status } from "../../protocol/System.ts"
import { Startup } from "../../src/app/Startup.ts"
import { System } from "../../src/app/System.ts"
import * as Database from "../ledger/Database.ts"
import { MemoryBusControl } from "../support/MemoryBus.ts"
import { admin, as } from "./as.ts"
import { layer as cases } from "./Cases.ts"

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("a node", (it) => {
  it.effect("is ready once it has started and Postgres answers; NATS may be away", () =>
    Effect.gen(function* () {
      const system = yield* System
      const { draining, ready } = yield* Startup
      const bus = yield* MemoryBusControl
      expect(yield* system.readiness).toEqual({
        ready: false,
        draining: false,
        parts: { postgres: true, nats: true, started: false }
      })
      yield* Ref.set(ready, true)
      bus.cut(true)
      const readiness = yield* system.readiness
      expect(Schema.decodeUnknownSync(Readiness)(readiness)).toEqual(readiness)
      expect(readiness).toEqual({
        ready: true,
        draining: false,
        parts: { postgres: true, nats: false, started: true }
      })
      bus.cut(false)
      yield* Ref.set(draining, true)
      expect(yield* system.readiness).toMatchObject({ ready: false, draining: true })
      yield* Ref.set(draining, false)
    })
  )

  it.effect("is not ready while Postgres does not answer, and says so within 2 s", () =>
    Effect.gen(function* () {
      const system = yield* System
      const sql = yield* SqlClient.SqlClient
      const hold = sql`select pg_sleep(6)`.pipe(Effect.ignore)
      const holding = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 10 }, () => hold),
          { concurrency: "unbounded" }
        )
      )
      yield* Effect.sleep("100 millis")
      const [took, { parts, ready }] = yield* Effect.timed(system.readiness)
      expect({ ready, postgres: parts.postgres }).toEqual({ ready: false, postgres: false })
      expect(Duration.toMillis(took)).toBeLessThan(2_500)
      yield* Fiber.interrupt(holding)
    })
  )

  it.effect("says what is there", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const system = yield* System
      const id = yield* Database.insertAgent("hosted")
      yield* sql`insert into agent_instances (agent_id, index, epoch, node) values (${id}, 0, 1, 'solo'), (${id}, 1, 1, 'other')`
      yield* Database.insertTasks([{ status: "queued", agent_id: id }, { status: "failed" }])
      const status = yield* system.status
      expect(Schema.decodeUnknownSync(Status)(status, { onExcessProperty: "error" })).toEqual(status)
      expect(status).toMatchObject({
        node: "solo",
        namespace: "default",
        agents: 1,
        instances_here: 1,
        tasks: { queued: 1, failed: 1, completed: 0 }
      })
      expect(status.version).toMatch(/^\d+\.\d+\.\d+/u)
    }).pipe(as(admin))
  )
})
