/**
 * The actor of one agent instance: it takes orders from its agent's lanes, claims what it has slots for, runs each claimed
 * task in a fiber of its own, and records how it ended.
 *
 *   arrive --> lanes --> claim (COMMIT) --> run --> settle (COMMIT)
 *                |         |                          |
 *                |         '-- not won: drop          '-- fenced: drop
 *                |
 *                '-- idempotent: run at once --> ended first: claim and settle in one (COMMIT)
 *                                            '-- lasts: claim (COMMIT), settle (COMMIT)
 *
 * Invariants: at most `max_concurrent_tasks` are claimed and running; a task is in one place at a time: waiting, being
 * claimed, or running; a message is acknowledged only once the claim of each of its orders is decided; what is won after
 * the instance was told to stop is given back unstarted; a fenced instance claims no more. It never writes state except
 * through the ledger.
 */
import { Cause, Clock, Context, Deferred, Duration, Effect, Fiber, Latch, Random } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import type { TaskId } from "../protocol/Ids.ts"
import * as Metrics from "../protocol/Metrics.ts"
import type { Crash } from "../protocol/Supervision.ts"
import type { TaskPriority } from "../protocol/Task.ts"
import { withSpanFrom } from "../protocol/TraceContext.ts"
import * as Attempt from "./Attempt.ts"
import type { BehaviourServices, Behaviours } from "./Behaviour.ts"
import * as Conversation from "./Conversation.ts"
import * as CrashReport from "./CrashReport.ts"
import * as Generations from "./Generations.ts"
import * as Lanes from "./Lanes.ts"
import * as PayloadFit from "./PayloadFit.ts"
import * as ProgressReports from "./ProgressReports.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"
import { Bus, type Delivery } from "./ports/Bus.ts"
import { CrashPoints } from "./ports/CrashPoints.ts"
import { type Claimed, Ledger, type RunningTask, type Settlement, type Slot } from "./ports/Ledger.ts"
import { crashed, noCrashes, recent, restartPolicy } from "./RestartIntensity.ts"
import * as Routing from "./Routing.ts"
import type { Scheduler } from "./Scheduler.ts"
import * as TaskLifecycle from "./TaskLifecycle.ts"

export const InstanceLimits = Context.Reference<{
  /** Idle time after which an instance hibernates. */
  readonly idleAfter: Duration.Duration
  /** Most tasks of one claim. */
  readonly claimTasks: number
  /** Most unacknowledged messages of one lane. */
  readonly prefetchMessages: number
  /** Most orders on their way over the bus that are remembered so that none overtakes them. */
  readonly onTheirWayMax: number
  /** Most orders of one lane in one look into the ledger. */
  readonly backlogTasks: number
  /** Least time between two looks into the ledger for work that no message told of. */
  readonly backlogEvery: Duration.Duration
  /** Longest time without such a look: messages that keep coming say nothing of those that are lost. */
  readonly backlogWithin: Duration.Duration
  /** Time between reports of progress of one task. */
  readonly progressEvery: Duration.Duration
  /** How often running tasks are checked for having been ended from outside. */
  readonly checkEvery: Duration.Duration
  /** How long an attempt that was interrupted may take to clean up before its slot is used again without it. */
  readonly cleanUpWithin: Duration.Duration
}>("datamcp/actors/InstanceLimits", {
  defaultValue: () => ({
    idleAfter: Duration.seconds(30),
    claimTasks: 250,
    prefetchMessages: 256,
    onTheirWayMax: 10_000,
    backlogTasks: 250,
    backlogEvery: Duration.seconds(2),
    backlogWithin: Duration.seconds(6),
    progressEvery: Duration.millis(100),
    checkEvery: Duration.seconds(5),
    cleanUpWithin: Duration.seconds(5)
  })
})

/** Why an instance ended by itself. */
export type InstanceEnd =
  | { readonly _tag: "Idle" }
  /** Somebody else took it over. */
  | { readonly _tag: "Fenced" }
  /** Its tasks crash too often. */
  | { readonly _tag: "Escalated"; readonly reason: string }
  /** Asked to: paused, scaled away, moved, or the node stops. */
  | { readonly _tag: "Stopped" }

