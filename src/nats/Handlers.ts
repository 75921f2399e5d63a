/** The type of what carries out each endpoint of the contract: a missing or a wrong one does not compile. */
import type { Effect } from "effect"
import type { Principal } from "../../protocol/Permission.ts"
import type { EndpointName, endpoints, ServiceProblem } from "../../protocol/service/Endpoints.ts"

/** What a handler gets beside the request. */
export interface Call {
  /** Value of the header `Idempotency-Key`. */
  readonly key: string | undefined
  /** Ends when this node stops: who holds a request open answers it then. */
  readonly stopping: Effect.Effect<void>
}

type Handler<Name extends EndpointName> = (
  request: (typeof endpoints)[Name]["read"]["Type"],
  call: Call
) => Effect.Effect<(typeof endpoints)[Name]["answer"]["Type"], ServiceProblem, Principal>

export type Handlers = { readonly [Name in EndpointName]: Handler<Name> }
