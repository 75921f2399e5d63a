/**
 * `npm run demo`: real data work on a real platform, from files to a report. `npm run demo -- --kill` kills the serving
 * process in the middle and shows from the event log that every step was recorded once all the same.
 *
 * Uses the platform that runs here (or at --url); starts one of its own, and ends it, when there is none. With --kill it
 * always uses one of its own.
 */
import { existsSync } from "node:fs"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Clock, Deferred, Duration, Effect, Layer, Option, Ref, Result } from "effect"
import { CliConfig, CliOutput, Command, Flag, GlobalFlag } from "effect/cli"
import { FetchHttpClient, HttpClient } from "effect/http"
import manifest from "../../package.json" with { type: "json" }
import { SubmitGraph } from "../../protocol/Task.ts"
import { followGraph, type OnGraph } from "../../src/cli/Await.ts"
import { CliEnvironment } from "../../src/cli/CliEnvironment.ts"
import { Client } from "../../src/cli/Client.ts"
import { CliFailure, notCompleted, usage } from "../../src/cli/CliFailure.ts"
import { Connection, serverUrl } from "../../src/cli/Connection.ts"
import { Json, Key, Url } from "../../src/cli/flags.ts"
import { sum } from "../../src/cli/GraphView.ts"
import { duration, printableLines } from "../../src/cli/Ink.ts"
import { decodeCommand } from "../../src/cli/input.ts"
import { Output } from "../../src/cli/Output.ts"
import { presenter, told } from "../../src/cli/Presentation.ts"
import { Screen } from "../../src/cli/Screen.ts"
import { readAll } from "../../src/config/Variable.ts"
import { clientVariables, serverVariables } from "../../src/config/Variables.ts"
import { agentNames, ensureAgents } from "./demoAgents.ts"
import * as Evidence from "./Evidence.ts"
import { serveFiles } from "./FileServer.ts"
import { flightGraph, sources } from "./flightGraph.ts"
import { type OwnPlatform, startPlatform } from "./OwnPlatform.ts"
import { outcome, reportFrom, resultsOf, writeReport } from "./Report.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** The step in whose middle the platform is killed: it compares all pairs of 3,376 airports, 11.4 million. */
const slowStep = "remote"
/** How long that step shall have run by then. */
const runningMillisAtKill = 200

const demo = Command.make(
  "demo",
  {
    kill: Flag.Boolean("kill").pipe(
      Flag.withDefault(false),
      Flag.withDescription(
        "Kill the serving process with SIGKILL in the middle, and prove that nothing was lost or doubled"
      )
    )
  },
  Effect.fn("demo")(
    function* ({ kill }) {
      const output = yield* Output
      const files = yield* dataSets
      const filesUrl = yield* serveFiles(files)
      const own = kill || !(yield* isPlatformThere) ? yield* startOwn : undefined
      const connection =
        own === undefined ? Connection.layer : Layer.succeed(Connection, Connection.of({ url: own.url, key: own.key }))
      yield* output.line(`Serving ${[...files.keys()].join(", ")} (npm package vega-datasets) at ${filesUrl}`)
      yield* Effect.provide(run({ filesUrl, kill: kill ? own : undefined }), [
        Client.layerConnection.pipe(Layer.provideMerge(connection))
      ])
    },
    Effect.scoped,
    Effect.catchTag(["PlatformProblem", "FileServerProblem"], ({ message }) =>
      Effect.fail(
        new CliFailure({
          exitCode: 1,
          message,
          problem: { type: "urn:datamcp:problem:demo", title: "The demonstration cannot run", detail: message }
        })
      )
    )
  )
).pipe(
  Command.withDescription(
    "Fetch public data sets, check, join and count them with DuckDB, and end in a report: a graph of 16 tasks"
  ),
  Command.provide(Layer.merge(Output.layer, FetchHttpClient.layer)),
  Command.withGlobalFlags([Json, Url, Key])
)

/** Where the report goes, and the data of a platform of its own. */
const demoFolder = Effect.map(CliEnvironment, ({ dataFolder }) => join(dataFolder, "demo"))

/** Files of the package vega-datasets by their names. */
const dataSets = Effect.suspend(() => {
  const folder = join(root, "node_modules", "vega-datasets", "data")
  const files = new Map(Object.values(sources).map(({ file }) => [file, join(folder, file)]))
  const missing = [...files.values()].filter((file) => !existsSync(file))
  return missing.length === 0
    ? Effect.succeed(files)
    : Effect.fail(usage(`There is no ${missing[0]}.`, "Install the development packages too: npm ci --include=dev"))
})

/** True when a platform answers, or one was named: then its silence is an error to be told. */
const isPlatformThere = Effect.gen(function* () {
  const http = yield* HttpClient.HttpClient
  const url = yield* serverUrl
  const named = Option.isSome(yield* Url) || (yield* CliEnvironment).url !== undefined
  if (named) return true
  return yield* http
    .get(`${url}/health/live`)
    .pipe(
      Effect.timeout("2 seconds"),
      Effect.match({ onFailure: () => false, onSuccess: ({ status }) => status === 200 })
    )
})

const startOwn = Effect.gen(function* () {
  const output = yield* Output
  const folder = join(yield* demoFolder, "platform")
  yield* output.line(`Starting a platform of its own; data and log in ${folder} ...`)
  const [took, own] = yield* Effect.timed(startPlatform(folder))
  yield* output.line(`It serves at ${own.url} after ${duration(Duration.toMillis(took))}.`)
  return own
})

