/**
 * What starts a platform, as the command line sees it. Given in by the program's entry, which loads the rest of the
 * house only for the commands that need it.
 */
import { Context, type Effect } from "effect"
import type { NodeRole } from "../../protocol/Node.ts"
import type { ProofPlan, ProofReport, ProofWatch } from "../../protocol/Proof.ts"
import type { Verification, VerificationScope } from "../../protocol/Verification.ts"
import type { CliFailure } from "./CliFailure.ts"

/** What the command line says instead of the environment. */
export interface Given {
  readonly roles?: ReadonlyArray<NodeRole>
}

export class Launch extends Context.Service<
  Launch,
  {
    /** Servers of its own where none are named, then a node. Runs until it is interrupted. */
    readonly up: (given: Given) => Effect.Effect<void, CliFailure>
    /** A node on the servers that the environment names. Runs until it is interrupted. */
    readonly serve: (given: Given) => Effect.Effect<void, CliFailure>
    /** Brings the database that the environment names to this version. Returns the migrations that were applied. */
    readonly migrate: Effect.Effect<ReadonlyArray<string>, CliFailure>
    /** Looks at the database that the environment names, or at that of the platform that runs here. */
    readonly verify: (scope: VerificationScope) => Effect.Effect<Verification, CliFailure>
    /** Kills nodes, and servers of its own, under work, and looks what became of it. */
    readonly prove: (plan: ProofPlan, watch: ProofWatch) => Effect.Effect<ProofReport, CliFailure>
  }
>()("datamcp/cli/Launch") {}
