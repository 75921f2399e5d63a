/**
 * The actor of one agent instance: it takes orders from its agent's lanes, claims what it has slots for, runs each claimed
 * task in a fiber of its own, and records how it ended.
 *
 *   arrive --> lanes --> claim (COMMIT) --> run --> settle (COMMIT)
 *                          |                 |
 *                          '-- not won: drop '-- fenced: drop
 *
 * Invariants: at most `max_concurrent_tasks` are claimed and running; a message is acknowledged only once the claim of
 * each of its orders is decided; a fenced instance claims no more. It never writes state except through the ledger.
 */
import { Clock, Context, Deferred, Duration, Effect, Exit, Fiber, Latch, Option, Random, Scope } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import type { TaskId } from "../protocol/Ids.ts"
import * as Metrics from "../protocol/Metrics.ts"
import { storable } from "../protocol/Storable.ts"
import type { TaskPriority, TaskProgress } from "../protocol/Task.ts"
import { withSpanFrom } from "../protocol/TraceContext.ts"
import * as Attempt from "./Attempt.ts"
import { type Behaviour, type BehaviourServices, Behaviours, type RunAttempt, SettingsInvalid } from "./Behaviour.ts"
import * as Lanes from "./Lanes.ts"
import type { AgentRecord } from "./ports/AgentStore.ts"
import { Bus, type Delivery } from "./ports/Bus.ts"
import { type Claimed, Ledger, type RunningTask, type Slot } from "./ports/Ledger.ts"
import { crashed, noCrashes, restartPolicy } from "./RestartIntensity.ts"
import * as Routing from "./Routing.ts"
import * as TaskLifecycle from "./TaskLifecycle.ts"