/** What others may tell a running instance. All of it is synchronous and may be said at any time. */
export interface InstanceHandle {
  readonly slot: Slot
  /**
   * Takes an order that this node dispatches, without the bus, if this is the agent's only instance, has a slot for it, and
   * would let it overtake none that is on its way over the bus. False: it goes there.
   */
  readonly take: (order: TaskOrder) => boolean
  /** There is work in these lanes; none named: somewhere. */
  readonly wake: (lanes: ReadonlyArray<TaskPriority>) => void
  /** These tasks were ended from outside: interrupt them and record nothing. */
  readonly interrupt: (tasks: ReadonlyArray<TaskId>) => void
  /** These tasks were sent a signal: those that wait for one here, look. */
  readonly signalled: (tasks: ReadonlyArray<TaskId>) => void
  /** The definition changed: what starts from now on runs under the new one. */
  readonly reload: (agent: AgentRecord) => void
  /** Claim nothing more for now. What runs goes on; when nothing does, the instance ends. */
  readonly pause: () => void
  /** Takes a pause back. */
  readonly resume: () => void
  /** Claim nothing more; end once what runs has ended, or has been given back after `grace`. */
  readonly stop: (grace: Duration.Duration) => void
  readonly running: () => number
  readonly waiting: () => number
  /** The tasks that run, in the order in which they began, at most so many. */
  readonly tasks: (most: number) => ReadonlyArray<RunningNow>
  /** Crashes of its tasks that count now. */
  readonly taskCrashes: () => number
}

/** A task that runs. */
export interface RunningNow {
  readonly id: TaskId
  readonly name: string
  readonly attempt: number
  /** When this attempt began, in milliseconds since 1970. */
  readonly sinceMillis: number
}

interface Held {
  readonly order: TaskOrder
  /** Tells its message that this order's claim is decided. */
  readonly decided: () => void
}

interface Claiming {
  /** Ended from outside before its claim was answered: not to be started. */
  cancelled: boolean
  /** What it runs under if it is won. */
  readonly generation: Generations.Generation
}

interface Running {
  readonly now: RunningNow
  readonly generation: Generations.Generation
  fiber: Fiber.Fiber<void> | undefined
  /** Set before the fiber is interrupted. */
  cause: "cancelled" | "stopped" | undefined
  /** How far its claim is. `wanted` until a transaction takes it up, or until it ends and needs none of its own. */
  claim: "wanted" | "under way" | "decided"
  /** What came of the claim; undefined when the task was not won. */
  readonly won: Deferred.Deferred<Claimed | undefined>
  /** Tells its message, once, that the claim is decided. */
  readonly decided: () => void
  /** A signal may have come. */
  wake?: () => void
}

/**
 * Runs an instance until it ends. Fails when its behaviour cannot be opened, which counts as a crash of the instance.
 * `onStarted` is called once it can be talked to.
 */
