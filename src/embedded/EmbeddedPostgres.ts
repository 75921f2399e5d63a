/**
 * A real Postgres that belongs to one data folder: made at the first start, durable, supervised, ended with the scope.
 *
 * `prepare` does what may take time and can be done beside other preparations; `run` starts it. Reached by TCP on the
 * loopback with a generated password only.
 */
import { Effect, type Redacted } from "effect"
import { DataFolder } from "./DataFolder.ts"
import { serverAs, userFor } from "./OsUser.ts"
import { postgresHome, SharedFolder } from "./PostgresHome.ts"
import { postgresPrograms } from "./PostgresPrograms.ts"
import {
  awaitAccepting,
  durableSettings,
  initialise,
  type PostgresServer,
  serverCommand,
  urlOf
} from "./PostgresServer.ts"
import { superviseChild } from "./SupervisedChild.ts"
import { endSurvivor } from "./Survivors.ts"

export interface PreparedPostgres {
  readonly server: PostgresServer
  readonly url: Redacted.Redacted
}

/** Finds programs and user and makes the data folder. Fails with `EmbeddedProblem`. */
export const prepare = Effect.gen(function* () {
  const folder = yield* DataFolder
  const user = yield* userFor(`${folder.path}/postgres`)
  const programs = yield* postgresPrograms(user, yield* SharedFolder)
  const dataFolder = yield* postgresHome(folder.path, user)
  const password = yield* folder.secret("postgres")
  yield* endSurvivor(`${dataFolder}/postmaster.pid`, dataFolder, "SIGINT")
  const port = yield* folder.portFor("postgres")
  const server: PostgresServer = { programs, user, dataFolder, port }
  yield* initialise(server, password, { sync: true })
  return { server, url: urlOf(server, password) } satisfies PreparedPostgres
}).pipe(Effect.withSpan("EmbeddedPostgres.prepare"))

/** Starts it and returns once it accepts connections; supervises it until the scope closes. Fails with `EmbeddedProblem`. */
export const run = Effect.fn("EmbeddedPostgres.run")(function* ({ server }: PreparedPostgres) {
  const command = yield* serverAs(server.user, serverCommand(server, durableSettings), "SIGINT")
  return yield* superviseChild({
    name: "Postgres",
    command,
    stopSignal: "SIGINT",
    // After a kill -9 its own processes may need a moment to notice; a stale pid file would keep the next one out.
    prepare: endSurvivor(`${server.dataFolder}/postmaster.pid`, server.dataFolder, "SIGINT"),
    ready: awaitAccepting(server.port)
  })
})
