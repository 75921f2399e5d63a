/** Why a proof could not be carried through: nothing is shown by it, neither that promises hold nor that one is broken. */
import { Schema } from "effect"

export class ProofProblem extends Schema.TaggedError<ProofProblem>()("ProofProblem", {
  /** What is wrong and what to do, for the person who started it. */
  message: Schema.String
}) {}