export const run = Effect.fnUntraced(function* (input: {
  readonly agent: AgentRecord
  readonly index: number
  readonly epoch: number
  readonly onStarted: (handle: InstanceHandle) => void
  /** A task crashed its behaviour. */
  readonly onTaskCrash: (crash: Crash) => void
}) {
  const ledger = yield* Ledger
  const bus = yield* Bus
  const limits = yield* InstanceLimits
  const conversationLimits = yield* Conversation.ConversationLimits
  const clock = yield* Clock.Clock
  const crashPoint = yield* CrashPoints
  const context = yield* Effect.context<Ledger | Scheduler | Behaviours | BehaviourServices>()
  const fork = Effect.runForkWith(context)
  const generations = yield* Generations.make(input.agent)

  const slot: Slot = {
    namespace: input.agent.namespace,
    agentId: input.agent.id,
    index: input.index,
    epoch: input.epoch
  }
  const lanes = Lanes.make<Held>()
  const claiming = new Map<TaskId, Claiming>()
  const running = new Map<TaskId, Running>()
  /** Orders of this node that it did not take and that have not arrived: none may overtake them (G5). */
  const onTheirWay = new Set<TaskId>()
  const deliveries = new Set<Delivery>()
  const consumers = new Map<TaskPriority, Fiber.Fiber<void>>()
  const reports = ProgressReports.make({ ledger, slot, every: limits.progressEvery, fork })
  const changed = Latch.makeUnsafe(false)
  const ended = Deferred.makeUnsafe<InstanceEnd>()
  /** `closed` for good, `paused` until it is resumed. */
  let intake: "open" | "paused" | "closed" = "open"
  /** Tasks that were won too late and are being given back. */
  let returning = 0
  /** On the monotonic clock. */
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const opened = now()
  let lastActive = opened
  let lastDelivery = Number.NEGATIVE_INFINITY
  let lastLook = Number.NEGATIVE_INFINITY
  /** The ledger is known or likely to have more than messages told: look as soon as there is room. */
  let backlogWanted = true
  /** A look is under way. */
  let looking = false
  /** Somebody says that there is work: look soon, even behind lanes that are never empty. */
  let woken = false
  let crashes = noCrashes

  const concurrency = generations.concurrentTasks
  const free = () => (intake === "open" ? concurrency() - running.size - claiming.size : 0)
  const mayBeginUnclaimed = (order: TaskOrder) =>
    generations.idempotent() &&
    order.at_most_once !== true &&
    order.payload_behind !== true &&
    // Its time is told by when it began, which Postgres says: the wall clock of this node may be wrong.
    order.deadline === undefined &&
    order.first_started_at === undefined &&
    (order.attempts ?? 0) < order.max_attempts
  const isBusy = () => running.size + claiming.size + returning > 0
  const finish = (end: InstanceEnd) => Deferred.doneUnsafe(ended, Effect.succeed(end))

  // --- arrival

  const take = (order: TaskOrder): boolean => {
    if (intake !== "open" || generations.agent().desiredInstances !== 1) return false
    const mayOvertake = onTheirWay.size > 0 || backlogWanted || woken || looking
    if (mayOvertake || free() <= lanes.size()) {
      if (onTheirWay.size < limits.onTheirWayMax) onTheirWay.add(order.id)
      return false
    }
    hold(order, nothingToDecide)
    lastDelivery = lastActive = now()
    changed.openUnsafe()
    return true
  }

  const hold = (order: TaskOrder, decided: () => void) => {
    onTheirWay.delete(order.id)
    const taken = intake !== "open" || running.has(order.id) || claiming.has(order.id)
    if (taken || !lanes.offer(order.id, order.lane, { order, decided })) decided()
  }

  const onDelivery = (delivery: Delivery) => {
    let undecided = delivery.orders.length
    const decided = () => {
      if (--undecided > 0) return
      deliveries.delete(delivery)
      crashPoint("acknowledge", "before")
      delivery.ack()
      crashPoint("acknowledge", "after")
    }
    deliveries.add(delivery)
    lastDelivery = lastActive = now()
    for (const order of delivery.orders) hold(order, decided)
    changed.openUnsafe()
  }

  const consume = (lane: TaskPriority) => {
    if (consumers.has(lane) || intake !== "open") return
    const once = bus.consume({
      namespace: slot.namespace,
      agentId: slot.agentId,
      lane,
      prefetch: Math.min(limits.prefetchMessages, Math.max(2, 2 * concurrency())),
      onDelivery
    })
    const consuming = once.pipe(
      // The server or the consumer is gone: meanwhile the ledger itself is asked.
      Effect.catch(() =>
        Effect.sync(() => {
          backlogWanted = true
          changed.openUnsafe()
        })
      ),
      Effect.andThen(Effect.sleep("500 millis")),
      Effect.forever
    )
    consumers.set(lane, fork(consuming))
  }

  /** Takes no more orders; those that wait go back to where others find them. */
  const close = (to: "paused" | "closed") => {
    intake = to
    for (const consumer of consumers.values()) fork(Fiber.interrupt(consumer))
    consumers.clear()
    for (const { decided } of lanes.clear()) decided()
    changed.openUnsafe()
  }

  const look = Effect.gen(function* () {
    backlogWanted = woken = false
    lastLook = now()
    looking = true
    const before = [...onTheirWay]
    const limit = Math.min(limits.backlogTasks, 2 * concurrency())
    const orders = yield* ledger.backlog(slot.agentId, { limit })
    for (const order of orders) {
      consume(order.lane)
      hold(order, nothingToDecide)
    }
    // A full answer says that there is more; any other, that nothing is on its way which is not here.
    if (orders.length < limit) for (const id of before) onTheirWay.delete(id)
    if (orders.length === 0) return
    if (orders.length >= limit) backlogWanted = true
    lastActive = now()
    changed.openUnsafe()
  }).pipe(
    Effect.catch((error) => Effect.logDebug("the backlog could not be read", error.message)),
    Effect.ensuring(
      Effect.sync(() => {
        looking = false
      })
    )
  )

  // --- claim and run

  const claim = (held: ReadonlyArray<Held>) => {
    for (const { order } of held) {
      claiming.set(order.id, { cancelled: false, generation: generations.enter(order.id) })
    }
    return Effect.map(
      ledger.claim(
        slot,
        held.map(({ order }) => order),
        undefined,
        ({ id }) => versionOf(claiming.get(id)?.generation)
      ),
      ({ claimed, fenced }) => {
        const won = new Map(claimed.map((entry) => [entry.id, entry] as const))
        for (const { decided, order } of held) {
          const entry = won.get(order.id)
          const claim = claiming.get(order.id)
          claiming.delete(order.id)
          if (claim !== undefined) {
            const runs = entry !== undefined && intake === "open" && !claim.cancelled
            if (runs) start(order, entry, claim.generation)
            else fork(generations.leave(claim.generation))
            // Also what was cancelled meanwhile: if it has ended this changes nothing, and if the word of it was late it must not stay
            // `running` for nobody.
            if (entry !== undefined && !runs) giveBack(order, entry)
          }
          decided()
        }
        if (fenced) finish({ _tag: "Fenced" })
        changed.openUnsafe()
      }
    )
  }

  /** Tasks that ask for a version that this agent does not offer any more wait for one that does; the others are returned. */
  const setAsideWhatIsGone = (held: ReadonlyArray<Held>): ReadonlyArray<Held> => {
    const agent = generations.agent()
    const gone = held.filter(({ order }) => Routing.asksForWhatIsGone(agent, order.type))
    if (gone.length === 0) return held
    const ids = gone.map(({ order }) => order.id)
    fork(
      ledger.setAside(agent, ids).pipe(
        // They are still queued: the next look into the ledger finds them.
        Effect.catch((error) => Effect.logDebug("tasks could not be set aside", error.message)),
        Effect.ensuring(
          Effect.sync(() => {
            for (const { decided } of gone) decided()
          })
        )
      )
    )
    return held.filter(({ order }) => !ids.includes(order.id))
  }

  const start = (order: TaskOrder, claimed: Claimed, generation: Generations.Generation) => {
    const won = Deferred.makeUnsafe<Claimed | undefined>()
    Deferred.doneUnsafe(won, Effect.succeed(claimed))
    const now = runningNow(order, claimed.attempt)
    const decided = nothingToDecide
    enter(order, claimed, { now, generation, fiber: undefined, cause: undefined, claim: "decided", won, decided })
  }

  const runningNow = (order: TaskOrder, attempt: number): RunningNow => ({
    id: order.id,
    name: order.name,
    attempt,
    sinceMillis: clock.currentTimeMillisUnsafe()
  })

  const enter = (order: TaskOrder, expected: Claimed, entry: Running) => {
    running.set(order.id, entry)
    entry.fiber = fork(attempt(order, expected, entry))
  }

  /**
   * Begins attempts that may run twice without harm before their claim is written. Those that end first are recorded with
   * their claim; the others are claimed as soon as a transaction is free.
   */
  const begin = (held: ReadonlyArray<Held>) => {
    const begun = held.map(({ decided, order }) => {
      const won = Deferred.makeUnsafe<Claimed | undefined>()
      const generation = generations.enter(order.id)
      const number = (order.attempts ?? 0) + 1
      const now = runningNow(order, number)
      const entry: Running = { now, generation, fiber: undefined, cause: undefined, claim: "wanted", won, decided }
      enter(order, { id: order.id, attempt: number, startedBy: 0, startedAtMillis: 0, payload: undefined }, entry)
      return { order, entry }
    })
    const entries = new Map(begun.map(({ entry, order }) => [order.id, entry] as const))
    const stillWanted = ({ id }: TaskOrder) => {
      const entry = entries.get(id)
      if (entry?.claim !== "wanted") return false
      entry.claim = "under way"
      return true
    }
    const claiming = ledger.claim(
      slot,
      begun.map(({ order }) => order),
      stillWanted,
      ({ id }) => versionOf(entries.get(id)?.generation)
    )
    fork(
      Effect.map(claiming, ({ claimed, fenced }) => {
        const answers = new Map(claimed.map((answer) => [answer.id, answer] as const))
        for (const { entry, order } of begun) {
          if (entry.claim !== "under way") continue
          entry.claim = "decided"
          const answer = answers.get(order.id)
          if (answer === undefined) interruptRunning(entry, "cancelled")
          Deferred.doneUnsafe(entry.won, Effect.succeed(answer))
          entry.decided()
        }
        if (fenced) finish({ _tag: "Fenced" })
        changed.openUnsafe()
      })
    )
  }

  /**
   * Records an end as its claim stands by then. An outdated order began as an earlier attempt than the one that was won:
   * what its end means is decided by the latter.
   */
  const record = (
    order: TaskOrder,
    entry: Running,
    expected: Claimed,
    settlementAs: (attempt: number) => Settlement
  ): Effect.Effect<unknown> => {
    if (entry.claim === "wanted") {
      entry.claim = "decided"
      // Interrupted before anything was written: for the ledger it has never begun.
      if (entry.cause !== undefined) return Effect.sync(entry.decided)
      return Effect.map(
        ledger.settle(slot, taskOf(order, expected, entry.generation), settlementAs(expected.attempt), {
          unclaimed: true
        }),
        ({ recorded }) => {
          entry.decided()
          // Somebody was faster, the order was outdated, or this instance is: the ordinary claim finds out.
          if (!recorded) fork(claim([{ order, decided: nothingToDecide }]))
        }
      )
    }
    return Effect.flatMap(Deferred.await(entry.won), (claimed) => {
      if (claimed === undefined) return Effect.void
      const task = taskOf(order, claimed, entry.generation)
      const settlement = settlementAs(claimed.attempt)
      return entry.cause === "cancelled" ? recordIfRunning(task, settlement) : ledger.settle(slot, task, settlement)
    })
  }

  /** Its claim was decided before it could await anything. Where the ledger has no such attempt any more, nothing changes. */
  const park = (order: TaskOrder, entry: Running, position: number) =>
    Effect.flatMap(Deferred.await(entry.won), (claimed) =>
      claimed === undefined ? Effect.void : ledger.signals.park(slot, taskOf(order, claimed), position)
    )

  const giveBack = (order: TaskOrder, claimed: Claimed) => {
    returning++
    fork(
      Effect.andThen(
        ledger.settle(slot, taskOf(order, claimed), { _tag: "Released" }),
        Effect.sync(() => {
          returning--
          changed.openUnsafe()
        })
      )
    )
  }

  const attempt = (order: TaskOrder, claimed: Claimed, entry: Running) => {
    const { generation } = entry
    const agent = generations.agent()
    const task = taskOf(order, claimed)
    const conversation = Conversation.make({
      ...{ ledger, slot, order, clock, limits: conversationLimits },
      claimed: Deferred.await(entry.won)
    })
    entry.wake = conversation.wake
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const began = clock.monotonicTimeNanosUnsafe()
        crashPoint("run", "before")
        const end = yield* restore(
          Attempt.run({
            order,
            number: claimed.attempt,
            payload: claimed.payload,
            violationsOf: PayloadFit.hasSchemas(agent)
              ? (payload, budget) => PayloadFit.violationsAtStart(agent, order.type, payload, budget)
              : undefined,
            behaviour: generation.run,
            progress: (progress) => Effect.sync(() => reports.report(task, progress)),
            conversation,
            nowMillis: claimed.startedAtMillis,
            cleanUpWithin: limits.cleanUpWithin
          })
        ).pipe(Effect.catchCause(() => Effect.succeed<TaskLifecycle.AttemptEnd>({ _tag: "Stopped" })))
        crashPoint("run", "after")
        // Its chunks must be in before its end is: nothing comes after that.
        const said = conversation.close()
        if (said !== undefined) yield* said
        const executionMillis = Math.round(Number(clock.monotonicTimeNanosUnsafe() - began) / 1e4) / 100
        reports.drop(task.id)
        if (end._tag === "Parked") return yield* park(order, entry, end.position)
        if (end._tag === "Crashed") onCrash(task, end)
        Metrics.taskRunSeconds.updateUnsafe(executionMillis / 1_000, context)
        const chance = yield* Random.next
        const nowMillis = claimed.startedAtMillis + executionMillis
        const settlementAs = (number: number) =>
          TaskLifecycle.settlementOf(end, { number, executionMillis, order, chance, nowMillis })
        const recording = record(order, entry, claimed, settlementAs)
        yield* order.trace === undefined ? recording : Effect.withSpan(recording, "task.settle")
      }).pipe(
        Effect.ensuring(
          Effect.suspend(() => {
            if (running.get(task.id) === entry) running.delete(task.id)
            lastActive = now()
            changed.openUnsafe()
            return generations.leave(generation)
          })
        )
      )
    ).pipe(traced(order, claimed.attempt))
  }

  /** Somebody said that it was ended from outside. Where the ledger knows nothing of it, it must not run for ever. */
  const recordIfRunning = (task: RunningTask, settlement: Settlement) =>
    Effect.orElseSucceed(ledger.lost(slot, [task.id]), () => []).pipe(
      Effect.flatMap((lost) => (lost.length > 0 ? Effect.void : ledger.settle(slot, task, settlement)))
    )

  const onCrash = (task: RunningTask, end: Extract<TaskLifecycle.AttemptEnd, { readonly _tag: "Crashed" }>) => {
    const { message } = end
    input.onTaskCrash(CrashReport.ofTask(end, task.id, clock.currentTimeMillisUnsafe()))
    const next = crashed(crashes, now(), restartPolicy)
    crashes = next.crashes
    fork(
      Effect.logWarning("a task crashed its behaviour", message).pipe(
        Effect.annotateLogs({ task: task.id, agent: slot.agentId, attempt: task.attempt })
      )
    )
    if (!next.escalate) return
    const reason = `its tasks crashed ${next.crashes.at.length} times within ${restartPolicy.windowMillis / 1_000} s; the last: ${message}`
    finish({ _tag: "Escalated", reason })
  }

  // --- the loops

  const pump = Effect.gen(function* () {
    yield* changed.await
    changed.closeUnsafe()
    while (free() > 0 && lanes.size() > 0) {
      const held = setAsideWhatIsGone(lanes.take(Math.min(free(), limits.claimTasks)))
      const ordinary = held.filter(({ order }) => !mayBeginUnclaimed(order))
      if (ordinary.length > 0) fork(claim(ordinary))
      if (ordinary.length < held.length) begin(held.filter(({ order }) => mayBeginUnclaimed(order)))
    }
    if (intake !== "open" && !isBusy()) finish({ _tag: "Stopped" })
    if (backlogWanted && lanes.size() === 0 && free() > 0) yield* look
  })

  const watch = Effect.gen(function* () {
    const moment = now()
    const every = Duration.toMillis(limits.backlogEvery)
    const quiet = moment - lastDelivery >= every || !bus.connected()
    const idle = lanes.size() === 0 && free() > 0 && (backlogWanted || quiet)
    // In ordinary times the reconciler's wakes come sooner. They do not when it is cut off from the bus, or the node is that
    // accepted the tasks.
    const overdue = moment - Math.max(lastLook, opened) >= Duration.toMillis(limits.backlogWithin)
    if (intake === "open" && (woken || idle || overdue) && moment - lastLook >= every) yield* look
    const asleep = !isBusy() && lanes.size() === 0 && now() - lastActive >= Duration.toMillis(limits.idleAfter)
    if (intake === "open" && asleep) finish({ _tag: "Idle" })
  })

  const check = Effect.gen(function* () {
    for (const delivery of deliveries) delivery.working()
    const asked = new Map(Array.from(running).filter(([, { claim }]) => claim === "decided"))
    if (asked.size === 0) return
    // An answer may come late: it is about the attempts that were asked for, not about what this instance has won since.
    for (const id of yield* ledger.lost(slot, [...asked.keys()])) interruptRunning(asked.get(id), "cancelled")
  }).pipe(Effect.catch((error) => Effect.logDebug("running tasks could not be checked", error.message)))

  // --- what others say

  const interrupt = (tasks: ReadonlyArray<TaskId>) => {
    for (const id of tasks) {
      const early = claiming.get(id)
      if (early !== undefined) early.cancelled = true
      interruptRunning(running.get(id), "cancelled")
    }
  }

  const interruptRunning = (entry: Running | undefined, cause: Running["cause"]) => {
    if (entry === undefined || entry.cause !== undefined) return
    entry.cause = cause
    if (entry.fiber !== undefined) fork(Fiber.interrupt(entry.fiber))
  }

  const stop = (grace: Duration.Duration) => {
    if (intake === "closed") return
    close("closed")
    const interruptAll = Effect.sync(() => {
      for (const entry of running.values()) interruptRunning(entry, "stopped")
    })
    fork(Effect.delay(interruptAll, grace))
  }

  const reload = (agent: AgentRecord) => {
    fork(
      generations.reload(agent).pipe(
        Effect.andThen(Effect.sync(() => changed.openUnsafe())),
        Effect.catchCause((cause) => {
          const reason = `its new definition does not open: ${String(Cause.squash(cause))}`
          return Effect.sync(() => finish({ _tag: "Escalated", reason }))
        })
      )
    )
  }

  consume("normal")
  const signalled = (tasks: ReadonlyArray<TaskId>) => {
    for (const id of tasks) running.get(id)?.wake?.()
  }

  input.onStarted({
    slot,
    take,
    interrupt,
    signalled,
    stop,
    reload,
    pause: () => {
      if (intake === "open") close("paused")
    },
    resume: () => {
      if (intake !== "paused") return
      intake = "open"
      backlogWanted = true
      consume("normal")
      changed.openUnsafe()
    },
    wake: (wanted) => {
      for (const lane of wanted) consume(lane)
      if (wanted.length === 0) woken = true
      changed.openUnsafe()
    },
    running: () => running.size,
    waiting: () => lanes.size(),
    tasks: (most) => Array.from(running.values().take(most), (entry) => entry.now),
    taskCrashes: () => recent(crashes, now(), restartPolicy).length
  })
  changed.openUnsafe()

  const end = yield* Deferred.await(ended).pipe(
    Effect.raceFirst(Effect.forever(pump)),
    Effect.raceFirst(
      Effect.forever(Effect.andThen(watch, Effect.sleep(Duration.divideUnsafe(limits.backlogEvery, 4))))
    ),
    Effect.raceFirst(Effect.forever(Effect.andThen(Effect.sleep(limits.checkEvery), check))),
    Effect.onInterrupt(() => Effect.sync(() => stop(Duration.zero)))
  )
  // Whatever ended it: what still runs must not go on unseen, and what is won from here on is given back.
  stop(Duration.zero)
  yield* Effect.suspend(() => {
    changed.closeUnsafe()
    return isBusy() ? Effect.as(changed.await, true) : Effect.succeed(false)
  }).pipe(
    Effect.repeat({ while: (busy) => busy }),
    Effect.timeoutOption(Duration.sum(limits.cleanUpWithin, Duration.seconds(1)))
  )
  return end
})

const taskOf = (order: TaskOrder, claimed: Claimed, generation?: Generations.Generation): RunningTask => ({
  id: order.id,
  namespace: order.namespace,
  attempt: claimed.attempt,
  trace: order.trace,
  agentVersion: versionOf(generation),
  ...(order.limited === true && { limited: true })
})

/** As the ledger takes it: nothing for the first one, which most agents keep for good. */
const versionOf = (generation: Generations.Generation | undefined): number | undefined => {
  const version = generation?.definition.version
  return version === 1 ? undefined : version
}

const nothingToDecide = () => {}

const traced = (order: TaskOrder, attempt: number) =>
  order.trace === undefined
    ? <A, E, R>(effect: Effect.Effect<A, E, R>) => effect
    : withSpanFrom(order.trace, "task.attempt", {
        attributes: { "task.id": order.id, "task.type": order.type, attempt }
      })
