/** The waiting room of an instance: each order once, in routing order within its lane, lanes by weight, none starved. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Lanes from "../../actors/Lanes.ts"
import { TaskPriority as Priority, priorities, type TaskPriority } from "../../protocol/Task.ts"

const Id = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30 }))
const Step = Schema.Union([
  Schema.TaggedStruct("offer", { id: Id, lane: Priority }),
  Schema.TaggedStruct("take", { count: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 })) }),
  Schema.TaggedStruct("clear", {})
])
const text = (id: number) => String(id).padStart(2, "0")

const full = (perLane: number) => {
  const lanes = Lanes.make<TaskPriority>()
  for (const lane of priorities) {
    for (let index = 0; index < perLane; index++) lanes.offer(`${lane}-${text(index)}`, lane, lane)
  }
  return lanes
}

describe("the waiting room", () => {
  it.prop(
    "holds each order once and gives each lane's in routing order, like a naive model",
    { steps: Schema.Array(Step).check(Schema.isMaxLength(60)) },
    ({ steps }) => {
      const lanes = Lanes.make<{ readonly id: string }>()
      const model = new Map<string, TaskPriority>()
      for (const step of steps) {
        if (step._tag === "offer") {
          const id = text(step.id)
          expect(lanes.offer(id, step.lane, { id })).toBe(!model.has(id))
          // Offered again in another lane, what is held goes on there, in its place.
          model.set(id, step.lane)
        } else if (step._tag === "take") {
          const taken = lanes.take(step.count)
          expect(taken).toHaveLength(Math.min(step.count, model.size))
          for (const { id } of taken) {
            const lane = model.get(id)
            const first = [...model]
              .filter(([, other]) => other === lane)
              .map(([other]) => other)
              .sort()[0]
            expect(id).toBe(first)
            model.delete(id)
          }
        } else {
          expect(new Set(lanes.clear().map(({ id }) => id))).toEqual(new Set(model.keys()))
          model.clear()
        }
        expect(lanes.size()).toBe(model.size)
      }
    },
    { arbitrary: { runs: 300 } }
  )

  it("shares slots 8 : 4 : 2 : 1 while every lane has work, one at a time or many", () => {
    for (const atATime of [1, 4, 15, 30]) {
      const lanes = full(100)
      const counts = new Map<string, number>()
      for (let taken = 0; taken < 60; ) {
        for (const lane of lanes.take(Math.min(atATime, 60 - taken))) {
          counts.set(lane, (counts.get(lane) ?? 0) + 1)
          taken++
        }
      }
      expect(Object.fromEntries(counts)).toEqual({ critical: 32, high: 16, normal: 8, low: 4 })
    }
  })

  it("serves every lane that has work within each 15 slots", () => {
    const lanes = full(100)
    const order = Array.from({ length: 90 }, () => lanes.take(1)[0])
    for (let from = 0; from + 15 <= order.length; from++) {
      expect(new Set(order.slice(from, from + 15))).toEqual(new Set(priorities))
    }
  })

  it("gives a lane that was empty no credit for that time", () => {
    const lanes = Lanes.make<string>()
    for (let index = 0; index < 100; index++) lanes.offer(`n-${text(index)}`, "normal", "normal")
    lanes.take(50)
    for (let index = 0; index < 100; index++) lanes.offer(`l-${text(index)}`, "low", "low")
    const next = lanes.take(30)
    expect(next.filter((lane) => lane === "low")).toHaveLength(10)
  })

  it("puts what comes late in its place", () => {
    const lanes = Lanes.make<string>()
    for (const id of ["05", "07", "03", "06", "01"]) lanes.offer(id, "normal", id)
    expect(lanes.take(2)).toEqual(["01", "03"])
    lanes.offer("02", "normal", "02")
    expect(lanes.take(9)).toEqual(["02", "05", "06", "07"])
  })
})