const run = Effect.fnUntraced(function* (given: { readonly filesUrl: string; readonly kill: OwnPlatform | undefined }) {
  const client = yield* Client
  const output = yield* Output
  yield* ensureAgents({ filesUrl: given.filesUrl, threads: given.kill === undefined ? 2 : 1 })
  const graph = flightGraph({ files: given.filesUrl, agents: agentNames })
  const payload = yield* decodeCommand(SubmitGraph, graph, "The demonstration's graph")
  const accepted = yield* client.graphs.submit({ payload, headers: {} })
  yield* output.line("")
  const seen =
    given.kill === undefined ? yield* followGraph(accepted.id) : yield* followAndKill(accepted.id, given.kill)
  const tasks = yield* resultsOf(seen.graph)
  const steps = outcome(tasks, seen.agentNames, output.ink)
  if (seen.graph.tasks.some(({ status }) => status !== "completed")) {
    yield* output.line(`\n${steps}`)
    return yield* failed(`The graph did not complete: ${sum(seen.graph)}.`, seen.graph)
  }
  const last = tasks.find(({ graph_key }) => graph_key === "report")
  if (last === undefined) return yield* failed("The graph has no report.", seen.graph)
  const report = yield* reportFrom(last)
  const files = yield* writeReport(report, yield* demoFolder)
  const evidence = given.kill === undefined ? undefined : yield* Evidence.evidenceOf(seen.graph)
  const answer = { graph_id: accepted.id, tasks, report, files, ...(evidence === undefined ? {} : { evidence }) }
  yield* output.answer(answer, (_, ink) =>
    [
      `\n${printableLines(report.markdown)}`,
      ...(evidence === undefined ? [] : [`${Evidence.show(evidence, ink)}\n`]),
      steps,
      `\nReport: ${files.markdown}\n        ${files.json}`
    ].join("\n")
  )
  if (evidence !== undefined && !Evidence.isOnce(evidence)) {
    return yield* notCompleted("The event log does not show each step recorded once.")
  }
})

const failed = (message: string, graph: unknown) =>
  Effect.flatMap(Output, (output) => output.answer(graph, () => "")).pipe(Effect.andThen(notCompleted(message)))

/** Follows the graph; kills and restarts the platform once the slow step is in its middle. */
const followAndKill = Effect.fnUntraced(function* (graphId: Parameters<typeof followGraph>[0], own: OwnPlatform) {
  const output = yield* Output
  const killed = yield* Ref.make(false)
  const trouble = yield* Deferred.make<never, Effect.Error<OwnPlatform["startAgain"]>>()
  const scope = yield* Effect.scope
  yield* output.line(
    `The step ${slowStep} compares 11.4 million pairs of airports, in this run with one thread: slow enough to be killed in its middle.`
  )
  const killOnce: OnGraph = Effect.fnUntraced(function* (seen, tell) {
    if ((seen.runningMillis.get(slowStep) ?? 0) < runningMillisAtKill) return
    if (yield* Ref.getAndSet(killed, true)) return
    const running = seen.graph.tasks.filter(({ status }) => status === "running").map(({ key }) => key)
    yield* Effect.forkIn(
      killAndStart(own, running, tell).pipe(Effect.catch((error) => Deferred.fail(trouble, error))),
      scope
    )
  })
  const seen = yield* Effect.raceFirst(followGraph(graphId, killOnce), Deferred.await(trouble))
  if (!(yield* Ref.get(killed)))
    return yield* failed(`The step ${slowStep} ended before the platform could be killed.`, seen.graph)
  return seen
})

const killAndStart = Effect.fnUntraced(function* (
  own: OwnPlatform,
  running: ReadonlyArray<string>,
  tell: (words: string) => Effect.Effect<void>
) {
  const pid = yield* own.pid
  yield* own.kill
  const from = yield* Clock.currentTimeMillis
  yield* tell(`Killed the serving process ${pid} with SIGKILL while ${running.join(", ")} ran. Starting it again ...`)
  yield* own.startAgain
  const to = yield* Clock.currentTimeMillis
  yield* tell(`Process ${yield* own.pid} serves again, ${duration(to - from)} later.`)
})

const environment = Layer.effect(
  CliEnvironment,
  Effect.suspend(() => {
    const read = readAll({ ...clientVariables, dataFolder: serverVariables.dataFolder }, process.env)
    return Result.isSuccess(read)
      ? Effect.succeed({
          ...read.success,
          dataFolder: resolve(root, read.success.dataFolder),
          ownFolder: join(root, ".datamcp")
        })
      : Effect.fail(usage(read.failure.join("\n")))
  })
)

// Before the grammar has been read, and so also when it is broken.
const json = process.argv.includes("--json")

told(
  Command.run(demo, { version: manifest.version }).pipe(
    Effect.provideService(CliConfig.CliConfig, { builtIns: [GlobalFlag.Help, GlobalFlag.Version] }),
    Effect.provideService(CliOutput.Presenter, presenter(json)),
    Effect.provide(environment)
  ),
  json
).pipe(
  Effect.provide(Screen.layer.pipe(Layer.provideMerge(NodeServices.layer))),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
