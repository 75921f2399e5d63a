/**
 * How the supervision tree looks. Pure: from what the server said to lines of text.
 *
 *   node-1  up
 *     fetch  busy
 *       0  running      2 tasks, 5 waiting; 1 restart of late, 4 in all
 *            crawl  attempt 1  12 s  019a...
 *     ...
 *   not running
 *     mail  error (its instance crashed 9 times ...)
 *       0  quarantined  by supervisor, 3 min 05 s ago
 */
import type {
  InstanceOrder,
  InstanceState,
  SupervisedAgent,
  SupervisedInstance,
  SupervisionTree
} from "../../protocol/Supervision.ts"
import * as Ink from "./Ink.ts"
import type { Size } from "./Screen.ts"

/** One line without colours, and its colour. */
interface Line {
  readonly text: string
  readonly paint: (text: string) => string
}

export const text = (tree: SupervisionTree, ink: Ink.Ink): string =>
  linesOf(tree, ink)
    .map((line) => line.paint(line.text.trimEnd()))
    .join("\n")

/** Lines of a frame of the live area: each narrower than the terminal, no more than fit. */
export const frame = (tree: SupervisionTree, size: Size, ink: Ink.Ink): ReadonlyArray<string> => {
  const width = Math.max(20, size.columns - 1)
  const room = Math.max(2, size.rows - 2)
  const lines = linesOf(tree, ink)
  const hidden = lines.length > room ? lines.length - room + 1 : 0
  const shown = hidden === 0 ? lines : lines.slice(0, room - 1)
  const rest = hidden === 0 ? [] : [ink.dim(Ink.fit(`${hidden} more lines: filter by --agent or --state`, width, ink))]
  return [...shown.map((line) => line.paint(Ink.fit(line.text, width, ink).trimEnd())), ...rest]
}

/** What was ordered of an instance, on one line. */
export const order = ({ agent, index, quarantine, version }: InstanceOrder, done: string, ink: Ink.Ink): string =>
  `${agent}/${index}  ${ink.bold(done)}${
    quarantine === null || quarantine.reason === null ? "" : `: ${Ink.printable(quarantine.reason)}`
  }  version ${version}`

const linesOf = (tree: SupervisionTree, ink: Ink.Ink): ReadonlyArray<Line> => {
  const plain = (line: string): Line => ({ text: line, paint: (same) => same })
  const now = Date.parse(tree.at)
  const of = (agents: ReadonlyArray<SupervisedAgent>) => agents.flatMap((agent) => agentLines(agent, now, ink))
  const nodes = tree.nodes.flatMap(({ node, state }) => [
    { text: `${node}  ${state}`, paint: state === "up" ? ink.bold : ink.red },
    ...of(onNode(tree, node))
  ])
  const resting = of(onNode(tree, undefined))
  const more = tree.next_cursor === null ? [] : [{ text: `More agents: --cursor ${tree.next_cursor}`, paint: ink.dim }]
  if (nodes.length === 0 && resting.length === 0) return [plain("No instances."), ...more]
  return [...nodes, ...(resting.length === 0 ? [] : [{ text: "not running", paint: ink.bold }, ...resting]), ...more]
}

const isHosted = (state: InstanceState) =>
  state === "starting" || state === "running" || state === "backing_off" || state === "unreachable"

/** The agents with those of their instances that a node hosts, or that no node does. */
const onNode = (tree: SupervisionTree, node: string | undefined): ReadonlyArray<SupervisedAgent> =>
  tree.agents.flatMap((agent) => {
    const instances = agent.instances.filter((each) => (isHosted(each.state) ? each.node : undefined) === node)
    return instances.length === 0 ? [] : [{ ...agent, instances }]
  })

const agentLines = (agent: SupervisedAgent, now: number, ink: Ink.Ink): ReadonlyArray<Line> => {
  const why = agent.status_reason === null ? "" : ` (${Ink.printable(agent.status_reason)})`
  const strategy = agent.strategy === "one_for_one" ? "" : `  ${agent.strategy}`
  return [
    {
      text: `  ${agent.agent}  ${agent.status}${why}${strategy}`,
      paint: agent.status === "error" ? ink.red : (same) => same
    },
    ...agent.instances.flatMap((each) => instanceLines(each, now, ink))
  ]
}

const stateWidth = 13

const instanceLines = (each: SupervisedInstance, now: number, ink: Ink.Ink): ReadonlyArray<Line> => [
  {
    text: `    ${String(each.index).padStart(2)}  ${words(each.state).padEnd(stateWidth)}${facts(each, now).join("; ")}`,
    paint: paintOf(each.state, ink)
  },
  ...each.tasks.map(({ attempt, id, name, since }) => ({
    text: `          ${Ink.printable(name)}  attempt ${attempt}  ${ago(since, now)}  ${id}`,
    paint: ink.dim
  })),
  ...(each.running > each.tasks.length
    ? [{ text: `          and ${each.running - each.tasks.length} more`, paint: ink.dim }]
    : [])
]

const words = (state: InstanceState) => state.replace("_", " ")

const paintOf = (state: InstanceState, ink: Ink.Ink) => {
  if (state === "quarantined" || state === "unreachable") return ink.red
  if (state === "backing_off" || state === "stopped") return ink.yellow
  return state === "running" ? ink.green : (same: string) => same
}

const facts = (each: SupervisedInstance, now: number): ReadonlyArray<string> => [
  ...(each.running + each.waiting > 0 ? [`${count(each.running, "task")}, ${each.waiting} waiting`] : []),
  ...(each.next_start_at === null
    ? []
    : [`starts again in ${Ink.duration(Math.max(0, Date.parse(each.next_start_at) - now))}`]),
  ...(each.quarantine === null
    ? []
    : [
        `by ${Ink.printable(each.quarantine.by)}, ${ago(each.quarantine.at, now)} ago` +
          (each.quarantine.reason === null ? "" : `: ${Ink.printable(each.quarantine.reason)}`)
      ]),
  ...(each.restarts.total + each.restarts.recent > 0
    ? [`${count(each.restarts.recent, "restart")} of late, ${each.restarts.total} in all`]
    : []),
  ...(each.task_crashes.total + each.task_crashes.recent > 0
    ? [`${count(each.task_crashes.recent, "task crash", "es")} of late, ${each.task_crashes.total} in all`]
    : []),
  ...(each.last_crash === null
    ? []
    : [
        `last crash ${ago(each.last_crash.at, now)} ago: ` +
          Ink.printable(`${each.last_crash.class}: ${each.last_crash.message}`)
      ])
]

const count = (number: number, one: string, plural = "s") => `${number} ${one}${number === 1 ? "" : plural}`

const ago = (at: string, now: number) => Ink.duration(Math.max(0, now - Date.parse(at)))
