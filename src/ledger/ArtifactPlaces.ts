/**
 * Places outside of Postgres for the bytes of artifacts: a folder, a NATS bucket. What is known of an artifact, and where its bytes
 * are, always stands in its row.
 */
import { Context, type Effect, Schema, type Scope, type Stream } from "effect"
import type { ArtifactError } from "../../actors/ports/ArtifactStore.ts"
import type { ArtifactId } from "../../protocol/Ids.ts"

/** A place cannot be used. `message` is written for the person who starts the program. */
export class ArtifactPlaceProblem extends Schema.TaggedError<ArtifactPlaceProblem>()("ArtifactPlaceProblem", {
  message: Schema.String
}) {}

/** What is known of content once all of it has come. */
export interface Gathered {
  readonly sha256: Uint8Array
  readonly sizeBytes: number
}

export interface ArtifactPlace {
  /** As rows name it. */
  readonly name: "folder" | "nats"
  /** The setting that leads to it, for who has to mend it. */
  readonly setting: string
  /** Takes the bytes of an artifact, in order; without `place` nothing of them stays when the scope closes. */
  readonly receive: (id: ArtifactId) => Effect.Effect<
    {
      readonly write: (bytes: Uint8Array) => Effect.Effect<void, ArtifactError>
      /** From here on they are durable, all of them. */
      readonly place: (gathered: Gathered) => Effect.Effect<void, ArtifactError>
    },
    ArtifactError,
    Scope.Scope
  >
  /** The bytes in order, a piece at a time, no faster than they are taken. */
  readonly read: (id: ArtifactId, sizeBytes: number) => Stream.Stream<Uint8Array, ArtifactError>
  readonly remove: (id: ArtifactId) => Effect.Effect<void, ArtifactError>
  /**
   * Removes what nobody knows: of the next of 256 parts, what is older than `ageMillis` and is not among the `known` ids. Returns
   * how many went.
   */
  readonly sweep: <E>(
    ageMillis: number,
    nowMillis: number,
    known: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlySet<string>, E>
  ) => Effect.Effect<number, ArtifactError | E>
}

/**
 * How the places are opened for a platform, which each of them belongs to. New artifacts go to the first, or into Postgres when there is
 * none; those in the others are read.
 */
export const ArtifactPlaces = Context.Reference<
  ReadonlyArray<(platform: string) => Effect.Effect<ArtifactPlace, ArtifactPlaceProblem>>
>("datamcp/ledger/ArtifactPlaces", { defaultValue: () => [] })
