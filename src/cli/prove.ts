/**
 * `datamcp prove`: kills nodes and servers while work is submitted, and shows what became of each task.
 *
 * Starts what it kills, in a folder of its own; the platform that runs here is neither used nor touched.
 */
import { randomInt } from "node:crypto"
import { Effect, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Proof from "../../protocol/Proof.ts"
import { fieldLine, notCompleted, usage } from "./CliFailure.ts"
import { Url } from "./flags.ts"
import { millisFlag } from "./input.ts"
import { Launch } from "./Launch.ts"
import * as LiveArea from "./LiveArea.ts"
import { Output } from "./Output.ts"
import * as ProofView from "./ProofView.ts"

/** How often what moves is drawn on a terminal, and told elsewhere. */
const drawEvery = "250 millis"
const tellEvery = "5 seconds"

const number = (name: string, standard: number, description: string) =>
  Flag.Int(name).pipe(Flag.withDefault(standard), Flag.withDescription(`${description} (${standard})`))

export const prove = Command.make(
  "prove",
  {
    tasks: number("tasks", 20_000, `Tasks to submit, at most ${Proof.proofTasksMax}`),
    nodes: number("nodes", 3, `Nodes to start, at most ${Proof.proofNodesMax}`),
    killEvery: millisFlag("kill-every", Proof.proofKillMillisMax).pipe(
      Flag.optional,
      Flag.withDescription("Mean time between two kills (2s)")
    ),
    kill: Flag.String("kill").pipe(
      Flag.withDefault("nodes"),
      Flag.withMetavar("<what>"),
      Flag.withDescription("What is killed with SIGKILL: nodes, nats, postgres, several with commas (nodes)")
    ),
    rate: number("rate", 300, `Tasks per second, at most ${Proof.proofRateMax}`),
    seed: Flag.Int("seed").pipe(
      Flag.optional,
      Flag.withDescription("Decides moments and victims of kills, and the work; by chance when not given")
    ),
    seconds: number(
      "seconds",
      3_600,
      `Stop submitting after so many seconds, whatever is left, at most ${Proof.proofSecondsMax}`
    ),
    servers: Flag.Literals("servers", ["own", "named"]).pipe(
      Flag.withDefault("own" as const),
      Flag.withDescription(
        "own: servers that it starts for itself (own). named: those of DATABASE_URL and NATS_URL, in a namespace of its own; they are never killed"
      )
    ),
    sinkHost: Flag.String("sink-host").pipe(
      Flag.withDefault("127.0.0.1"),
      Flag.withDescription("Address of this machine at which other nodes of the named servers reach it (127.0.0.1)")
    )
  },
  Effect.fn("prove")(function* (given) {
    const output = yield* Output
    const launch = yield* Launch
    if (Option.isSome(yield* Url)) {
      return yield* usage(
        "--url: a proof submits to nodes that it starts itself.",
        "To prove a deployment of yours, set DATABASE_URL and NATS_URL and give --servers named."
      )
    }
    const plan = yield* planOf({
      tasks: given.tasks,
      nodes: given.nodes,
      kill_every_ms: Option.getOrElse(given.killEvery, () => 2_000),
      kill: [...new Set(given.kill.split(",").map((what) => what.trim()))],
      rate: given.rate,
      seed: Option.getOrElse(given.seed, () => randomInt(Proof.proofSeedMax)),
      seconds: given.seconds,
      servers: given.servers,
      sink_host: given.sinkHost
    })
    yield* output.line(ProofView.planLine(plan, output.ink))
    const report = yield* Effect.scoped(watched(plan, launch.prove))
    yield* output.answer(report, ProofView.report)
    if (report.verdict !== "holds") return yield* notCompleted(ProofView.whyNot(report))
  })
).pipe(
  Command.withDescription(
    "Kill nodes, nats-server and Postgres under work, and show that nothing was lost or recorded twice; exit code 1 when it was.\n" +
      "Starts everything itself, in a temporary folder: a platform that runs here is left alone."
  ),
  Command.withExamples([
    { command: "datamcp prove", description: "20,000 tasks on three nodes, one of which is killed about every 2 s" },
    {
      command: "datamcp prove --tasks 5000 --kill nodes,nats,postgres --seed 7",
      description: "Its servers are killed too; the same seed kills at the same moments"
    }
  ])
)

const flagOf: { readonly [field: string]: string } = {
  kill_every_ms: "--kill-every",
  sink_host: "--sink-host"
}

/** The plan within its bounds; what is wrong is told by flag, all of it at once. */
const planOf = Effect.fnUntraced(function* (given: { readonly [field in keyof Proof.ProofPlan]: unknown }) {
  const decoded = inputDecoder(Proof.ProofPlan)(given)
  if (Result.isFailure(decoded)) {
    const lines = (decoded.failure.errors ?? []).map((error) => {
      const [field = ""] = error.field.split(".")
      return `${flagOf[field] ?? `--${field}`}: ${fieldLine({ ...error, field: "" })}`
    })
    return yield* usage([...new Set(lines)].join("\n"))
  }
  const plan = decoded.success
  const servers = plan.kill.filter((what) => what !== "nodes")
  if (plan.servers === "named" && servers.length > 0) {
    return yield* usage(
      `--kill: ${servers.join(" and ")} cannot be killed: with --servers named they are somebody else's.`,
      "Give --kill nodes, or leave --servers out: then it starts servers of its own."
    )
  }
  return plan
})

/** Runs it in front of whoever watches: a moving picture on a terminal, lines elsewhere. */
const watched = Effect.fnUntraced(function* <E, R>(
  plan: Proof.ProofPlan,
  run: (plan: Proof.ProofPlan, watch: Proof.ProofWatch) => Effect.Effect<Proof.ProofReport, E, R>
) {
  const { animated, ink, line } = yield* Output
  const area = animated ? yield* LiveArea.make : undefined
  let latest: Proof.ProofProgress | undefined
  const events: Array<string> = []
  const show = Effect.suspend(() => {
    const lines = events.splice(0).map((event) => ProofView.eventLine(event, latest, ink))
    const tell =
      lines.length === 0 ? Effect.void : area === undefined ? line(lines.join("\n")) : area.print(lines.join("\n"))
    const seen = latest
    return area === undefined || seen === undefined
      ? tell
      : Effect.andThen(
          tell,
          area.draw((size) => ProofView.frame(plan, seen, size, ink))
        )
  })
  const tellProgress = Effect.suspend(() =>
    area === undefined && latest !== undefined ? line(ProofView.progressLine(plan, latest)) : Effect.void
  )
  const showing = Effect.forever(Effect.andThen(show, Effect.sleep(drawEvery)))
  const telling = Effect.forever(Effect.andThen(Effect.sleep(tellEvery), tellProgress))
  yield* Effect.forkScoped(showing)
  yield* Effect.forkScoped(telling)
  const report = yield* run(plan, {
    progress: (progress) => {
      latest = progress
    },
    event: (event) => events.push(event)
  })
  yield* show
  return report
})
