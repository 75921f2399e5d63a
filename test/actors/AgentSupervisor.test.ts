/** P16: what a supervisor decides, against a naive model of OTP's supervisor.erl. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { instanceCrashed, nothingCrashed, SupervisorLimits } from "../../actors/AgentSupervisor.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const Intensity = Schema.Struct({ crashesMax: between(0, 5), windowMillis: between(1, 60) })
const Crashes = Schema.Array(Schema.Struct({ index: between(0, 3), gap: between(0, 20) })).check(Schema.isMaxLength(80))
const delays = { delayMillis: 100, delayMaxMillis: 5_000 }

describe("the supervisor of an agent", () => {
  it.prop(
    "restarts and escalates exactly when OTP's would, for each instance and for all of them",
    { instance: Intensity, agent: Intensity, crashes: Crashes, all: Schema.Boolean },
    ({ agent, all, crashes, instance }) => {
      const policy = { instance: { ...instance, ...delays }, agent: { ...agent, ...delays } }
      const strategy = all ? "one_for_all" : "one_for_one"
      let state = nothingCrashed
      let happened: Array<{ readonly index: number; readonly at: number }> = []
      let atMillis = 1_000
      for (const { gap, index } of crashes) {
        atMillis += gap
        happened.push({ index, at: atMillis })
        const { after, decision } = instanceCrashed(state, { index, atMillis, strategy }, policy)
        state = after
        const own = happened.filter((each) => each.index === index && each.at >= atMillis - instance.windowMillis)
        const every = happened.filter(({ at }) => at >= atMillis - agent.windowMillis)
        const passes = own.length > instance.crashesMax || every.length > agent.crashesMax
        expect(decision._tag).toBe(passes ? "Escalate" : "Restart")
        if (decision._tag === "Escalate") {
          expect(decision.level).toBe(own.length > instance.crashesMax ? "instance" : "agent")
          happened = []
        } else {
          expect(decision.others).toBe(all)
          expect(decision.delayMillis).toBeLessThanOrEqual(delays.delayMaxMillis)
        }
      }
    },
    { arbitrary: { runs: 300 } }
  )

  it("gives an instance up within 30 s that crashes as soon as it starts", () => {
    const policy = SupervisorLimits.defaultValue()
    let state = nothingCrashed
    let atMillis = 0
    let crashes = 0
    let givenUp = false
    while (!givenUp && crashes < 100) {
      crashes++
      const { after, decision } = instanceCrashed(state, { index: 0, atMillis, strategy: "one_for_one" }, policy)
      state = after
      givenUp = decision._tag === "Escalate"
      atMillis += decision._tag === "Restart" ? decision.delayMillis : 0
    }
    expect({ givenUp, crashes, inTime: atMillis < 30_000 }).toEqual({ givenUp: true, crashes: 9, inTime: true })
  })
})
