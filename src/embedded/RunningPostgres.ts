/**
 * Where the Postgres of a data folder takes connections, for programs beside the node that runs it: read from the folder, which stays
 * as it is. Starts nothing, holds nothing.
 */
import { Effect, FileSystem, Redacted, Schema } from "effect"
import { EmbeddedProblem } from "./EmbeddedProblem.ts"
import { awaitAccepting, urlOf } from "./PostgresServer.ts"

const Ports = Schema.fromJsonString(Schema.Struct({ postgres: Schema.Int }))

/** Looks for it that often, 25 ms apart: it may be starting. */
const patience = 80

/** Fails with `EmbeddedProblem` when there is no platform in the folder, or its Postgres does not run. */
export const runningPostgres = Effect.fn("runningPostgres")(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const noPlatform = () =>
    new EmbeddedProblem({
      reason: "StartFailed",
      what: `There is no platform of its own in ${folder}.`,
      remedy: "Set DATABASE_URL to the database of the platform, or DATAMCP_DATA to the folder of one that runs here."
    })
  const { postgres: port } = yield* fs
    .readFileString(`${folder}/ports.json`)
    .pipe(Effect.flatMap(Schema.decodeEffect(Ports)), Effect.mapError(noPlatform))
  const password = yield* Effect.mapError(fs.readFileString(`${folder}/secrets/postgres`), noPlatform)
  yield* Effect.mapError(
    awaitAccepting(port, patience),
    () =>
      new EmbeddedProblem({
        reason: "StartFailed",
        what: `The Postgres of ${folder} does not run.`,
        remedy: "Start the platform (`npm start`) and try again."
      })
  )
  return urlOf({ port }, Redacted.make(password))
})
