/** The scenarios of datamcp alone, in the order in which they run. */
import { accepts } from "./accepts.ts"
import { agents } from "./agents.ts"
import type { Scenario } from "./Bench.ts"
import { backlog } from "./backlog.ts"
import { bloat } from "./bloat.ts"
import { finding } from "./finding.ts"
import { graphs } from "./graphs.ts"
import { idle } from "./idle.ts"
import { memory } from "./memory.ts"
import { nodes } from "./nodes.ts"
import { payloads } from "./payloads.ts"
import { reads } from "./reads.ts"
import { recovery } from "./recovery.ts"
import { rules } from "./rules.ts"

export const scenarios: ReadonlyArray<Scenario> = [
  accepts,
  reads,
  graphs,
  payloads,
  agents,
  nodes,
  rules,
  idle,
  memory,
  finding,
  backlog,
  bloat,
  ...recovery
]

export const scenarioNames = scenarios.map(({ name }) => name)