export const InstanceLimits = Context.Reference<{
  /** Idle time after which an instance hibernates. */
  readonly idleAfter: Duration.Duration
  /** Most tasks of one claim. */
  readonly claimTasks: number
  /** Most unacknowledged messages of one lane. */
  readonly prefetchMessages: number
  /** Least time between two looks into the ledger for work that no message told of. */
  readonly backlogEvery: Duration.Duration
  /** Time between reports of progress of one task. */
  readonly progressEvery: Duration.Duration
  /** How often running tasks are checked for having been ended from outside. */
  readonly checkEvery: Duration.Duration
}>("datamcp/actors/InstanceLimits", {
  defaultValue: () => ({
    idleAfter: Duration.seconds(30),
    claimTasks: 250,
    prefetchMessages: 64,
    backlogEvery: Duration.seconds(2),
    progressEvery: Duration.millis(100),
    checkEvery: Duration.seconds(5)
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
  /** There is work in these lanes; none named: somewhere. */
  readonly wake: (lanes: ReadonlyArray<TaskPriority>) => void
  /** These tasks were ended from outside: interrupt them and record nothing. */
  readonly interrupt: (tasks: ReadonlyArray<TaskId>) => void
  /** The definition changed: what starts from now on runs under the new one. */
  readonly reload: (agent: AgentRecord) => void
  /** Claim nothing more; end once what runs has ended, or has been given back after `grace`. */
  readonly stop: (grace: Duration.Duration) => void
  readonly running: () => number
  readonly waiting: () => number
}

interface Held {
  readonly order: TaskOrder
  /** Tells its message that this order's claim is decided. */
  readonly decided: () => void
}

interface Running {
  readonly fiber: Fiber.Fiber<void>
  /** Set before the fiber is interrupted: whether the end is still to be recorded. */
  cause: "cancelled" | "stopped" | undefined
}

/** The behaviour under one version of the definition; closed when its last attempt has ended and another is current. */
interface Generation {
  readonly agent: AgentRecord
  readonly run: RunAttempt
  readonly scope: Scope.Closeable
  attempts: number
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
}) {
  const ledger = yield* Ledger
  const bus = yield* Bus
  const behaviours = yield* Behaviours
  const limits = yield* InstanceLimits
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<Ledger | BehaviourServices>()
  const scope = yield* Effect.scope
  const fork = Effect.runForkWith(context)

  const slot: Slot = {
    namespace: input.agent.namespace,
    agentId: input.agent.id,
    index: input.index,
    epoch: input.epoch
  }
  const lanes = Lanes.make<Held>()
  const running = new Map<TaskId, Running>()
  const deliveries = new Set<Delivery>()
  const consumed = new Set<TaskPriority>()
  const reports = new Map<TaskId, { readonly task: RunningTask; readonly progress: TaskProgress }>()
  const changed = Latch.makeUnsafe(false)
  const ended = Deferred.makeUnsafe<InstanceEnd>()
  let claiming = 0
  let stopping = false
  let lastActive = clock.currentTimeMillisUnsafe()
  let lastDelivery = 0
  let backlogWanted = true
  /** A claim failed, so its outcome is not known: nothing more is claimed until that is settled. */
  let doubtful = false
  let crashes = noCrashes

  const concurrency = () => current.agent.configuration.max_concurrent_tasks ?? Routing.defaults.concurrentTasks
  const free = () => (stopping || doubtful ? 0 : concurrency() - running.size - claiming)
  const finish = (end: InstanceEnd) => Deferred.doneUnsafe(ended, Effect.succeed(end))

  // --- the behaviour, by version of the definition

  const open = Effect.fnUntraced(function* (agent: AgentRecord) {
    const behaviour: Behaviour | undefined = behaviours.get(agent.type)
    if (behaviour === undefined) {
      return yield* new SettingsInvalid({ message: `this node has no behaviour of type "${agent.type}"` })
    }
    const own = yield* Scope.fork(scope)
    const run = yield* behaviour.open(agent.configuration.settings ?? {}).pipe(
      Scope.provide(own),
      Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
    )
    const generation: Generation = { agent, run, scope: own, attempts: 0 }
    return generation
  })
  let current = yield* open(input.agent)

  const retire = (generation: Generation) =>
    generation !== current && generation.attempts === 0 ? Scope.close(generation.scope, Exit.void) : Effect.void

  // --- arrival

  const hold = (order: TaskOrder, decided: () => void) => {
    if (stopping || running.has(order.id) || !lanes.offer(order.id, order.lane, { order, decided })) decided()
  }

  const onDelivery = (delivery: Delivery) => {
    let undecided = delivery.orders.length
    const decided = () => {
      if (--undecided > 0) return
      deliveries.delete(delivery)
      delivery.ack()
    }
    deliveries.add(delivery)
    lastDelivery = lastActive = clock.currentTimeMillisUnsafe()
    for (const order of delivery.orders) hold(order, decided)
    changed.openUnsafe()
  }

  const consume = (lane: TaskPriority) => {
    if (consumed.has(lane) || stopping) return
    consumed.add(lane)
    const once = bus.consume({
      namespace: slot.namespace,
      agentId: slot.agentId,
      lane,
      prefetch: Math.min(limits.prefetchMessages, Math.max(2, 2 * concurrency())),
      onDelivery
    })
    fork(
      once.pipe(
        // The server or the consumer is gone: meanwhile the ledger itself is asked.
        Effect.catch(() =>
          Effect.sync(() => {
            backlogWanted = true
          })
        ),
        Effect.andThen(Effect.sleep("500 millis")),
        Effect.forever,
        Effect.raceFirst(Deferred.await(ended))
      )
    )
  }

  const pullBacklog = Effect.gen(function* () {
    backlogWanted = false
    const limit = Math.min(500, 2 * concurrency())
    const orders = yield* ledger.backlog(slot.agentId, { limit })
    for (const order of orders) hold(order, nothingToDecide)
    if (orders.length === 0) return
    // A full answer says that there is more.
    if (orders.length >= limit) backlogWanted = true
    lastActive = clock.currentTimeMillisUnsafe()
    changed.openUnsafe()
  }).pipe(Effect.catch((error) => Effect.logDebug("the backlog could not be read", error.message)))

  // --- claim and run

  const claim = (held: ReadonlyArray<Held>) =>
    ledger
      .claim(
        slot,
        held.map(({ order }) => order)
      )
      .pipe(
        Effect.matchEffect({
          onSuccess: ({ claimed, fenced }) =>
            Effect.sync(() => {
              claiming -= held.length
              const won = new Map(claimed.map((entry) => [entry.id, entry] as const))
              for (const { decided, order } of held) {
                const entry = won.get(order.id)
                if (entry !== undefined) start(order, entry)
                decided()
              }
              if (fenced) finish({ _tag: "Fenced" })
              changed.openUnsafe()
            }),
          // Postgres is away, and whether the claim was committed is not known. Orders that were not won are still
          // queued there and will be asked for again; what was won must not run for ever without anybody running it.
          onFailure: () =>
            Effect.suspend(() => {
              claiming -= held.length
              for (const { decided } of held) decided()
              const first = !doubtful
              doubtful = true
              return first ? settleDoubt : Effect.void
            })
        })
      )

  /** Gives back what runs under this slot without a fiber of ours. Nothing is claimed meanwhile, so none is mistaken. */
  const settleDoubt: Effect.Effect<void> = Effect.gen(function* () {
    while (doubtful && !Deferred.isDoneUnsafe(ended)) {
      yield* Effect.sleep("500 millis")
      if (claiming > 0) continue
      const strays = yield* Effect.option(ledger.strays(slot, [...running.keys()]))
      if (Option.isNone(strays)) continue
      yield* Effect.forEach(strays.value, (task) => Effect.ignore(ledger.settle(slot, task, { _tag: "Released" })), {
        concurrency: "unbounded",
        discard: true
      })
      doubtful = false
      backlogWanted = true
      changed.openUnsafe()
    }
  })

  const start = (order: TaskOrder, claimed: Claimed) => {
    const generation = current
    generation.attempts++
    const task: RunningTask = {
      id: order.id,
      namespace: order.namespace,
      attempt: claimed.attempt,
      trace: order.trace
    }
    const fiber = fork(attempt(generation, order, task, claimed))
    const entry: Running = { fiber, cause: undefined }
    if (fiber.pollUnsafe() === undefined) running.set(order.id, entry)
  }

  const attempt = (generation: Generation, order: TaskOrder, task: RunningTask, claimed: Claimed) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const began = clock.currentTimeNanosUnsafe()
        const end = yield* restore(
          Attempt.run({
            order,
            number: claimed.attempt,
            payload: claimed.payload,
            behaviour: generation.run,
            progress: (progress) => Effect.sync(() => report(task, progress)),
            nowMillis: clock.currentTimeMillisUnsafe()
          })
        ).pipe(Effect.catchCause(() => Effect.succeed<TaskLifecycle.AttemptEnd>({ _tag: "Stopped" })))
        const executionMillis = Math.round(Number(clock.currentTimeNanosUnsafe() - began) / 1e4) / 100
        reports.delete(task.id)
        if (end._tag === "Crashed") onCrash(order, end.message)
        if (running.get(task.id)?.cause !== "cancelled") {
          const settlement = TaskLifecycle.settlementOf(end, {
            number: claimed.attempt,
            executionMillis,
            order,
            chance: yield* Random.next
          })
          Metrics.taskRunSeconds.updateUnsafe(executionMillis / 1_000, context)
          const settled = Effect.ignore(ledger.settle(slot, task, settlement))
          yield* order.trace === undefined ? settled : Effect.withSpan(settled, "task.settle")
        }
        running.delete(task.id)
        generation.attempts--
        yield* retire(generation)
        lastActive = clock.currentTimeMillisUnsafe()
        changed.openUnsafe()
      })
    ).pipe(traced(order, claimed.attempt))

  const onCrash = (order: TaskOrder, message: string) => {
    const next = crashed(crashes, clock.currentTimeMillisUnsafe(), restartPolicy)
    crashes = next.crashes
    fork(
      Effect.logWarning("a task crashed its behaviour", message).pipe(
        Effect.annotateLogs({ task: order.id, agent: slot.agentId, attempt: order.max_attempts })
      )
    )
    if (next.escalate) {
      finish({
        _tag: "Escalated",
        reason: `its tasks crashed ${next.crashes.at.length} times within ${restartPolicy.windowMillis / 1_000} s; the last: ${message}`
      })
    }
  }

  // --- progress

  const report = (task: RunningTask, progress: TaskProgress) => {
    const first = reports.size === 0
    const { current_step } = progress
    reports.set(task.id, {
      task,
      progress: current_step === undefined ? progress : { ...progress, current_step: storable(current_step) }
    })
    if (first) fork(Effect.delay(flushReports, limits.progressEvery))
  }
  const flushReports = Effect.suspend(() => {
    const due = [...reports.values()]
    reports.clear()
    return Effect.forEach(due, ({ progress, task }) => Effect.ignore(ledger.progress(slot, task, progress)), {
      concurrency: "unbounded",
      discard: true
    })
  })

  // --- the loops

  const pump = Effect.gen(function* () {
    yield* changed.await
    changed.closeUnsafe()
    while (free() > 0 && lanes.size() > 0) {
      const held = lanes.take(Math.min(free(), limits.claimTasks))
      claiming += held.length
      fork(claim(held))
    }
    if (stopping && running.size === 0 && claiming === 0) finish({ _tag: "Stopped" })
    if (backlogWanted && lanes.size() === 0 && free() > 0) yield* pullBacklog
  })

  const look = Effect.gen(function* () {
    const now = clock.currentTimeMillisUnsafe()
    const quiet = now - lastDelivery >= Duration.toMillis(limits.backlogEvery)
    if (!stopping && lanes.size() === 0 && free() > 0 && (backlogWanted || quiet || !bus.connected()))
      yield* pullBacklog
    const busy = running.size + claiming + lanes.size() > 0
    if (!busy && !stopping && now - lastActive >= Duration.toMillis(limits.idleAfter)) finish({ _tag: "Idle" })
  })

  const check = Effect.gen(function* () {
    for (const delivery of deliveries) delivery.working()
    const ids = [...running.keys()]
    if (ids.length === 0) return
    interrupt(yield* ledger.lost(slot, ids))
  }).pipe(Effect.catch((error) => Effect.logDebug("running tasks could not be checked", error.message)))

  const interrupt = (tasks: ReadonlyArray<TaskId>) => {
    for (const id of tasks) {
      const entry = running.get(id)
      if (entry === undefined || entry.cause !== undefined) continue
      entry.cause = "cancelled"
      fork(Fiber.interrupt(entry.fiber))
    }
  }

  const stop = (grace: Duration.Duration) => {
    if (stopping) return
    stopping = true
    for (const { decided } of lanes.clear()) decided()
    changed.openUnsafe()
    fork(
      Effect.delay(
        Effect.sync(() => {
          for (const entry of running.values()) {
            if (entry.cause !== undefined) continue
            entry.cause = "stopped"
            fork(Fiber.interrupt(entry.fiber))
          }
        }),
        grace
      )
    )
  }

  const reload = (agent: AgentRecord) => {
    if (agent.version <= current.agent.version || stopping) return
    fork(
      open(agent).pipe(
        Effect.flatMap((next) =>
          Effect.suspend(() => {
            const before = current
            current = next
            changed.openUnsafe()
            return retire(before)
          })
        ),
        Effect.catchCause((cause) =>
          Effect.sync(() => finish({ _tag: "Escalated", reason: `its new definition does not open: ${cause}` }))
        )
      )
    )
  }

  consume("normal")
  input.onStarted({
    slot,
    interrupt,
    stop,
    reload,
    wake: (woken) => {
      for (const lane of woken) consume(lane)
      if (woken.length === 0) backlogWanted = true
      changed.openUnsafe()
    },
    running: () => running.size,
    waiting: () => lanes.size()
  })
  changed.openUnsafe()

  const end = yield* Deferred.await(ended).pipe(
    Effect.raceFirst(Effect.forever(pump)),
    Effect.raceFirst(Effect.forever(Effect.andThen(look, Effect.sleep(Duration.divideUnsafe(limits.backlogEvery, 2))))),
    Effect.raceFirst(Effect.forever(Effect.andThen(Effect.sleep(limits.checkEvery), check)))
  )
  // Whatever ended it: what still runs must not go on unseen.
  stop(Duration.zero)
  yield* Effect.forEach([...running.values()], ({ fiber }) => Fiber.await(fiber), {
    concurrency: "unbounded",
    discard: true
  }).pipe(Effect.timeoutOption("5 seconds"))
  return end
})

const nothingToDecide = () => {}

const traced = (order: TaskOrder, attempt: number) =>
  order.trace === undefined
    ? <A, E, R>(effect: Effect.Effect<A, E, R>) => effect
    : withSpanFrom(order.trace, "task.attempt", {
        attributes: { "task.id": order.id, "task.type": order.type, attempt }
      })
