/** Restart intensity against a naive model of OTP's: more than `crashesMax` crashes within the window escalate. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { type Crashes, crashed, noCrashes, type RestartPolicy } from "../../actors/RestartIntensity.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const Policy = Schema.Struct({
  crashesMax: between(0, 6),
  windowMillis: between(1, 50),
  delayMillis: between(0, 100),
  delayMaxMillis: between(0, 5_000)
})

describe("restart intensity", () => {
  it.prop(
    "escalates exactly when OTP would, and remembers no more than it needs",
    { policy: Policy, gaps: Schema.Array(between(0, 30)).check(Schema.isMaxLength(60)) },
    ({ gaps, policy }) => {
      let state: Crashes = noCrashes
      const all: Array<number> = []
      let now = 1_000
      for (const gap of gaps) {
        now += gap
        all.push(now)
        const next = crashed(state, now, policy)
        state = next.crashes
        const recent = all.filter((at) => at >= now - policy.windowMillis)
        expect(next.escalate).toBe(recent.length > policy.crashesMax)
        expect(state.at).toEqual(recent)
        expect(next.delayMillis).toBe(
          Math.min(policy.delayMaxMillis, policy.delayMillis * 2 ** Math.min(recent.length - 1, 30))
        )
        // What escalated is not restarted: a supervisor begins anew.
        if (next.escalate) {
          state = noCrashes
          all.length = 0
        }
      }
    },
    { arbitrary: { runs: 300 } }
  )

  it("doubles the delay with each crash of a burst and begins anew after a quiet window", () => {
    const policy: RestartPolicy = { crashesMax: 5, windowMillis: 1_000, delayMillis: 100, delayMaxMillis: 500 }
    let state = noCrashes
    const delays = [0, 1, 2, 3, 2_000].map((now) => {
      const next = crashed(state, now, policy)
      state = next.crashes
      return next.delayMillis
    })
    expect(delays).toEqual([100, 200, 400, 500, 100])
  })
})
