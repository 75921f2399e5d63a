/**
 * What clients saw: one record when an operation is invoked and one when it ends, with monotonic time, in memory for the checker
 * and as lines of JSON for people.
 *
 *   invoke --> ok     it was answered as done
 *          --> fail   it was refused: nothing happened
 *          --> info   unknown: no answer, or one that says so
 */
import { appendFileSync } from "node:fs"

export type Kind = "submit" | "graph" | "read" | "conflict"

export interface Operation {
  readonly number: number
  readonly kind: Kind
  /** The idempotency key of what was submitted, or that a read is about. */
  readonly key: string
  /** Milliseconds on the monotonic clock. */
  readonly invokedAt: number
  endedAt: number
  outcome: "pending" | "ok" | "fail" | "info"
  /** HTTP status; 0 without an answer. */
  status: number
  /** The task that was answered, or asked for. */
  taskId: string | undefined
  /** Of a graph: the ids of its tasks. */
  taskIds: ReadonlyArray<string>
  /** Of a read: the state and version that were seen. */
  seen: { readonly status: string; readonly version: number } | undefined
  /** Where an answer came from: the node's name. */
  readonly node: string
}

export interface History {
  readonly operations: ReadonlyArray<Operation>
  readonly invoke: (
    of: Pick<Operation, "kind" | "key" | "node"> & { readonly taskId?: string | undefined }
  ) => Operation
  readonly end: (
    operation: Operation,
    as: Partial<Pick<Operation, "taskId" | "taskIds" | "seen">> & {
      readonly outcome: "ok" | "fail" | "info"
      readonly status: number
    }
  ) => void
}

/** With a `file`, each record is appended to it as it is made. */
export const makeHistory = (file?: string): History => {
  const operations: Array<Operation> = []
  const write = (record: object) => {
    if (file !== undefined) appendFileSync(file, `${JSON.stringify(record)}\n`)
  }
  return {
    operations,
    invoke: ({ key, kind, node, taskId }) => {
      const operation: Operation = {
        ...{ number: operations.length, kind, key, node, taskId, taskIds: [], seen: undefined, status: 0 },
        ...{ invokedAt: performance.now(), endedAt: Number.NaN, outcome: "pending" as const }
      }
      operations.push(operation)
      write({ event: "invoke", number: operation.number, kind, key, node, at: operation.invokedAt })
      return operation
    },
    end: (operation, as) => {
      operation.endedAt = performance.now()
      operation.outcome = as.outcome
      operation.status = as.status
      if (as.taskId !== undefined) operation.taskId = as.taskId
      if (as.taskIds !== undefined) operation.taskIds = as.taskIds
      operation.seen = as.seen
      const { endedAt, number, outcome, status, taskId } = operation
      write({ event: outcome, number, status, task: taskId, at: endedAt })
    }
  }
}
