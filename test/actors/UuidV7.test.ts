/** Ids: well-formed, unique, and in the order in which they were made, whatever the clock does. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Schema } from "effect"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { TaskId } from "../../protocol/Ids.ts"

/** A generator whose clock says what it is told. */
const withClock = Effect.gen(function* () {
  const real = yield* Clock.Clock
  let now = 1_700_000_000_000
  const told: Clock.Clock = Object.create(real, { currentTimeMillisUnsafe: { value: () => now } })
  const context = yield* Layer.build(Layer.fresh(UuidV7.layer)).pipe(Effect.provideService(Clock.Clock, told))
  return {
    next: Context.get(context, UuidV7).next,
    now: () => now,
    move: (millis: number) => {
      now += millis
    }
  }
})

const millisOf = (id: string) => Number.parseInt(id.replace("-", "").slice(0, 12), 16)

describe("ids", () => {
  it.effect.prop(
    "rise strictly and are well-formed while the clock runs, stands still or steps back",
    {
      moves: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: -5_000, maximum: 5_000 }))).check(
        Schema.isMaxLength(100)
      )
    },
    ({ moves }) =>
      Effect.gen(function* () {
        const ids = yield* withClock
        let last = ""
        let latest = 0
        for (const move of moves) {
          ids.move(move)
          latest = Math.max(latest, ids.now())
          for (let index = 0; index < 3; index++) {
            const id = ids.next()
            expect(id > last).toBe(true)
            expect(Schema.is(TaskId)(id)).toBe(true)
            expect(id[14]).toBe("7")
            expect("89ab").toContain(id[19])
            expect(millisOf(id)).toBe(latest)
            last = id
          }
        }
      })
  )

  it.effect("run ahead of a clock that stands still rather than repeat, and fall back into step", () =>
    Effect.gen(function* () {
      const ids = yield* withClock
      const made = Array.from({ length: 20_000 }, () => ids.next())
      expect(new Set(made).size).toBe(made.length)
      expect(made).toEqual([...made].sort())
      expect(millisOf(made.at(-1) ?? "") - ids.now()).toBe(Math.floor(20_000 / 4_096))
      ids.move(1_000)
      expect(millisOf(ids.next())).toBe(ids.now())
    })
  )

  it.effect("of two processes differ although their clocks agree", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* withClock, yield* withClock]
      const made = Array.from({ length: 2_000 }, () => [one.next(), other.next()]).flat()
      expect(new Set(made).size).toBe(4_000)
    })
  )
})
