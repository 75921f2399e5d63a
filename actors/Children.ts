/**
 * How a running task submits others that belong to it. Each is told apart by the task, a step that the behaviour names, and its
 * place in that step: an attempt that is run again, or one that has been taken over and does not know it yet, gets the tasks
 * that were accepted first.
 */
import { Effect, Result } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import { TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import { Principal, rolePermissions } from "../protocol/Permission.ts"
import { type Attempt, BehaviourFailure } from "./Behaviour.ts"
import type { Scheduler } from "./Scheduler.ts"

/** The `submit` of an attempt. */
export const submitter =
  (scheduler: Scheduler["Service"], order: TaskOrder): Attempt["submit"] =>
  (step, commands) => {
    if (!stepPattern.test(step)) return Effect.fail(refused("a step is named by 1 to 64 letters, digits, _ or -"))
    if (commands.length > Limits.batchTasksMax) {
      return Effect.fail(refused(`a step submits at most ${Limits.batchTasksMax} tasks`))
    }
    if (commands.length === 0) return Effect.succeed([])
    const children = commands.map((command, index) => ({
      ...command,
      parent_id: TaskId.make(order.id, { disableChecks: true }),
      idempotency_key: `task:${order.id}/${step}/${index}`
    }))
    return scheduler.submit(children, { atomic: true }).pipe(
      Effect.provideService(
        Principal,
        Principal.of({
          actor: `task:${order.id}`,
          namespace: order.namespace,
          role: "agent",
          permissions: new Set(rolePermissions.agent)
        })
      ),
      Effect.mapError(
        ({ _tag }) =>
          new BehaviourFailure({
            code: "children_unavailable",
            message: `tasks could not be submitted: ${_tag}`,
            retryable: true
          })
      ),
      Effect.flatMap((answers) =>
        Effect.forEach(answers, (answer) =>
          Result.isSuccess(answer)
            ? Effect.succeed(answer.success.id)
            : Effect.fail(refused(answer.failure.detail ?? answer.failure._tag))
        )
      )
    )
  }

const stepPattern = /^[A-Za-z0-9_-]{1,64}$/u

const refused = (message: string) => new BehaviourFailure({ code: "children_refused", message, retryable: false })
