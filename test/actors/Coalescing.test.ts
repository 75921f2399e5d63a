/** Which conditions of a command go together, and what they are to the ledger. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { conditionsOf, problemsOf, tooLargeToJoin } from "../../actors/Coalescing.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Limits from "../../protocol/Limits.ts"
import { SubmitTask } from "../../protocol/Task.ts"

const command = (fields: object) => Schema.decodeUnknownSync(SubmitTask)({ type: "echo", ...fields })
const joins = (fields: object = {}) => ({ coalesce: { key: "k", keep: "latest", quiet_ms: 500, ...fields } })

describe("conditions", () => {
  it("that contradict each other or the rest of a command are named by their field", () => {
    const cases: ReadonlyArray<readonly [object, ReadonlyArray<string>]> = [
      [{}, []],
      [{ unique: { key: "k" } }, []],
      [joins(), []],
      [joins({ keep: "all", max_items: 2 }), []],
      [{ ...joins(), unique: { key: "k" } }, ["unique"]],
      [{ ...joins(), run_at: "2030-01-01T00:00:00Z", dependencies: [] }, ["run_at", "dependencies"]],
      [{ coalesce: { key: "k", keep: "all" } }, ["coalesce"]],
      [joins({ max_wait_ms: 499 }), ["coalesce.quiet_ms"]],
      [joins({ max_wait_ms: 500 }), []],
      [joins({ max_items: 2 }), ["coalesce.max_items"]],
      [joins({ key: "\u0000" }), ["coalesce.key"]],
      [{ unique: { key: "a\u0000" } }, ["unique.key"]]
    ]
    for (const [fields, expected] of cases) {
      expect([fields, problemsOf(command(fields)).map(({ field }) => field)]).toEqual([fields, expected])
    }
  })

  it("are bounded by the contract", () => {
    const refused = [
      { unique: {} },
      { unique: { key: "" } },
      { unique: { key: "k".repeat(Limits.taskKeyCharactersMax + 1) } },
      { unique: { key: "k", on_conflict: "replace" } },
      joins({ quiet_ms: 0 }),
      joins({ max_wait_ms: Limits.coalesceMillisMax + 1 }),
      joins({ keep: "all", max_items: 1 }),
      joins({ keep: "all", max_items: Limits.coalescedItemsMax + 1 }),
      joins({ keep: "first" }),
      { configuration: { queue_timeout_ms: 0 } },
      { configuration: { queue_timeout_ms: Limits.queueTimeoutMillisMax + 1 } }
    ]
    const accepted = refused.filter((fields) => Result.isSuccess(inputDecoder(SubmitTask)({ type: "echo", ...fields })))
    expect(accepted).toEqual([])
  })

  it("that are not given are none, and absent bounds are those of the contract", () => {
    expect(conditionsOf(command({}), undefined, {})).toBeUndefined()
    expect(conditionsOf(command({ unique: { key: "k" } }), undefined, {})?.unique).toEqual({
      key: "k",
      onConflict: "refuse"
    })
    expect(conditionsOf(command(joins()), undefined, { queue_timeout_ms: 7 })).toMatchObject({
      coalesce: { quietMillis: 500, waitMillisMax: Limits.coalesceMillisMax, itemsMax: Limits.coalescedItemsMax },
      queueTimeoutMillis: 7
    })
  })

  it("leave room for one payload as a list of its own", () => {
    const bytes = Limits.payloadBytesMax
    expect(tooLargeToJoin(command({}), bytes * 2)).toBeUndefined()
    expect(tooLargeToJoin(command(joins()), bytes)).toBeUndefined()
    expect(tooLargeToJoin(command(joins()), bytes + 1)).toMatchObject({ field: "payload", limit: bytes })
    expect(tooLargeToJoin(command(joins({ keep: "all" })), bytes - 1)).toMatchObject({ limit: bytes - 2 })
  })
})
