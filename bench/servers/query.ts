/** One SQL statement against a server of the bench, over a connection of its own. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"

export const query = <Row extends object>(
  url: string,
  text: string,
  params: ReadonlyArray<unknown> = []
): Promise<ReadonlyArray<Row>> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* sql.unsafe<Row>(text, params)
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })), Effect.runPromise)
