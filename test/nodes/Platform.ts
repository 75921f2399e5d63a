/** Asking nodes of one platform: over HTTP, and what their database says. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import * as Postgres from "../../src/ledger/Postgres.ts"
import { askPort } from "../http/support/TestServer.ts"
import type { ServedPlatform } from "../nats/ServedPlatform.ts"

export const asker =
  ({ key, url }: Pick<ServedPlatform, "key" | "url">) =>
  (method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) =>
    Effect.promise(() =>
      askPort(Number(new URL(url).port), {
        ...{ key, method, path: `/api/v1${path}` },
        ...(body === undefined
          ? { headers }
          : { body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } })
      })
    )

/** The same for a path as it stands. */
export const asked = ({ key, url }: Pick<ServedPlatform, "key" | "url">, path: string) =>
  Effect.promise(() => askPort(Number(new URL(url).port), { key, path }))

/** Rows of the platform's database. */
export const rows = <A extends object>(platform: ServedPlatform, statement: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<A>(statement)).pipe(
    Effect.provide(Postgres.layer({ url: platform.databaseUrl, connectionsMax: 1, applicationName: "looking on" })),
    Effect.orDie
  )

/** Asks again until it holds. Dies after `seconds`. */
export const eventually = Effect.fnUntraced(function* <A, R>(
  what: string,
  look: Effect.Effect<A, never, R>,
  holds: (found: A) => boolean,
  seconds = 15
) {
  const end = performance.now() + seconds * 1_000
  for (;;) {
    const found = yield* look
    if (holds(found)) return found
    if (performance.now() > end) return yield* Effect.die(new Error(`${what}: ${JSON.stringify(found)}`))
    yield* Effect.sleep("50 millis")
  }
})
