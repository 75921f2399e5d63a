/**
 * `datamcp verify`: whether what is stored keeps the promises of docs/guarantees.md. Asks the database itself, and no server: it also
 * tells when no node runs.
 */
import { Effect, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { Namespace } from "../../protocol/Ids.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import type { Verification } from "../../protocol/Verification.ts"
import { notCompleted, usage } from "./CliFailure.ts"
import type { Ink } from "./Ink.ts"
import { printable } from "./Ink.ts"
import { millisFlag } from "./input.ts"
import { Launch } from "./Launch.ts"
import { Output } from "./Output.ts"

const hourMillis = 3_600_000
const sinceMillisMax = 10_000 * hourMillis
const sinceMillisDefault = 24 * hourMillis

/** How many breaches are written out for people; `--json` has more. */
const shownMax = 20

export const verify = Command.make(
  "verify",
  {
    since: millisFlag("since", sinceMillisMax).pipe(
      Flag.optional,
      Flag.withDescription("Tasks that were accepted within this time (24h)")
    ),
    all: Flag.Boolean("all").pipe(
      Flag.withDefault(false),
      Flag.withDescription("All tasks, and counts over all of them however many there are")
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.optional,
      Flag.withDescription("Of this namespace only (all of them)")
    )
  },
  Effect.fn("verify")(function* ({ all, namespace, since }) {
    if (all && Option.isSome(since)) return yield* usage("--all and --since exclude each other.")
    const output = yield* Output
    const launch = yield* Launch
    const verification = yield* launch.verify({
      namespace: Option.isNone(namespace) ? undefined : yield* namespaceOf(namespace.value),
      sinceMillis: all ? undefined : Option.getOrElse(since, () => sinceMillisDefault)
    })
    yield* output.answer(verification, show)
    if (!verification.ok) {
      const broken = verification.checks.filter(({ outcome }) => outcome === "broken").length
      return yield* notCompleted(`${broken} of ${verification.checks.length} promises are broken.`)
    }
  })
).pipe(
  Command.withDescription(
    "Look whether what is stored keeps the promises of docs/guarantees.md; exit code 1 when it does not.\n" +
      "Asks the database that DATABASE_URL names, or else that of the platform that runs here. Changes and locks nothing."
  )
)

const namespaceOf = (text: string) => {
  const decoded = inputDecoder(Namespace)(text)
  return Result.isSuccess(decoded)
    ? Effect.succeed(decoded.success)
    : Effect.fail(usage(`--namespace: ${decoded.failure.detail ?? "is no namespace"}`))
}

const show = ({ breaches, checks, namespace, since, tasks }: Verification, ink: Ink) => {
  const colours = { holds: ink.green, broken: ink.red, skipped: ink.yellow }
  const where = namespace === null ? "all namespaces" : `namespace ${printable(namespace)}`
  const lines = checks.flatMap(({ broken, id, outcome, promise }) => [
    `${colours[outcome](outcome.padEnd(7))}  ${id.padEnd(20)}  ${promise}${outcome === "skipped" ? " (`--all` looks)" : ""}`,
    ...breaches
      .filter(({ check }) => check === id)
      .slice(0, shownMax)
      .map(({ found, subject }) => `         ${printable(subject)}: ${printable(found)}`),
    ...(broken > shownMax ? [`         and ${broken - shownMax} more`] : [])
  ])
  return [
    `Looked at ${tasks} tasks of ${where}${since === null ? "" : `, accepted since ${since}`}.`,
    "",
    ...lines
  ].join("\n")
}
