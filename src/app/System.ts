/**
 * What operators ask of a node: is it alive, is it ready, what runs where.
 */
import { Context, type Effect } from "effect"
import type { Principal } from "../../protocol/Permission.ts"
import type { Forbidden, Unavailable } from "../../protocol/Problem.ts"
import type { Readiness, Status } from "../../protocol/System.ts"

export class System extends Context.Service<
  System,
  {
    /** Each part that is needed to accept and run tasks, asked now with a bound of 2 s. Never fails. */
    readonly readiness: Effect.Effect<Readiness>
    /** Node, versions, and tasks of the caller's namespace by status. */
    readonly status: Effect.Effect<Status, Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/System") {}
