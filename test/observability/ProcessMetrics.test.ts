/** What Prometheus reads: every figure under its name, with its meaning, from the start. */
import { readdirSync, readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import * as Metrics from "../../protocol/Metrics.ts"
import { layer } from "../../src/observability/ProcessMetrics.ts"

const own = Effect.provideService(Metric.MetricRegistry, new Map())

describe("the Prometheus text", () => {
  it.effect("shows every metric without labels before it first changes", () =>
    Effect.gen(function* () {
      const text = yield* PrometheusMetrics.format()
      for (const entry of Metrics.catalogue.filter(({ labels }) => labels.length === 0)) {
        expect(text).toContain(`# HELP ${entry.name} ${entry.help}`)
        expect(text).toContain(`# TYPE ${entry.name} ${entry.type}`)
      }
    }).pipe(Effect.provide(layer({ version: "1.2.3" })), own)
  )

  it.effect("tells memory, CPU, uptime, lag and version of the process", () =>
    Effect.gen(function* () {
      const text = yield* PrometheusMetrics.format()
      const value = (line: string) =>
        Number(
          text
            .split("\n")
            .find((found) => found.startsWith(`${line} `))
            ?.split(" ")[1]
        )
      expect(value('datamcp_process_memory_bytes{kind="resident"}')).toBeGreaterThan(10_000_000)
      expect(value('datamcp_process_cpu_seconds_total{mode="user"}')).toBeGreaterThan(0)
      expect(value("datamcp_process_uptime_seconds")).toBeGreaterThan(0)
      expect(value('datamcp_event_loop_lag_seconds{quantile="0.99"}')).toBeGreaterThanOrEqual(0)
      expect(text).toContain(`datamcp_build_info{version="1.2.3",node_version="${process.versions.node}"} 1`)
    }).pipe(Effect.provide(layer({ version: "1.2.3" })), own)
  )

  it.effect("counts what parts count, each label a series of its own, units left out", () =>
    Effect.gen(function* () {
      yield* Metric.update(Metrics.tasksAccepted, 3)
      yield* Metric.update(Metrics.taskEnds({ outcome: "completed" }), 2)
      yield* Metric.update(Metrics.taskEnds({ outcome: "retry" }), 1)
      yield* Metric.update(Metrics.acceptSeconds, 0.003)
      const text = yield* PrometheusMetrics.format()
      expect(text).toContain("datamcp_tasks_accepted_total 3\n")
      expect(text).toContain('datamcp_task_ends_total{outcome="completed"} 2\n')
      expect(text).toContain('datamcp_task_ends_total{outcome="retry"} 1\n')
      expect(text).toContain('datamcp_accept_seconds_bucket{le="0.005"} 1\n')
      expect(text).toContain('datamcp_accept_seconds_bucket{le="0.0025"} 0\n')
    }).pipe(own)
  )
})

const root = new URL("../../", import.meta.url)
const sources = ["actors", "src"].flatMap((folder) =>
  readdirSync(new URL(folder, root), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(new URL(`${folder}/${name}`, root), "utf8"))
)
const text = readFileSync(new URL("protocol/Metrics.ts", root), "utf8")
const exported = [...text.matchAll(/^export const (\w+) = (?:counter|gauge|histogram)s?\(/gmu)].map(([, name]) => name)

describe("the catalogue", () => {
  it.each(exported)("has nothing that no part of the program sets: %s", (name) => {
    expect(sources.some((source) => source.includes(`Metrics.${name}`))).toBe(true)
  })

  it("names each metric once, by the rules of Prometheus", () => {
    const names = Metrics.catalogue.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    for (const { help, labels, name, type, unit } of Metrics.catalogue) {
      expect(name).toMatch(/^datamcp_[a-z_]+$/u)
      expect(name.endsWith("_total")).toBe(type === "counter")
      expect(unit === "seconds" && type !== "counter" ? name.endsWith("_seconds") : true).toBe(true)
      expect(help).toMatch(/^[A-Z0-9]/u)
      expect(labels).not.toContain("namespace")
    }
  })
})
