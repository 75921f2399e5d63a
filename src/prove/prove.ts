/**
 * A proof from begin to end: servers and nodes, work that is submitted while they are killed, time to heal, and a verdict.
 *
 *   starting --> working (submits, kills) --> healing (nothing is killed) --> checking
 *
 * Everything that was started is gone when it returns, however it returns. Its folder goes too, unless a promise is broken: then logs and data
 * stay to be looked at.
 */
import { randomBytes } from "node:crypto"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Clock, Effect, Fiber, Layer, References, Schedule } from "effect"
import { Namespace } from "../../protocol/Ids.ts"
import type { ProofPlan, ProofProgress, ProofReport, ProofWatch } from "../../protocol/Proof.ts"
import type { Verification } from "../../protocol/Verification.ts"
import { ApiKeyStore } from "../ledger/ApiKeyStore.ts"
import * as Migrations from "../ledger/Migrations.ts"
import * as Postgres from "../ledger/Postgres.ts"
import * as Verifier from "../ledger/Verifier.ts"
import * as EffectSink from "./EffectSink.ts"
import * as Evidence from "./Evidence.ts"
import * as Faults from "./Faults.ts"
import * as FencedEnds from "./FencedEnds.ts"
import { killSchedule } from "./KillSchedule.ts"
import * as ProofNamespace from "./ProofNamespace.ts"
import * as ProofNodes from "./ProofNodes.ts"
import { ProofProblem } from "./ProofProblem.ts"
import * as ProofServers from "./ProofServers.ts"
import { recoveryTimes } from "./RecoveryTimes.ts"
import * as Submissions from "./Submissions.ts"
import { judge } from "./Verdict.ts"
import { agentName } from "./Work.ts"

/** Time without a single end after which the rest counts as not ended. */
const standstillMillis = 60_000
/** Longest time in which submissions that are under way may still be answered once no more are made. */
const answersMillis = 120_000
/** Statements of the checks that are repeated while Postgres comes back. */
const again = { times: 40, schedule: Schedule.spaced("250 millis") }
const instancesPerNode = 4
const tasksPerInstance = 50
const progressEvery = "250 millis"

/** Fails with `ProofProblem` when it cannot be carried through; a broken promise is a report. */
export const prove = (plan: ProofPlan, watch: ProofWatch) =>
  Effect.gen(function* () {
    const folder = yield* workFolder
    const servers =
      plan.servers === "own" ? yield* ProofServers.own(folder.path, plan.nodes) : yield* ProofServers.named
    const database = Postgres.layer({
      url: servers.databaseUrl,
      connectionsMax: 3,
      applicationName: "datamcp prove"
    })
    return yield* Effect.raceFirst(
      onServers(plan, watch, folder, servers).pipe(
        // Before the connection to the database goes.
        Effect.scoped,
        Effect.provide(ApiKeyStore.layer.pipe(Layer.provideMerge(database))),
        Effect.catchTag("SqlError", (error) => cannotAsk(Postgres.messageOf(error))),
        Effect.catchTag("StoreUnavailable", ({ message }) => cannotAsk(message)),
        Effect.catchTag("MigrationFailed", ({ message }) => Effect.fail(new ProofProblem({ message })))
      ),
      servers.gaveUp
    )
  }).pipe(
    Effect.scoped,
    // What dies and comes back is what it is about; it is told as an event.
    Effect.provideService(References.MinimumLogLevel, "Fatal")
  )

const cannotAsk = (what: string) => Effect.fail(new ProofProblem({ message: `Postgres cannot be asked: ${what}` }))

/** A folder that every user may pass through, because Postgres does not run as root. */
const workFolder = Effect.acquireRelease(
  Effect.sync(() => {
    const path = mkdtempSync(join(tmpdir(), "datamcp-prove-"))
    chmodSync(path, 0o755)
    return { path, kept: false }
  }),
  ({ kept, path }) => Effect.sync(() => (kept ? undefined : rmSync(path, { recursive: true, force: true })))
)

