/**
 * Port to the principals that stand behind stored work: who made it may have lost the right to it since.
 */
import { Context, type Effect } from "effect"
import type { Namespace } from "../../protocol/Ids.ts"
import type { Principal } from "../../protocol/Permission.ts"
import type { Unavailable } from "../../protocol/Problem.ts"

export class Owners extends Context.Service<
  Owners,
  {
    /**
     * The principal that an actor (`key:<id>`) is now, in this namespace; undefined when it is unknown, revoked, expired,
     * or of another namespace. Fails closed: `Unavailable` when that cannot be learned.
     */
    readonly principalOf: (
      actor: string,
      namespace: Namespace
    ) => Effect.Effect<Principal["Service"] | undefined, Unavailable>
  }
>()("datamcp/actors/Owners") {}
