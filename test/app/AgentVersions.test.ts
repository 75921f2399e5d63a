/** Versions of agents as their owners see and steer them. */
import { expect, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { AgentVersion, AgentVersions as AgentVersionList } from "../../protocol/AgentVersion.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Agents } from "../../src/app/Agents.ts"
import { AgentVersions } from "../../src/app/AgentVersions.ts"
import { admin, as, principal, stranger } from "./as.ts"
import { layer as cases, echoAgent } from "./Cases.ts"

const timeout = (timeout_ms: number) => ({ configuration: { timeout_ms } })

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("versions of an agent", (it) => {
  it.effect("keep every definition, and none of what is no definition", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const versions = yield* AgentVersions
      yield* echoAgent("kept", { description: "one", labels: { a: "b" } })
      yield* agents.pause("kept")
      yield* agents.scale("kept", { desired_instances: 3 })
      yield* agents.update("kept", { desired_instances: 2 }, undefined)
      yield* agents.update("kept", { description: "two", ...timeout(5) }, undefined)
      const last = yield* agents.addCapability("kept", { name: "more" as never, version: "7" })
      expect(last).toMatchObject({ version: 6, definition_version: 6, desired_instances: 2 })
      const all = yield* versions.list("kept")
      expect(Schema.decodeUnknownSync(AgentVersionList)(all, { onExcessProperty: "error" })).toEqual(all)
      expect(all.data.map(({ share_percent, version }) => [version, share_percent])).toEqual([
        [6, 100],
        [5, 0],
        [1, 0]
      ])
      // What was in force at a version that brought no definition of its own.
      const fourth = yield* versions.get("kept", 4)
      expect(Schema.decodeUnknownSync(AgentVersion)(fourth, { onExcessProperty: "error" })).toEqual(fourth)
      expect(fourth).toMatchObject({
        version: 1,
        actor: admin.actor,
        restores: null,
        definition: { description: "one", configuration: {}, labels: { a: "b" } },
        figures: { completed: 0, attempts: 0, success_rate: null }
      })
      expect((yield* versions.get("kept", 6)).definition.capabilities).toHaveLength(2)
      expect(yield* Effect.flip(versions.get("kept", 7))).toMatchObject({ _tag: "AgentVersionNotFound", version: 7 })
      expect(yield* Effect.flip(versions.list("nobody"))).toMatchObject({ _tag: "AgentNotFound" })
    }).pipe(as(admin))
  )

  it.effect("come back by a new version, whole, or not at all", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const versions = yield* AgentVersions
      const { id } = yield* echoAgent("back", { metadata: { m: [1] } })
      yield* agents.update(
        "back",
        { description: "two", capabilities: [], labels: { x: "y" }, ...timeout(2) },
        undefined
      )
      const restored = yield* versions.rollBack("back", { version: 1 }, 2)
      expect(restored).toMatchObject({
        version: 3,
        definition_version: 3,
        configuration: {},
        labels: {},
        metadata: { m: [1] }
      })
      expect(restored.capabilities.map(({ name }) => name)).toEqual(["echo"])
      expect("description" in restored).toBe(false)
      expect((yield* versions.list("back")).data[0]).toMatchObject({ version: 3, restores: 1 })
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`select data from events where aggregate = ${id} and number = 3`).toMatchObject([
        { data: { restores: 1 } }
      ])
      // To the present one is no change.
      expect((yield* versions.rollBack("back", { version: 3 }, undefined)).version).toBe(3)
      expect(yield* Effect.flip(versions.rollBack("back", { version: 2 }, 1))).toMatchObject({
        _tag: "Conflict",
        reason: "version",
        current_version: 3
      })
      expect(yield* Effect.flip(versions.rollBack("back", { version: 9 }, undefined))).toMatchObject({
        _tag: "AgentVersionNotFound"
      })
    }).pipe(as(admin))
  )

  it.effect("do not come back with settings that their behaviour refuses by now", () =>
    Effect.gen(function* () {
      const versions = yield* AgentVersions
      const agents = yield* Agents
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* echoAgent("stale", { type: "picky" })
      yield* agents.update(id, timeout(5), undefined)
      yield* sql`
        update agent_versions set definition = (definition::jsonb || '{"configuration":{"settings":{"gone":1}}}')::json
        where agent_id = ${id} and version = 1
      `
      expect(yield* Effect.flip(versions.rollBack(id, { version: 1 }, undefined))).toMatchObject({
        _tag: "InvalidInput",
        errors: [{ field: "version" }]
      })
      expect((yield* agents.get(id)).version).toBe(2)
    }).pipe(as(admin))
  )

  it.effect("are rolled out to a share, which grows until it is finished", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const versions = yield* AgentVersions
      yield* echoAgent("grows", timeout(1))
      const begun = yield* agents.update("grows", { ...timeout(2), rollout: { percent: 10 } }, undefined)
      expect(begun).toMatchObject({ ...timeout(2), rollout: { percent: 10, version: 2, base_version: 1 } })
      expect((yield* versions.list("grows")).data).toMatchObject([{ share_percent: 10 }, { share_percent: 90 }])
      // The definition is closed meanwhile; how many run and whether they do is not.
      for (const change of [
        agents.update("grows", timeout(3), undefined),
        agents.update("grows", { description: "no" }, undefined),
        agents.update("grows", { ...timeout(3), rollout: { percent: 5 } }, undefined),
        agents.addCapability("grows", { name: "a.b" as never }),
        agents.removeCapability("grows", "echo")
      ]) {
        expect(yield* Effect.flip(change)).toMatchObject({ _tag: "Conflict", reason: "state" })
      }
      yield* agents.scale("grows", { desired_instances: 2 })
      const half = yield* versions.rollOut("grows", { percent: 50 }, 3)
      expect(half).toMatchObject({ version: 4, definition_version: 2, rollout: { percent: 50 } })
      expect((yield* versions.rollOut("grows", { percent: 50 }, undefined)).version).toBe(4)
      const done = yield* versions.rollOut("grows", { percent: 100 }, undefined)
      expect(done).toMatchObject({ version: 5, definition_version: 2, ...timeout(2) })
      expect("rollout" in done).toBe(false)
      expect(yield* Effect.flip(versions.rollOut("grows", { percent: 100 }, undefined))).toMatchObject({
        _tag: "Conflict",
        reason: "state"
      })
    }).pipe(as(admin))
  )

  it.effect("are taken back, or ended by a roll-back", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const versions = yield* AgentVersions
      yield* echoAgent("shrinks", timeout(1))
      yield* agents.update("shrinks", { ...timeout(2), rollout: { percent: 10 } }, undefined)
      const back = yield* versions.rollOut("shrinks", { percent: 0 }, undefined)
      expect(back).toMatchObject({ version: 3, definition_version: 3, ...timeout(1) })
      expect("rollout" in back).toBe(false)
      expect((yield* versions.list("shrinks")).data[0]).toMatchObject({ version: 3, restores: 1, share_percent: 100 })
      yield* agents.update("shrinks", { ...timeout(4), rollout: { percent: 99 } }, undefined)
      const rolledBack = yield* versions.rollBack("shrinks", { version: 2 }, undefined)
      expect(rolledBack).toMatchObject({ version: 5, ...timeout(2) })
      expect("rollout" in rolledBack).toBe(false)
    }).pipe(as(admin))
  )

  it.effect("are rolled out as a configuration, alone", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      yield* echoAgent("alone")
      const rollout = { percent: 10 }
      expect(yield* Effect.flip(agents.update("alone", { rollout }, undefined))).toMatchObject({
        errors: [{ field: "rollout" }]
      })
      expect(
        yield* Effect.flip(agents.update("alone", { ...timeout(1), labels: {}, rollout }, undefined))
      ).toMatchObject({
        errors: [{ field: "labels" }]
      })
      expect((yield* agents.get("alone")).version).toBe(1)
    }).pipe(as(admin))
  )

  it.effect("are bounded: the oldest go, but for the one that a roll-out stands on", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const versions = yield* AgentVersions
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* echoAgent("many")
      for (let n = 2; n <= Limits.agentVersionsMax + 3; n++) yield* agents.update(id, timeout(n), undefined)
      const kept = (yield* versions.list(id)).data.map(({ version }) => version)
      expect([kept.length, kept[0], kept.at(-1)]).toEqual([Limits.agentVersionsMax, Limits.agentVersionsMax + 3, 4])
      expect(yield* Effect.flip(versions.get(id, 3))).toMatchObject({ _tag: "AgentVersionNotFound" })
      expect(yield* sql`select 1 from agent_versions where agent_id = ${id}`).toHaveLength(Limits.agentVersionsMax)
    }).pipe(as(admin))
  )

  it.effect("are seen with agent:read and changed with agent:update", () =>
    Effect.gen(function* () {
      const versions = yield* AgentVersions
      yield* echoAgent("guarded").pipe(as(admin))
      expect((yield* versions.list("guarded")).data).toHaveLength(1)
      for (const change of [
        versions.rollBack("guarded", { version: 1 }, undefined),
        versions.rollOut("guarded", { percent: 5 }, undefined)
      ]) {
        expect(yield* Effect.flip(change)).toMatchObject({ _tag: "Forbidden", permission: "agent:update" })
      }
    }).pipe(as(principal("viewer")))
  )

  it.effect("of another namespace do not exist", () =>
    Effect.gen(function* () {
      const versions = yield* AgentVersions
      const { id } = yield* echoAgent("walled").pipe(as(admin))
      expect(yield* Effect.flip(versions.list(id)).pipe(as(stranger))).toMatchObject({ _tag: "AgentNotFound" })
      const back = Effect.flip(versions.rollBack(id, { version: 1 }, undefined))
      expect(yield* back.pipe(as(stranger))).toMatchObject({ _tag: "AgentNotFound" })
    })
  )
})
