/**
 * How a fault of the artifact store fails an attempt: each reason as a code of its own, tried again where the store was away.
 */
import { BehaviourFailure } from "./Behaviour.ts"
import type { ArtifactError } from "./ports/ArtifactStore.ts"

export const artifactFailure = (error: ArtifactError): BehaviourFailure =>
  new BehaviourFailure({
    code: `artifact_${error.reason.replaceAll("-", "_")}`,
    message: error.message,
    retryable: error.reason === "unavailable"
  })
