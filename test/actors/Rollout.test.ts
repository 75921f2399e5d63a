/** Which of two definitions a task gets: always the same, for about the share that was asked for. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { takesNew } from "../../actors/Rollout.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { TaskId } from "../../protocol/Ids.ts"

const Percent = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 }))

describe("the share of a roll-out", () => {
  it.effect("is met by ids that were made at one moment", () =>
    Effect.gen(function* () {
      const ids = yield* UuidV7
      const made = Array.from({ length: 20_000 }, () => TaskId.make(ids.next()))
      for (const percent of [1, 10, 50, 90]) {
        const share = made.filter((id) => takesNew(percent, id)).length / made.length
        // Six standard deviations of 20,000 throws.
        expect(Math.abs(share - percent / 100)).toBeLessThan(
          6 * Math.sqrt(((percent / 100) * (1 - percent / 100)) / 20_000)
        )
      }
      expect(made.every((id) => !takesNew(0, id) && takesNew(100, id))).toBe(true)
    }).pipe(Effect.provide(UuidV7.layer))
  )

  it.prop("only adds tasks when it grows", { id: TaskId, low: Percent, high: Percent }, ({ high, id, low }) => {
    if (low <= high && takesNew(low, id)) expect(takesNew(high, id)).toBe(true)
  })
})