const onServers = Effect.fnUntraced(function* (
  plan: ProofPlan,
  watch: ProofWatch,
  folder: { readonly path: string; kept: boolean },
  servers: ProofServers.ProofServers
) {
  yield* Migrations.migrate()
  const run = randomBytes(4).toString("hex")
  const namespace = Namespace.make(`prove-${run}`)
  const key = yield* ProofNamespace.open(namespace)
  const clockAhead = yield* Evidence.clockAhead
  const sink = yield* EffectSink.open(plan.sink_host, plan.tasks).pipe(
    Effect.mapError(
      ({ message }) =>
        new ProofProblem({ message: `The counter of effects cannot listen at ${plan.sink_host}: ${message}` })
    )
  )
  const nodes = yield* ProofNodes.start({
    prefix: `prove-${run}`,
    count: plan.nodes,
    folder: folder.path,
    environment: servers.environment
  })
  yield* makeAgent(plan, nodes, key, sink.port)
  const submissions = yield* Submissions.make(plan, { nodes, key, sink })
  const fenced = FencedEnds.make(nodes, key)
  const faults = Faults.make({
    schedule: killSchedule(plan, plan.seconds * 1_000),
    nodes,
    servers,
    clockAhead,
    told: watch.event
  })

  const began = yield* Clock.currentTimeMillis
  let phase: ProofProgress["phase"] = "working"
  let ended = 0
  const look = Effect.gen(function* () {
    ended = yield* Effect.orElseSucceed(Evidence.endedSoFar(namespace), () => ended)
    watch.progress({
      phase,
      accepted: submissions.counts().accepted,
      ended,
      calls: sink.calls(),
      nodesUp: nodes.up().length,
      kills: faults.counts(),
      seconds: Math.round(((yield* Clock.currentTimeMillis) - began) / 1_000)
    })
  })
  yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced(progressEvery)))
  yield* Effect.forkScoped(fenced.watch)

  const work = Effect.gen(function* () {
    const killing = yield* Effect.forkScoped(faults.run)
    const answered = yield* Effect.timeoutOption(submissions.run, plan.seconds * 1_000 + answersMillis)
    yield* Fiber.interrupt(killing)
    phase = "healing"
    watch.event(
      answered._tag === "Some"
        ? "all submissions are answered; nothing is killed any more"
        : `not all submissions were answered within ${answersMillis / 1_000} s; nothing is killed any more`
    )
    yield* untilEnded(
      () => ended,
      () => submissions.counts().accepted
    )
    yield* fenced.look
  })
  yield* Effect.raceFirst(work, nodes.gaveUp)

  phase = "checking"
  const seconds = ((yield* Clock.currentTimeMillis) - began) / 1_000
  const tasks = yield* Effect.retry(Evidence.read(namespace), again)
  const counts = submissions.counts()
  const verdict = judge({
    submitted: counts.submitted,
    idOf: submissions.idOf,
    wasCancelled: submissions.wasCancelled,
    doubled: submissions.doubled,
    refusals: submissions.refusals,
    tasks,
    callsOf: sink.callsOf,
    strangers: sink.strangers()
  })
  const verification = yield* Effect.retry(Verifier.verify({ namespace, sinceMillis: undefined }), again)
  const kills = faults.counts()
  const isBroken = !verification.ok || verdict.promises.some(({ outcome }) => outcome === "broken")
  folder.kept = isBroken
  return {
    verdict: isBroken ? "broken" : kills.nodes + kills.nats + kills.postgres === 0 ? "void" : "holds",
    seed: plan.seed,
    namespace,
    seconds: Math.round(seconds * 10) / 10,
    submitted: counts.submitted,
    accepted: verdict.figures.accepted,
    resubmitted: counts.resubmitted,
    submissions_retried: counts.retried,
    ended: verdict.figures.ended,
    lost: verdict.figures.lost,
    effects: verdict.figures.effects,
    attempts: { ...verdict.figures.attempts, fenced: fenced.total() },
    kills,
    recovery: recoveryTimes(faults.done, tasks),
    promises: verdict.promises,
    verification: verification satisfies Verification,
    folder: isBroken ? folder.path : null
  } satisfies ProofReport as ProofReport
})

/** Until as many ends are recorded as tasks were accepted, or nothing has ended for a while. */
const untilEnded = Effect.fnUntraced(function* (ended: () => number, accepted: () => number) {
  let [seen, since] = [ended(), yield* Clock.currentTimeMillis]
  while (ended() < accepted()) {
    yield* Effect.sleep("100 millis")
    const now = yield* Clock.currentTimeMillis
    if (ended() !== seen) [seen, since] = [ended(), now]
    if (now - since > standstillMillis) return
  }
})

/** The agent whose tasks call the counter; tried until a node answers. */
const makeAgent = (plan: ProofPlan, nodes: ProofNodes.ProofNodes, key: string, port: number) =>
  Effect.gen(function* () {
    const [node] = nodes.up()
    if (node === undefined) return yield* new ProofProblem({ message: "No node serves." })
    const { status, text } = yield* Effect.tryPromise({
      try: async (signal) => {
        const response = await fetch(`${node.url}/api/v1/agents`, {
          method: "POST",
          signal,
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: JSON.stringify({
            name: agentName,
            type: "http",
            description: "Calls the counter of effects of `datamcp prove`.",
            desired_instances: plan.nodes * instancesPerNode,
            configuration: {
              max_concurrent_tasks: tasksPerInstance,
              settings: {
                allow_private: [`${plan.sink_host.includes(":") ? `[${plan.sink_host}]` : plan.sink_host}:${port}`]
              }
            }
          })
        })
        return { status: response.status, text: await response.text() }
      },
      catch: (cause) => new ProofProblem({ message: `The agent of the proof cannot be made: ${String(cause)}` })
    })
    if (status >= 300) return yield* new ProofProblem({ message: `The agent of the proof is refused: ${text}` })
  })
