/**
 * How a proof is shown: while it runs, and its verdict at the end. Pure.
 */
import { type ProofPlan, type ProofProgress, type ProofReport, proofNamedMax } from "../../protocol/Proof.ts"
import * as Ink from "./Ink.ts"
import type { Size } from "./Screen.ts"

const grouped = (value: number) => value.toLocaleString("en-US")

export const planLine = (plan: ProofPlan, ink: Ink.Ink): string =>
  `Proving with ${grouped(plan.tasks)} tasks at ${grouped(plan.rate)}/s on ${plan.nodes} node${plan.nodes === 1 ? "" : "s"}; ` +
  `${plan.kill.join(", ")} killed about every ${Ink.duration(plan.kill_every_ms)}; seed ${ink.bold(String(plan.seed))}`

export const eventLine = (event: string, progress: ProofProgress | undefined, ink: Ink.Ink): string =>
  `${ink.dim(`${String(progress?.seconds ?? 0).padStart(4)} s`)}  ${event.startsWith("killed") ? ink.yellow(event) : event}`

const killsOf = ({ kills }: Pick<ProofProgress, "kills">) =>
  Object.entries(kills)
    .filter(([, count]) => count > 0)
    .map(([what, count]) => `${count} ${what}`)
    .join(", ") || "none"

export const progressLine = (plan: ProofPlan, progress: ProofProgress): string =>
  `${String(progress.seconds).padStart(4)} s  ${progress.phase}: ${grouped(progress.accepted)} of ${grouped(plan.tasks)} accepted, ` +
  `${grouped(progress.ended)} ended; killed ${killsOf(progress)}; ${progress.nodesUp} of ${plan.nodes} nodes up`

export const frame = (plan: ProofPlan, progress: ProofProgress, size: Size, ink: Ink.Ink): ReadonlyArray<string> => {
  const width = Math.max(10, Math.min(40, size.columns - 40))
  const bar = (name: string, count: number) =>
    `${name.padEnd(9)} ${Ink.bar((count / plan.tasks) * 100, width, ink)} ${grouped(count)}`
  return [
    "",
    bar("accepted", progress.accepted),
    bar("ended", progress.ended),
    Ink.fit(
      `${progress.phase}, ${progress.seconds} s; ${progress.nodesUp} of ${plan.nodes} nodes up; killed: ${killsOf(progress)}`,
      size.columns - 1,
      ink
    ).trimEnd()
  ]
}

const words = {
  holds: "Every promise held.",
  broken: "A promise is broken.",
  void: "Nothing was shown: nothing was killed."
}

export const whyNot = ({ promises, verdict, verification }: ProofReport): string =>
  verdict === "void"
    ? "Nothing was killed while work was under way; submit more tasks, or kill more often."
    : `Broken: ${[...promises, ...verification.checks]
        .filter(({ outcome }) => outcome === "broken")
        .map(({ id }) => id)
        .join(", ")}.`

export const report = (proof: ProofReport, ink: Ink.Ink): string => {
  const { attempts, effects, ended } = proof
  const paint = proof.verdict === "holds" ? ink.green : proof.verdict === "broken" ? ink.red : ink.yellow
  return [
    "",
    `${paint(words[proof.verdict])}  Seed ${proof.seed}, ${proof.seconds} s.`,
    "",
    Ink.facts(
      [
        [
          "accepted",
          `${grouped(proof.accepted)} = ${grouped(ended.completed)} completed + ${grouped(ended.failed)} failed + ` +
            `${grouped(ended.cancelled)} cancelled + ${grouped(ended.timeout)} timeout`
        ],
        ["lost", bad(proof.lost, ink)],
        ["effects", `${grouped(effects.recorded)} recorded, ${bad(effects.recorded_twice, ink)} recorded twice`],
        ["", undefined],
        [
          "calls",
          `${grouped(effects.calls)} seen outside, ${grouped(effects.repeated)} of them again for the same task`
        ],
        [
          "attempts",
          `${grouped(attempts.started)} begun, ${grouped(attempts.cut_short)} cut short, ${grouped(attempts.retried)} retried; ` +
            `${grouped(attempts.fenced)} late ends refused`
        ],
        ["kills", killsOf(proof)],
        [
          "client",
          `${grouped(proof.submissions_retried)} submissions tried again, ${grouped(proof.resubmitted)} sent twice on purpose`
        ]
      ],
      ink
    ),
    "",
    recoveryTable(proof, ink),
    "",
    ...promiseLines(proof, ink),
    ...(proof.folder === null ? [] : ["", `Logs and data are left in ${proof.folder}`])
  ].join("\n")
}

const bad = (count: number, ink: Ink.Ink) => (count === 0 ? ink.green("0") : ink.red(grouped(count)))

const recoveryTable = ({ recovery }: ProofReport, ink: Ink.Ink) => {
  const cells = (figures: ProofReport["recovery"][number]["service"]) =>
    figures === null
      ? ["-", "-", "-"]
      : [figures.p50_ms, figures.p99_ms, figures.max_ms].map((millis) => Ink.duration(millis))
  const rows = recovery.flatMap(({ ended, fault, kills, resumed, service }) => [
    [`${kills} x ${fault}`, "next accepted task done", ...cells(service)],
    ...(resumed === null ? [] : [["", `${grouped(resumed.count)} cut attempts run again`, ...cells(resumed)]]),
    ...(ended === null ? [] : [["", "and have ended", ...cells(ended)]])
  ])
  return Ink.table(["KILLED", "UNTIL", "P50", "P99", "MAX"], rows, ink)
}

const promiseLines = ({ promises, verification }: ProofReport, ink: Ink.Ink): ReadonlyArray<string> => {
  const broken = verification.checks.filter(({ outcome }) => outcome === "broken")
  return [
    ...promises.flatMap(({ broken: count, guarantee, id, outcome, promise, tasks }) => [
      `${outcome === "broken" ? ink.red("broken") : ink.green("holds ")}  ${guarantee.padEnd(4)}${id.padEnd(18)}  ${promise}`,
      ...(count === 0 ? [] : [`        ${grouped(count)} times: ${tasks.map(Ink.printable).join(", ")}`])
    ]),
    `${verification.ok ? ink.green("holds ") : ink.red("broken")}  ${"G12".padEnd(4)}${"verify".padEnd(18)}  ` +
      `${verification.checks.length} checks of \`datamcp verify\` on ${grouped(verification.tasks)} tasks.`,
    ...broken.flatMap(({ broken: count, id, promise }) => [
      `        ${id}: ${promise} ${grouped(count)} times:`,
      ...verification.breaches
        .filter(({ check }) => check === id)
        .slice(0, proofNamedMax)
        .map(({ found, subject }) => `          ${Ink.printable(subject)}: ${Ink.printable(found)}`)
    ])
  ]
}
