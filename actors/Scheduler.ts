/**
 * The scheduler actor: every accepted task passes through it, once, on the node that was asked.
 */
import { Context, type Effect, type Result } from "effect"
import type { TaskId } from "../protocol/Ids.ts"
import type { Principal } from "../protocol/Permission.ts"
import type { IdempotencyMismatch, InvalidInput, Overloaded, TooLarge, Unavailable } from "../protocol/Problem.ts"
import type { AcceptedGraph, AcceptedTask, SubmitGraph, SubmitTask } from "../protocol/Task.ts"

/** Why one command was refused. The others of its batch are not concerned. */
export type Refusal = InvalidInput | TooLarge | IdempotencyMismatch

export class Scheduler extends Context.Service<
  Scheduler,
  {
    /**
     * Routes and accepts commands; each has its own outcome, in order. With `atomic` the first refusal undoes all and
     * is the outcome of every command. Answers after COMMIT. `retryOf` links a task to the ended one that it repeats.
     */
    readonly submit: (
      commands: ReadonlyArray<SubmitTask>,
      options?: { readonly atomic?: boolean; readonly retryOf?: TaskId }
    ) => Effect.Effect<ReadonlyArray<Result.Result<AcceptedTask, Refusal>>, Overloaded | Unavailable, Principal>
    readonly submitGraph: (
      command: SubmitGraph
    ) => Effect.Effect<AcceptedGraph, Refusal | Overloaded | Unavailable, Principal>
  }
>()("datamcp/actors/Scheduler") {}
