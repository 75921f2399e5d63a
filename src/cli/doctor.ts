/**
 * `datamcp doctor`: looks at this machine and at the server, and says for each what to do.
 */
import { Effect, Layer } from "effect"
import { Command } from "effect/cli"
import { FetchHttpClient } from "effect/http"
import * as Checks from "./Checks.ts"
import { notCompleted } from "./CliFailure.ts"
import { serverUrl } from "./Connection.ts"
import * as Ink from "./Ink.ts"
import { Output } from "./Output.ts"

export const doctor = Command.make(
  "doctor",
  {},
  Effect.fn("doctor")(function* () {
    const output = yield* Output
    const url = yield* serverUrl
    const [here, there] = yield* Effect.all(
      [
        Effect.all([Checks.node, Checks.folder, Checks.key, Checks.disk, Checks.nats], { concurrency: 5 }),
        Checks.server(url)
      ],
      { concurrency: 2 }
    )
    const checks = [...here, ...there]
    const failed = checks.filter(({ state }) => state === "fail").length
    yield* output.answer({ ok: failed === 0, checks }, show)
    if (failed > 0) return yield* notCompleted(`${failed} of ${checks.length} checks failed.`)
  })
).pipe(
  Command.withDescription("Check this machine and the server; exit code 1 when a check fails"),
  Command.provide(Layer.merge(FetchHttpClient.layer, Layer.succeed(FetchHttpClient.RequestInit, { redirect: "error" })))
)

const show = ({ checks }: { readonly checks: ReadonlyArray<Checks.Check> }, ink: Ink.Ink) => {
  const colours = { ok: ink.green, warn: ink.yellow, fail: ink.red }
  return checks
    .map(({ message, name, remedy, state }) => {
      const line = `${colours[state](state.padEnd(4))}  ${name.padEnd(11)}  ${Ink.printable(message)}`
      return remedy === undefined ? line : `${line}\n${" ".repeat(19)}${ink.dim(Ink.printable(remedy))}`
    })
    .join("\n")
}
