/**
 * The program `datamcp`: its commands, put together and run.
 *
 * Thin on purpose: grammar and behaviour of each command stand in `src/cli/`. What starts a platform is loaded only by the
 * commands that do, so that the others start fast.
 */
import { existsSync } from "node:fs"
import { constants } from "node:os"
import { resolve } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Effect, Exit, Layer, Runtime } from "effect"
import { CliConfig, CliOutput, Command, GlobalFlag } from "effect/cli"
import manifest from "../package.json" with { type: "json" }
import { agents } from "./cli/agents.ts"
import { artifacts } from "./cli/artifacts.ts"
import { behaviours } from "./cli/behaviours.ts"
import { CliEnvironment } from "./cli/CliEnvironment.ts"
import { CliFailure, usage } from "./cli/CliFailure.ts"
import { deadLetters, operations, retention } from "./cli/control.ts"
import { doctor } from "./cli/doctor.ts"
import { Json, Key, Url } from "./cli/flags.ts"
import { graphs } from "./cli/graphs.ts"
import { hooks } from "./cli/hooks.ts"
import { instances } from "./cli/instances.ts"
import { keys } from "./cli/keys.ts"
import { Launch } from "./cli/Launch.ts"
import { limits } from "./cli/limits.ts"
import { nodes } from "./cli/nodes.ts"
import { Output } from "./cli/Output.ts"
import { presenter, told } from "./cli/Presentation.ts"
import { migrate, serve, up } from "./cli/platform.ts"
import { prove } from "./cli/prove.ts"
import { Screen } from "./cli/Screen.ts"
import { schedules } from "./cli/schedules.ts"
import { status } from "./cli/status.ts"
import { tasks } from "./cli/tasks.ts"
import { tree } from "./cli/tree.ts"
import { verify } from "./cli/verify.ts"
import { webhooks } from "./cli/webhooks.ts"
import { serverVariables } from "./config/Variables.ts"
import { readClient } from "./config.ts"
import type * as Main from "./main.ts"

const datamcp = Command.make("datamcp").pipe(
  Command.withDescription(
    "Runs fleets of AI and data agents as supervised actors.\n\n" +
      "  Exit codes: 0 it is done; 1 refused, or what was awaited did not complete; 2 wrong usage;\n" +
      "  3 no server, or no valid key; 130 stopped by Ctrl-C."
  ),
  Command.withSubcommands([
    { group: "Platform", commands: [up, serve, migrate, verify, prove, status, nodes, tree, doctor, keys, retention] },
    {
      group: "Work",
      commands: [agents, instances, behaviours, tasks, graphs, schedules, limits, artifacts, deadLetters, operations]
    },
    { group: "Outside", commands: [webhooks, hooks] }
  ]),
  Command.provide(Output.layer),
  Command.withGlobalFlags([Json, Url, Key])
)

/** The data folder beside this copy of the program. */
const ownFolder = fileURLToPath(new URL("../.datamcp", import.meta.url))

/** The folder `.datamcp` here, or, where there is none, our own. */
const dataFolder = (named: string) => {
  const here = resolve(named)
  const isDefault = named === serverVariables.dataFolder.default
  return isDefault && !existsSync(here) ? ownFolder : here
}

const environment = Layer.effect(
  CliEnvironment,
  readClient().pipe(
    Effect.map((read) => ({ ...read, dataFolder: dataFolder(read.dataFolder), ownFolder })),
    Effect.mapError(({ mistakes }) => usage(mistakes.join("\n")))
  )
)

/** What starts a platform says itself, in its message, what is wrong and what to do. */
const launched = <A, E extends { readonly message: string }, R>(start: (main: typeof Main) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(
    Effect.promise(() => import("./main.ts")),
    (main) => Effect.mapError(start(main), ({ message }) => notStarted(message))
  )

const notStarted = (message: string) =>
  new CliFailure({
    exitCode: 1,
    message,
    problem: { type: "urn:datamcp:problem:not-started", title: "The platform cannot run", detail: message }
  })

/** How this process is asked to stop, and whether it then does what it was started for. */
const signals = { terminated: false, serving: false }

const serving = <A, E, R>(run: Effect.Effect<A, E, R>) =>
  Effect.andThen(
    Effect.sync(() => {
      signals.serving = true
    }),
    run
  )

process.once("SIGTERM", () => {
  signals.terminated = true
})

/** A service that SIGTERM has stopped in order has succeeded; a command that it has stopped has not. */
const teardown: Runtime.Teardown = (exit, end) =>
  signals.terminated && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    ? end(signals.serving ? 0 : 128 + constants.signals.SIGTERM)
    : Runtime.defaultTeardown(exit, end)

const launch = Layer.succeed(
  Launch,
  Launch.of({
    up: (given) => serving(launched((main) => main.up(given))),
    serve: (given) => serving(launched((main) => main.serve(given))),
    migrate: launched((main) => main.migrate),
    prove: (plan, watch) => launched((main) => main.prove(plan, watch)),
    verify: (scope) =>
      Effect.flatMap(CliEnvironment, ({ dataFolder }) => launched((main) => main.verify(scope, dataFolder))).pipe(
        Effect.provide(environment)
      )
  })
)

// Before the grammar has been read, and so also when it is broken.
const json = process.argv.includes("--json")

told(
  Command.run(datamcp, { version: manifest.version, renderErrors: true }).pipe(
    Effect.provideService(CliConfig.CliConfig, {
      builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions]
    }),
    Effect.provideService(CliOutput.Presenter, presenter(json)),
    Effect.provide(Layer.mergeAll(environment, launch))
  ),
  json
).pipe(
  Effect.provide(Screen.layer.pipe(Layer.provideMerge(NodeServices.layer))),
  NodeRuntime.runMain({ disableErrorReporting: true, teardown })
)
