/**
 * What the ledger keeps of a task of a graph that does not simply run when its dependencies are satisfied: the condition
 * under which it does, and the list over which it is mapped. As in the command, with ids of tasks for keys of the graph.
 */
import type { Condition } from "../protocol/Condition.ts"
import type { TaskId } from "../protocol/Ids.ts"
import type { TaskMap } from "../protocol/Task.ts"

export interface StepMap extends TaskMap {
  /** The map of an earlier graph whose completed elements are taken over instead of being run again. */
  readonly elements_of?: TaskId
}

export interface GraphStep {
  readonly when?: Condition
  readonly map?: StepMap
}
