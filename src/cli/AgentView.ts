/**
 * How an agent and its figures look. Pure.
 */
import type { Agent, AgentMetrics, AgentStatus, Rollout } from "../../protocol/Agent.ts"
import * as Ink from "./Ink.ts"

export const list = (agents: ReadonlyArray<Agent>, ink: Ink.Ink): string =>
  Ink.table(
    ["NAME", "TYPE", "STATUS", "INSTANCES", "CAPABILITIES"],
    agents.map((agent) => [
      agent.name,
      agent.type,
      statusWords(agent, ink),
      `${agent.current_instances}/${agent.desired_instances}`,
      agent.capabilities.map(({ name }) => name).join(", ")
    ]),
    ink
  )

/** One line: what it is called and how it is. */
export const line = (agent: Agent, ink: Ink.Ink): string =>
  `${agent.name}  ${statusWords(agent, ink)}  ${agent.current_instances} of ${agent.desired_instances} instances  version ${agent.version}`

export const details = (agent: Agent, ink: Ink.Ink): string =>
  Ink.facts(
    [
      ["name", agent.name],
      ["id", agent.id],
      ["type", agent.type],
      ["description", Ink.printable(agent.description ?? "")],
      ["status", statusWords(agent, ink)],
      ["instances", `${agent.current_instances} of ${agent.desired_instances}`],
      [
        "capabilities",
        agent.capabilities
          .map(({ enabled, name, payload_schema: schema }) => {
            const checked = schema === undefined ? name : `${name} (payloads checked)`
            return enabled === false ? `${checked} (off)` : checked
          })
          .join(", ")
      ],
      ["configuration", Ink.printable(JSON.stringify(agent.configuration))],
      [
        "labels",
        Ink.printable(
          Object.entries(agent.labels)
            .map(([key, value]) => `${key}=${value}`)
            .join(" ")
        )
      ],
      ["created", Ink.time(agent.created_at)],
      ["updated", Ink.time(agent.updated_at)],
      ["version", String(agent.version)],
      ["definition", `of version ${agent.definition_version}`],
      ["roll-out", agent.rollout === undefined ? null : rolloutWords(agent.rollout)]
    ],
    ink
  )

const rolloutWords = ({ base_version, percent, version }: Rollout) =>
  `version ${version} for ${percent} % of new tasks, version ${base_version} for the others`

const statusInk = (status: AgentStatus, ink: Ink.Ink) => {
  if (status === "error") return ink.red
  if (status === "maintenance" || status === "terminated") return ink.yellow
  return status === "busy" ? ink.cyan : ink.green
}

const statusWords = (agent: Agent, ink: Ink.Ink) =>
  statusInk(agent.status, ink)(agent.status) +
  (agent.status_reason === null ? "" : ` (${Ink.printable(agent.status_reason)})`)

export const metrics = (figures: AgentMetrics, ink: Ink.Ink): string =>
  [
    Ink.facts(
      [
        ["completed", String(figures.completed)],
        ["failed", String(figures.failed)],
        ["timed out", String(figures.timed_out)],
        ["cancelled", String(figures.cancelled)],
        ["success", figures.success_rate === null ? null : `${(figures.success_rate * 100).toFixed(1)} %`],
        ["mean time", figures.response_time_mean_ms === null ? null : Ink.duration(figures.response_time_mean_ms)],
        ["longest time", figures.response_time_max_ms === null ? null : Ink.duration(figures.response_time_max_ms)],
        ["queued", String(figures.queue_depth)],
        ["running", String(figures.running)]
      ],
      ink
    ),
    ...(figures.instances.length === 0
      ? []
      : [
          Ink.table(
            ["INSTANCE", "STATUS", "NODE", "EPOCH", "HEARTBEAT"],
            figures.instances.map((instance) => [
              String(instance.index),
              Ink.printable(instance.status),
              instance.node,
              String(instance.epoch),
              Ink.time(instance.heartbeat)
            ]),
            ink
          )
        ])
  ].join("\n")
