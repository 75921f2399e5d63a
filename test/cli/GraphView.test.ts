/** How a graph is drawn: within the terminal, in an order that can be read, and in place. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { CliOutput } from "effect/cli"
import { Graph } from "../../protocol/Task.ts"
import * as GraphView from "../../src/cli/GraphView.ts"
import { bar, ink, plainInk, printable } from "../../src/cli/Ink.ts"
import * as LiveArea from "../../src/cli/LiveArea.ts"
import { agentId, graph, graphTask } from "./things.ts"

const colours = ink({ colour: true, unicode: true })
const decode = Schema.decodeUnknownSync(Graph)
const seen = (tasks: ReadonlyArray<ReturnType<typeof graphTask>>): GraphView.GraphSeen => ({
  graph: decode(graph(tasks)),
  agentNames: new Map([[agentId, "demo-sql"]]),
  runningMillis: new Map([["join", 2100]])
})

const several = seen([
  graphTask("report", "pending", { dependencies: ["join", "weather"] }),
  graphTask("join", "running", {
    dependencies: ["load"],
    progress: { percentage: 45, current_step: "\u001B[31mjoining flights with airports \u{1F6EB}" }
  }),
  graphTask("load", "completed"),
  graphTask("weather", "failed", { error: { code: "http_status", message: "503 from\nexample.com" } })
])

describe("a graph", () => {
  it("shows parents before children", () => {
    const keys = GraphView.inOrder(several.graph).map(({ key }) => key)
    expect(keys).toEqual(["load", "weather", "join", "report"])
  })

  it("never draws a line wider, or more lines, than the terminal", () => {
    const many = seen(
      Array.from({ length: 200 }, (_, index) => graphTask(`t${String(index).padStart(5, "0")}`, "queued"))
    )
    for (const columns of [20, 21, 40, 69, 70, 80, 120, 300]) {
      for (const rows of [5, 10, 24, 60]) {
        for (const view of [several, many]) {
          const lines = GraphView.frame(view, { columns, rows }, colours)
          expect(Math.max(...lines.map(CliOutput.displayWidth))).toBeLessThan(columns + 1)
          expect(lines.length).toBeLessThan(rows)
        }
      }
    }
  })

  it("that is too long shows what runs or failed first, and counts the rest", () => {
    const tasks = Array.from({ length: 50 }, (_, index) =>
      graphTask(`t${String(index).padStart(5, "0")}`, index === 40 ? "running" : index === 45 ? "failed" : "completed")
    )
    const lines = GraphView.frame(seen(tasks), { columns: 80, rows: 10 }, plainInk)
    expect(lines.some((line) => line.includes("t00040"))).toBe(true)
    expect(lines.some((line) => line.includes("t00045"))).toBe(true)
    expect(lines.at(-2)).toContain("and 45 more")
    expect(lines.at(-1)).toBe("1 failed, 48 completed, 1 running of 50")
  })

  it("shows bar, agent, attempt, time, step, error, and what a task waits for", () => {
    const lines = GraphView.frame(several, { columns: 120, rows: 24 }, plainInk)
    expect(lines[1]).toMatch(/^\+ load {5}demo-sql {2}#{24} 100% {2}40 ms$/u)
    expect(lines[2]).toContain("503 from example.com")
    expect(lines[3]).toMatch(/^> join {5}demo-sql {2}#{11}-{13} {2}45% {2}2\.1 s {2}\\u\{1b\}\[31mjoining/u)
    expect(lines[4]).toMatch(/^\. report .* 0% {2}waits for join$/u)
  })

  it("shows of a map how many of its elements have ended, and tells a skipped task from a cancelled one", () => {
    const view = seen([
      graphTask("each", "pending", { map: { total: 8, counts: { completed: 1, failed: 1, running: 2, pending: 4 } } }),
      graphTask("later", "pending", { dependencies: ["each"], map: { total: null, counts: {} } }),
      graphTask("no", "cancelled", { error: { code: "skipped", message: "its condition does not hold" } }),
      graphTask("old", "completed", { taken_over: true })
    ])
    const lines = GraphView.frame(view, { columns: 120, rows: 24 }, plainInk)
    expect(lines[1]).toMatch(/^> each .*#{6}-{18} {2}25% {2}2 of 8, 1 failed$/u)
    expect(lines[2]).toMatch(/^- no .*its condition does not hold$/u)
    expect(lines[3]).toMatch(/^\+ old .*taken over {2}40 ms$/u)
    expect(lines[4]).toMatch(/^\. later .*waits for each$/u)
    expect(lines.at(-1)).toBe("1 completed, 1 skipped, 2 pending of 4")
  })

  it("tells a change once, and again when another attempt begins", () => {
    const first = seen([graphTask("load", "running")])
    const again = seen([graphTask("load", "running", { attempt: 2 })])
    expect(GraphView.changes(undefined, first)).toEqual(["load  running  demo-sql"])
    expect(GraphView.changes(first.graph, first)).toEqual([])
    expect(GraphView.changes(first.graph, again)).toEqual(["load  running  demo-sql  attempt 2"])
  })
})

describe("a frame", () => {
  it("goes up exactly over the frame before, counting lines that a narrower terminal has wrapped", () => {
    expect(LiveArea.frame([], ["a"], 80)).toBe("\u001B[?2026h\ra\u001B[K\n\u001B[J\u001B[?2026l")
    expect(LiveArea.frame(["a", "b"], ["c"], 80)).toContain("\r\u001B[2Ac\u001B[K\n\u001B[J")
    expect(LiveArea.frame(["x".repeat(70), "b"], ["c"], 40)).toContain("\r\u001B[3A")
  })
})

describe("ink", () => {
  it("shows a bar as full only at 100 %", () => {
    expect(bar(99.9, 10, plainInk)).toBe("#########-")
    expect(bar(100, 10, plainInk)).toBe("##########")
    expect(bar(-5, 4, plainInk)).toBe("----")
  })

  it("lets no control or reordering character through", () => {
    const shown = printable("a\u001B]0;title\u0007b\u202Ec\u0085d\r\ne\tf\u2028g")
    expect(shown).toBe("a\\u{1b}]0;title\\u{7}b\\u{202e}c\\u{85}d e f\\u{2028}g")
  })
})
