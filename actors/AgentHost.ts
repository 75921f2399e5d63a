/**
 * The supervisor of this node's instances: starts those that have work and belong here, restarts what crashes, and gives
 * back what moves away.
 *
 *   node --> supervisor of an agent --> instance (agent, index) --> attempt
 *
 * What a crash leads to is decided by `AgentSupervisor.ts`; what is ordered from outside stands in the agent's record
 * (`InstanceOrders.ts`).
 *
 * Instances are virtual: one exists while it has work and hibernates when idle; a wake, a change of placement or the
 * reconciler brings it back. Every start takes the instance over first (a new epoch), so that whatever ran before it,
 * anywhere, is queued again and can record nothing more. An agent whose instance keeps crashing goes to `error`.
 */
import { Cause, Clock, Context, Duration, Effect, Exit, Layer, Metric, Schedule, Semaphore } from "effect"
import type { AgentId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import * as Metrics from "../protocol/Metrics.ts"
import type { Crash, HostedInstance } from "../protocol/Supervision.ts"
import { AgentDirectory } from "./AgentDirectory.ts"
import { type Decision, SupervisorLimits } from "./AgentSupervisor.ts"
import type { BehaviourServices, Behaviours } from "./Behaviour.ts"
import * as CrashBook from "./CrashBook.ts"
import * as CrashReport from "./CrashReport.ts"
import { Dispatcher } from "./Dispatcher.ts"
import * as Instance from "./Instance.ts"
import { isQuarantined, restartsOf } from "./InstanceOrders.ts"
import { type AgentRecord, AgentStore, type Reported } from "./ports/AgentStore.ts"
import { Bus } from "./ports/Bus.ts"
import { Ledger } from "./ports/Ledger.ts"
import { Placement } from "./ports/Placement.ts"
import type { Scheduler } from "./Scheduler.ts"

export const HostLimits = Context.Reference<{
  /** How long running tasks may go on when their instance moves or the node stops, before they are given back. */
  readonly handOverGrace: Duration.Duration
  /** Time between heartbeats of this node's leases. */
  readonly heartbeatEvery: Duration.Duration
  /** Agents looked at per sweep. */
  readonly sweepAgents: number
  /** Time between sweeps while the bus is down and brings nobody's wake. */
  readonly sweepEvery: Duration.Duration
  /** The same while the bus seems up: it may be somebody else who is cut off from it. */
  readonly sweepWithin: Duration.Duration
  /** Instances that may be starting at a time. */
  readonly startsAtATime: number
}>("datamcp/actors/HostLimits", {
  defaultValue: () => ({
    handOverGrace: Duration.millis(500),
    heartbeatEvery: Duration.seconds(3),
    sweepAgents: 10_000,
    sweepEvery: Duration.seconds(2),
    sweepWithin: Duration.seconds(10),
    startsAtATime: 16
  })
})

interface Hosted {
  readonly agentId: AgentId
  readonly index: number
  /** Undefined while it is taking over or opening. */
  handle: Instance.InstanceHandle | undefined
  /** Ends its being asked first for orders of this node. */
  away: () => void
  /** Set when the present run was told to stop. */
  leaving: boolean
  /** Set when there was work while nobody could be told. */
  woken: boolean
  /** What it does, since when, and when a pause after a crash ends; milliseconds since 1970. */
  state: HostedInstance["state"]
  sinceMillis: number
  nextMillis: number | undefined
  /** The number of ordered restarts under which it started. */
  restarts: number
  /** Ends a pause after a crash. */
  hurry: () => void
}

export class AgentHost extends Context.Service<
  AgentHost,
  {
    /** Instances that are active on this node. */
    readonly active: () => number
    /** Tasks that run on this node, and orders that wait for a slot. */
    readonly load: () => { readonly running: number; readonly waiting: number }
  }
>()("datamcp/actors/AgentHost") {
  /** Of a node that hosts nothing. */
  static readonly none = Layer.succeed(
    AgentHost,
    AgentHost.of({ active: () => 0, load: () => ({ running: 0, waiting: 0 }) })
  )

  static readonly layer = Layer.effect(
    AgentHost,
    Effect.gen(function* () {
      const bus = yield* Bus
      const dispatcher = yield* Dispatcher
      const ledger = yield* Ledger
      const placement = yield* Placement
      const directory = yield* AgentDirectory
      const store = yield* AgentStore
      const limits = yield* HostLimits
      const clock = yield* Clock.Clock
      const context = yield* Effect.context<Behaviours | BehaviourServices | Bus | Ledger | Scheduler>()
      const fork = Effect.runForkWith(context)
      const hosted = new Map<string, Hosted>()
      let closing = false
      /** On the monotonic clock. */
      const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
      const book = CrashBook.make({ store, policy: yield* SupervisorLimits, now })

      const starting = yield* Semaphore.make(limits.startsAtATime)
      const keyOf = (agentId: AgentId, index: number) => `${agentId}/${index}`

      // --- one instance, from its first start to its end

      const runOnce = (agent: AgentRecord, entry: Hosted) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { epoch } = yield* starting.withPermit(
              ledger.takeOver({ agentId: entry.agentId, index: entry.index })
            )
            if (entry.leaving) return { _tag: "Stopped" } as const
            yield* Effect.addFinalizer(() => Effect.sync(() => entry.away()))
            const end = yield* Instance.run({
              agent,
              index: entry.index,
              epoch,
              onTaskCrash: (crash) => book.taskCrashed(reported(entry), crash),
              onStarted: (handle) => {
                entry.handle = handle
                enter(entry, "running")
                entry.away = dispatcher.askFirst(entry.agentId, handle.take)
                // The definition may have changed while it opened.
                const latest = directory.byId(entry.agentId)
                if (entry.leaving || latest === undefined) handle.stop(Duration.zero)
                else adjust(entry, latest)
              }
            })
            if (end._tag === "Idle" && entry.handle !== undefined)
              yield* Effect.ignore(ledger.hibernate(entry.handle.slot))
            return end
          })
        ).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              entry.handle = undefined
            })
          )
        )

      /**
       * Starts it again after crashes, and after a stop whose reason has gone by then, until it ends in an orderly way or its
       * crashes pass the restart intensity.
       */
      const supervise = Effect.fnUntraced(function* (entry: Hosted) {
        while (true) {
          const agent = directory.byId(entry.agentId)
          if (agent === undefined || !mayRun(agent, entry.index)) return
          entry.leaving = entry.woken = false
          entry.restarts = restartsOf(agent, entry.index)
          enter(entry, "starting")
          const exit = yield* Effect.exit(runOnce(agent, entry))
          if (Exit.isSuccess(exit)) {
            if (exit.value._tag === "Escalated") return yield* quarantine(agent, entry, exit.value.reason)
            if (exit.value._tag === "Fenced") return
            if (exit.value._tag === "Stopped") continue
            // Work may have come between the decision to hibernate and now.
            const late = yield* Effect.orElseSucceed(ledger.backlog(entry.agentId, { limit: 1 }), () => [])
            if (late.length === 0) return
            continue
          }
          if (closing) return
          const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
          if (failure?._tag === "LedgerUnavailable") {
            yield* Effect.sleep("1 second")
            continue
          }
          const crash = CrashReport.ofInstance(exit.cause, clock.currentTimeMillisUnsafe())
          const decision = book.instanceCrashed(
            reported(entry),
            crash,
            agent.configuration.supervision ?? "one_for_one"
          )
          yield* Metric.update(Metrics.instanceRestarts, 1)
          yield* Effect.logWarning("an instance crashed", `${crash.class}: ${crash.message}`).pipe(
            Effect.annotateLogs({ agent: entry.agentId, instance: entry.index })
          )
          if (decision._tag === "Escalate" || failure?._tag === "SettingsInvalid") {
            return yield* quarantine(agent, entry, reasonOf(decision, crash))
          }
          yield* Effect.forkChild(book.note(entry))
          if (decision.others) yield* restartOthers(entry, crash)
          yield* pause(entry, decision.delayMillis)
        }
      })

      /** Until it is over, or whoever ended it has something better to do. */
      const pause = (entry: Hosted, millis: number) => {
        enter(entry, "backing_off", millis)
        const hurried = Effect.callback<void>((resume) => {
          entry.hurry = () => resume(Effect.void)
          if (entry.leaving) entry.hurry()
        })
        return Effect.raceFirst(Effect.sleep(Duration.millis(millis)), hurried)
      }

      const enter = (entry: Hosted, state: Hosted["state"], forMillis?: number) => {
        entry.state = state
        entry.sinceMillis = clock.currentTimeMillisUnsafe()
        entry.nextMillis = forMillis === undefined ? undefined : entry.sinceMillis + forMillis
      }

      const reported = (entry: Hosted): Reported => ({
        agentId: entry.agentId,
        index: entry.index,
        node: placement.node
      })

      /** Every node hears of it as of any change of the agent, this one too. */
      const restartOthers = (entry: Hosted, crash: Crash) =>
        store.restartOthers(reported(entry), crash).pipe(
          Effect.andThen(bus.notify({ _tag: "AgentChanged", agent: entry.agentId })),
          Effect.catch((error) => Effect.logWarning("the other instances could not be told to restart", error.message)),
          Effect.annotateLogs({ agent: entry.agentId })
        )

      /** Escalation: the agent stays down on all nodes until it is resumed. */
      const quarantine = ({ id, version }: AgentRecord, entry: Hosted, reason: string) =>
        book.note(entry).pipe(
          Effect.andThen(store.quarantine(reported(entry), reason.slice(0, 1_000))),
          Effect.andThen(bus.notify({ _tag: "AgentChanged", agent: id })),
          Effect.andThen(Effect.logError("an agent was quarantined", reason)),
          Effect.andThen(Metric.update(Metrics.agentsQuarantined, 1)),
          Effect.retry(Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 60 }))),
          // Until this node has learned of it, a wake would start the instance again.
          Effect.andThen(
            Effect.suspend(() => (directory.byId(id)?.version === version ? Effect.fail("unknown") : Effect.void)).pipe(
              Effect.retry(Schedule.spaced("20 millis")),
              Effect.timeoutOption("5 seconds")
            )
          ),
          Effect.catch((error) => Effect.logError("an agent could not be quarantined", error)),
          Effect.annotateLogs({ agent: id }),
          Effect.ensuring(Effect.sync(() => book.forget(id)))
        )

      const mayRun = (agent: AgentRecord, index: number) =>
        !closing &&
        agent.status === "active" &&
        index < agent.desiredInstances &&
        !isQuarantined(agent, index) &&
        placement.owns(agent.id, index)

      // --- which ones

      const start = (agent: AgentRecord, index: number) => {
        const key = keyOf(agent.id, index)
        const entry: Hosted = {
          agentId: agent.id,
          index,
          handle: undefined,
          away: () => {},
          leaving: false,
          woken: false,
          state: "starting",
          sinceMillis: clock.currentTimeMillisUnsafe(),
          nextMillis: undefined,
          restarts: restartsOf(agent, index),
          hurry: () => {}
        }
        hosted.set(key, entry)
        fork(
          supervise(entry).pipe(
            Effect.ensuring(
              Effect.sync(() => {
                hosted.delete(key)
                if (entry.woken) wake(entry.agentId, [])
              })
            )
          )
        )
      }

      const leave = (entry: Hosted, grace: Duration.Duration) => {
        entry.leaving = true
        entry.handle?.stop(grace)
        entry.hurry()
      }

      /** Makes a run fit what its agent has become. A paused agent's tasks run to their end; others hand over. */
      const adjust = (entry: Hosted, agent: AgentRecord) => {
        const { handle } = entry
        if (mayRun(agent, entry.index) && restartsOf(agent, entry.index) === entry.restarts) {
          handle?.resume()
          handle?.reload(agent)
        } else if (agent.status === "maintenance" && handle !== undefined) handle.pause()
        else leave(entry, limits.handOverGrace)
      }

      const wake = (agentId: AgentId, lanes: Parameters<Instance.InstanceHandle["wake"]>[0]) => {
        const agent = directory.byId(agentId)
        if (agent === undefined || closing) return
        for (let index = 0; index < agent.desiredInstances; index++) {
          const entry = hosted.get(keyOf(agentId, index))
          if (entry === undefined) {
            if (mayRun(agent, index)) start(agent, index)
          } else if (entry.handle === undefined || entry.leaving) entry.woken = true
          else entry.handle.wake(lanes)
        }
      }

      const sweep = Effect.gen(function* () {
        for (const agentId of yield* ledger.agentsWithWork(limits.sweepAgents)) wake(agentId, [])
      }).pipe(Effect.catch((error) => Effect.logDebug("agents with work could not be listed", error.message)))

      yield* bus.onNotice((notice) => {
        if (notice._tag === "Wake") for (const { id, lanes } of notice.agents) wake(id, lanes)
        if (notice._tag === "Interrupt") {
          for (const entry of hosted.values()) if (entry.agentId === notice.agent) entry.handle?.interrupt(notice.tasks)
        }
        if (notice._tag === "Signalled") {
          for (const entry of hosted.values()) if (entry.agentId === notice.agent) entry.handle?.signalled(notice.tasks)
        }
      })

      yield* directory.onChange((agent) => {
        for (const entry of [...hosted.values()]) if (entry.agentId === agent.id) adjust(entry, agent)
        if (agent.status === "active") wake(agent.id, [])
      })

      yield* placement.onChange(() => {
        for (const entry of [...hosted.values()]) {
          if (!placement.owns(entry.agentId, entry.index)) leave(entry, limits.handOverGrace)
        }
        fork(sweep)
      })

      yield* bus.onSurvey(placement.node, ({ agents }) => {
        const asked = new Set(agents)
        return [...hosted.values()].filter(({ agentId }) => asked.has(agentId)).map(shown)
      })

      const shown = (entry: Hosted): HostedInstance => ({
        agent_id: entry.agentId,
        index: entry.index,
        state: entry.state,
        epoch: entry.handle?.slot.epoch ?? null,
        since: moment(entry.sinceMillis),
        next_start_at: entry.nextMillis === undefined ? null : moment(entry.nextMillis),
        restarts_recent: book.restartsOf(entry),
        task_crashes_recent: entry.handle?.taskCrashes() ?? 0,
        last_crash: book.lastCrash(entry) ?? null,
        waiting: entry.handle?.waiting() ?? 0,
        running: entry.handle?.running() ?? 0,
        tasks: (entry.handle?.tasks(Limits.supervisionTasksMax) ?? []).map(({ sinceMillis, ...task }) => ({
          ...task,
          since: moment(sinceMillis)
        }))
      })

      yield* Effect.forkScoped(Effect.repeat(book.noteAll, Schedule.spaced(limits.heartbeatEvery)))

      yield* Effect.suspend(() => {
        const slots = [...hosted.values()].flatMap(({ handle }) => (handle === undefined ? [] : [handle.slot]))
        return slots.length === 0 ? Effect.void : Effect.ignore(ledger.heartbeat(slots))
      }).pipe(Effect.schedule(Schedule.spaced(limits.heartbeatEvery)), Effect.forkScoped)

      // Instances that hibernate are woken over the bus: while it is down, this node looks for its work itself.
      let lastSweep = now()
      yield* Effect.suspend(() => {
        if (bus.connected() && now() - lastSweep < Duration.toMillis(limits.sweepWithin)) return Effect.void
        lastSweep = now()
        return sweep
      }).pipe(Effect.schedule(Schedule.spaced(limits.sweepEvery)), Effect.forkScoped)

      // Closing hands everything over: running tasks may end within the grace, the others are given back.
      yield* Effect.addFinalizer(() =>
        Effect.gen(function* () {
          closing = true
          for (const entry of hosted.values()) leave(entry, limits.handOverGrace)
          yield* Effect.suspend(() => (hosted.size === 0 ? Effect.void : Effect.fail("open"))).pipe(
            Effect.retry(Schedule.spaced("20 millis")),
            Effect.timeoutOption(Duration.sum(limits.handOverGrace, Duration.seconds(3))),
            Effect.ignore
          )
          yield* Effect.timeoutOption(book.noteAll, "1 second")
        })
      )
      yield* sweep

      const load = () => {
        let running = 0
        let waiting = 0
        for (const { handle } of hosted.values()) {
          running += handle?.running() ?? 0
          waiting += handle?.waiting() ?? 0
        }
        return { running, waiting }
      }
      yield* Metrics.gaugeReads(Metrics.instancesActive, () => hosted.size)
      yield* Metrics.gaugeReads(Metrics.tasksRunning, () => load().running)
      return AgentHost.of({ active: () => hosted.size, load })
    })
  )
}

const moment = (millis: number) => new Date(millis).toISOString()

const reasonOf = (decision: Decision, crash: Crash) => {
  const last = `${crash.class}: ${crash.message}`
  if (decision._tag === "Restart") return `its instance does not start: ${last}`
  const who = decision.level === "instance" ? "its instance" : "its instances"
  return `${who} crashed ${decision.crashes} times within ${decision.windowMillis / 1_000} s; the last: ${last}`
}
