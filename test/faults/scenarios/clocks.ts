/** Wall clocks of nodes that are wrong, jump forward and go back. Time that counts is Postgres's; durations are monotonic. */
import { writeFileSync } from "node:fs"
import { query } from "../../../bench/servers/query.ts"
import { type Fault, type FaultRun, seconds } from "../Fault.ts"
import { submitOnce } from "../Load.ts"
import type { RigNode } from "../Rig.ts"

const fileOf = (run: FaultRun, node: RigNode) => `${run.rig.folder}/${node.name}.clock`

/** What the node that made it believed, by the time that a task's id begins with (UUID version 7). */
const offsetOf = (id: string) => (Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16) - Date.now()) / 1_000

const minute = 60_000
const jumps = [10 * minute, -10 * minute, 60 * minute, -60 * minute, 0]

export const jumpClocks: Fault = {
  id: "F18",
  title: "wall clocks of nodes jump by ten minutes and by an hour, forward and back",
  pass: "what is due at a time starts within 1.5 s of it by Postgres's clock; attempts are neither lost nor cut short",
  ...{ nodes: 2, perSecond: 60, seconds: 60 },
  nodeFlags: ["--import", "./test/faults/skewedClock.ts"],
  inject: async (run) => {
    // A process finds its file by its environment, so each is started again with its own.
    for (const node of run.rig.nodes) {
      await node.process().stop()
      await node.start({ environment: { FAULTS_CLOCK: fileOf(run, node) } })
    }
    let submitted = 0
    let refused = 0
    const seen: Array<number> = []
    const ids: Array<string> = []
    for (let turn = 0; run.goesOn() || turn < jumps.length * run.rig.nodes.length; turn++) {
      const node = run.rig.nodes[turn % run.rig.nodes.length]
      const millis = jumps[Math.floor(turn / run.rig.nodes.length) % jumps.length] ?? 0
      if (node === undefined) break
      run.injected(`the clock of ${node.name} is ${millis / minute} minutes off`)
      writeFileSync(fileOf(run, node), String(millis))
      await seconds(0.2)
      for (const by of run.rig.nodes) {
        // Both clocks of this machine are one: what is due is meant by Postgres's.
        const at = (after: number) => new Date(Date.now() + after).toISOString()
        const body = {
          ...{ agent: "echo", payload: { sleep_ms: 100 }, run_at: at(3_000) },
          // Looked at by the clock of who runs it, it would have passed or never come.
          ...(turn % 3 > 0 && { deadline: at(25_000) })
        }
        const operation = await submitOnce(run, by, { kind: "submit", key: `due-${submitted++}`, body })
        if (operation.outcome === "ok" && operation.taskId !== undefined) {
          ids.push(operation.taskId)
          seen.push(offsetOf(operation.taskId))
        } else if (operation.status === 422) refused++
        // Who is ahead takes a deadline for past, and says so.
        else run.tell(`${by.name} answered ${operation.status} to a task due in 3 s`)
      }
      await seconds(run.chance.between(2, 4))
    }
    for (const node of run.rig.nodes) writeFileSync(fileOf(run, node), "0")
    await seconds(5)
    const rows = await query<{ late: number | null; status: string }>(
      run.rig.databaseUrl,
      `select extract(epoch from (select min(at) from events e where e.aggregate = t.id and e.type = 'TaskStarted') - t.run_at)::float8 as late,
         t.status::text from tasks t where t.id in (${ids.map((id) => `'${id}'`).join(", ") || "null"})`
    )
    const late = rows.map((row) => (row.late ?? Number.POSITIVE_INFINITY) * 1_000)
    return [
      { name: "largest offset seen", value: Math.round(Math.max(...seen)), unit: "s", least: 3_500 },
      { name: "tasks due at a time", value: rows.length, unit: "", least: 5 },
      {
        name: "of them not completed",
        value: rows.filter(({ status }) => status !== "completed").length,
        unit: "",
        most: 0
      },
      { name: "deadlines refused by a node that is ahead", value: refused, unit: "" },
      { name: "earliest start after it was due", value: Math.round(Math.min(...late)), unit: "ms", least: 0 },
      { name: "latest start after it was due", value: Math.round(Math.max(...late)), unit: "ms", most: 1_500 }
    ]
  },
  figuresOf: (state) => [
    { name: "attempts lost", value: state.events.filter(({ lost }) => lost).length, ...{ unit: "", most: 0 } }
  ]
}
