/**
 * Owns what is said about artifacts.
 */
import { Schema } from "effect"
import { ArtifactId, Namespace } from "./Ids.ts"
import { Timestamp } from "./Task.ts"

/** View: what is known of an artifact besides its bytes. */
export const Artifact = Schema.Struct({
  id: ArtifactId,
  namespace: Namespace,
  name: Schema.String,
  content_type: Schema.String,
  size_bytes: Schema.Int,
  sha256: Schema.String.annotateKey({ description: "Lower-case hex." }),
  created_at: Timestamp
}).annotate({ identifier: "Artifact" })
export type Artifact = typeof Artifact.Type
