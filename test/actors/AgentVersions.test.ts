/** Versions of an agent as running tasks meet them: who runs under which, and who is set aside. */
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { Bus } from "../../actors/ports/Bus.ts"
import { takesNew } from "../../actors/Rollout.ts"
import type { AgentId } from "../../protocol/Ids.ts"
import { eventsOf, row } from "../ledger/LedgerHarness.ts"
import { agent, command, ended, solo, submit, until, untilTrue } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

/** Rolls new settings out as the registry would, and tells every node. */
const rollOut = Effect.fnUntraced(function* (id: AgentId, percent: number, settings: object) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update agents set
      rollout = json_build_object('percent', ${percent}::int,
        'base', json_build_object('version', definition_version, 'configuration', configuration)),
      configuration = (configuration::jsonb || jsonb_build_object('settings', ${JSON.stringify(settings)}::jsonb))::json,
      version = version + 1, definition_version = version + 1, updated_at = clock_timestamp()
    where id = ${id}
  `
  yield* (yield* Bus).notify({ _tag: "AgentChanged", agent: id })
})

const share = Effect.fnUntraced(function* (id: AgentId, percent: number | null) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update agents set version = version + 1, updated_at = clock_timestamp(),
      rollout = case when ${percent}::int is null then null
        else (rollout::jsonb || jsonb_build_object('percent', ${percent}::int))::json end
    where id = ${id}
  `
  yield* (yield* Bus).notify({ _tag: "AgentChanged", agent: id })
})

const capabilities = Effect.fnUntraced(function* (id: AgentId, names: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update agents set capabilities = ${JSON.stringify(names.map((name) => ({ name })))}::json, version = version + 1,
      updated_at = clock_timestamp()
    where id = ${id}
  `
  yield* (yield* Bus).notify({ _tag: "AgentChanged", agent: id })
})

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("a roll-out", (it) => {
  it.effect.each(["probe", "pure"] as const)("gives each task of a %s agent its own version, and says which", (type) =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const sql = yield* SqlClient.SqlClient
      const agentId = yield* agent({ type, concurrency: 5, settings: { tag: "old" } })
      const [first] = yield* submit([command(agentId)])
      if (first === undefined) return
      yield* ended([first])
      const before = probe.open().ever
      yield* rollOut(agentId, 40, { tag: "new" })
      yield* untilTrue(() => probe.open().ever === before + 1)
      const ids = yield* submit(Array.from({ length: 60 }, () => command(agentId, { do: "fail", times: 1 })))
      yield* ended(ids)
      const tags = ids.map((id) => probe.of(id).map(({ tag }) => tag))
      expect(tags).toEqual(ids.map((id) => (takesNew(40, id) ? ["new", "new"] : ["old", "old"])))
      expect(new Set(tags.flat()).size).toBe(2)
      for (const id of ids.slice(0, 20)) {
        const started = (yield* eventsOf(id)).filter(({ type: event }) => event === "TaskStarted")
        const version = takesNew(40, id) ? { agent_version: 2 } : null
        expect(started.map(({ data }) => data)).toEqual([version, version])
      }
      const tallies = yield* sql<{ version: number | null; completed: number; attempts: number }>`
        select version, sum(completed)::int as completed, sum(attempts)::int as attempts
        from agent_tallies where agent_id = ${agentId} group by version order by version
      `
      const taken = ids.filter((id) => takesNew(40, id)).length
      expect(tallies).toEqual([
        { version: 2, completed: taken, attempts: 2 * taken },
        { version: null, completed: 61 - taken, attempts: 2 * (60 - taken) + 1 }
      ])
    })
  )

  it.effect("opens nothing anew when its share changes, and lets go of the old version once it is over", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent({ concurrency: 3, settings: { tag: "old" } })
      const [first] = yield* submit([command(agentId)])
      if (first === undefined) return
      yield* ended([first])
      const { ever, now } = probe.open()
      yield* rollOut(agentId, 1, { tag: "new" })
      yield* untilTrue(() => probe.open().now === now + 1)
      const held = yield* submit(Array.from({ length: 3 }, () => command(agentId, { do: "wait", gate: "share" })))
      const olds = held.filter((id) => !takesNew(1, id))
      yield* untilTrue(() => held.every((id) => probe.of(id).length === 1))
      yield* share(agentId, 99)
      yield* share(agentId, null)
      // What began under the old version keeps it open until it has ended.
      yield* Effect.sleep("100 millis")
      expect(probe.open()).toEqual({ ever: ever + 1, now: now + (olds.length > 0 ? 1 : 0) })
      yield* probe.gate("share").open
      yield* ended(held)
      yield* untilTrue(() => probe.open().now === now)
      expect(olds.map((id) => probe.of(id)[0]?.tag)).toEqual(olds.map(() => "old"))
      const [after] = yield* submit([command(agentId)])
      if (after === undefined) return
      yield* ended([after])
      expect(probe.of(after)[0]?.tag).toBe("new")
    })
  )

  it.effect("is not needed for a change that leaves the definition as it was: nothing is opened", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent()
      const [first] = yield* submit([command(agentId)])
      if (first === undefined) return
      yield* ended([first])
      const { ever } = probe.open()
      yield* capabilities(agentId, ["probe.act", "probe.other"])
      const [second] = yield* submit([command(agentId)])
      if (second === undefined) return
      yield* ended([second])
      yield* Effect.sleep("50 millis")
      expect(probe.open().ever).toBe(ever)
    })
  )
})

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("a task that asks for a version", (it) => {
  it.effect("which its agent offers no more is set aside with its reason, and runs where it is offered", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent()
      yield* capabilities(agentId, ["probe.act@1"])
      const [blocker] = yield* until(
        Effect.option(submit([command(agentId, { do: "wait", gate: "asked" }, { type: "probe.act@1" })])),
        ({ _tag }) => _tag === "Some"
      ).pipe(Effect.map((answer) => (answer._tag === "Some" ? answer.value : [])))
      const waiting = yield* submit([
        command(agentId, {}, { type: "probe.act@1" }),
        command(agentId, {}, { type: "probe.act@1" })
      ])
      const [asks] = waiting
      if (blocker === undefined || asks === undefined) return
      yield* untilTrue(() => probe.of(blocker).length === 1)
      yield* capabilities(agentId, ["probe.act@2"])
      yield* Effect.sleep("200 millis")
      yield* probe.gate("asked").open
      yield* ended([blocker])
      yield* until(row(asks), (found) => found?.waiting_for === "agent")
      expect(yield* row(asks)).toMatchObject({ status: "pending", attempt: 0, agent_id: null })
      expect((yield* eventsOf(asks)).at(-1)).toMatchObject({
        type: "TaskQueued",
        data: {
          waiting_for: "agent",
          reason: "capability_gone",
          type: "probe.act@1",
          agent_id: agentId,
          agent_version: 3
        }
      })
      expect(waiting.flatMap((id) => probe.of(id))).toEqual([])
      const other = yield* agent()
      yield* capabilities(other, ["probe.act@1"])
      const found = yield* ended(waiting)
      expect(found).toMatchObject(waiting.map(() => ({ status: "completed", agent_id: other, attempt: 1 })))
    })
  )
})
