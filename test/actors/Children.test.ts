/** Tasks that a task submits while it runs: once, however often it is run. */
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { agent, command, ended, solo, submit } from "./ActorHarness.ts"
import type { Act } from "./Probe.ts"

const childrenOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly id: string; readonly name: string; readonly status: string; readonly actor: string }>`
    select id, name, status, actor from tasks where parent_id = ${id} order by id
  `
})

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("a running task", (it) => {
  const runs = Effect.fnUntraced(function* (act: Omit<Act, "do">) {
    const agentId = yield* agent({ concurrency: 3 })
    const [id] = yield* submit([command(agentId, { do: "submit", ...act })])
    const [row] = yield* ended([yield* Effect.fromNullishOr(id)])
    return { id: id ?? "", row }
  })

  it.effect("submits others that belong to it, and gets the same ones when it is run again", () =>
    Effect.gen(function* () {
      const agentId = yield* agent({ concurrency: 3 })
      const children = ["one", "two"].map((name) => ({ agent: agentId, name, payload: {} }))
      const { id, row } = yield* runs({ children })
      expect(row).toMatchObject({ status: "completed", attempt: 2 })
      const found = yield* childrenOf(id)
      expect(found.map(({ name }) => name)).toEqual(["one", "two"])
      expect(found.map(({ actor }) => actor)).toEqual([`task:${id}`, `task:${id}`])
      expect(row?.result?.data).toEqual(found.map((child) => child.id))
    })
  )

  it.effect("submits all of a step or none of it", () =>
    Effect.gen(function* () {
      const agentId = yield* agent()
      const { id, row } = yield* runs({ children: [{ agent: agentId }, { agent: "nobody" }] })
      expect(row).toMatchObject({ status: "failed", attempt: 1, result: { error: { code: "children_refused" } } })
      expect(row?.result?.error?.message).toContain("nobody")
      expect(yield* childrenOf(id)).toEqual([])
    })
  )

  it.effect("fails when its step names nothing that a step may be called", () =>
    Effect.gen(function* () {
      const { row } = yield* runs({ step: "a/b", children: [] })
      expect(row).toMatchObject({ status: "failed", result: { error: { code: "children_refused" } } })
    })
  )

  it.effect("fails when it submits other tasks at the same step", () =>
    Effect.gen(function* () {
      const agentId = yield* agent()
      const { id, row } = yield* runs({
        children: [{ agent: agentId, name: "first" }],
        otherwise: [{ agent: agentId, name: "other" }]
      })
      expect(row).toMatchObject({ status: "failed", attempt: 2, result: { error: { code: "children_refused" } } })
      expect((yield* childrenOf(id)).map(({ name }) => name)).toEqual(["first"])
    })
  )
})
