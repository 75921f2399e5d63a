/** Agents whose first instance is looked for: enough that every shard has one. */
import { AgentId } from "../../protocol/Ids.ts"

export const probes = Array.from({ length: 600 }, (_, number) =>
  AgentId.make(`018f0000-0000-7000-8000-${number.toString(16).padStart(12, "0")}`)
)
