/**
 * Owns every figure that a node publishes: name, unit, labels and what it counts. Dashboards and alerts rest on these
 * names, so they change like the rest of the contract: by addition.
 *
 * Who makes the change updates the metric (`Metric.update(Metrics.tasksAccepted, 1)`); `src/observability/` publishes
 * them. Label values come from closed sets: no ids, no names of tenants.
 */
import { Effect, Metric, type Scope } from "effect"

/** One line of the catalogue. */
export interface MetricEntry {
  readonly name: string
  readonly type: "counter" | "gauge" | "histogram"
  readonly unit: string
  readonly labels: ReadonlyArray<string>
  readonly help: string
}

const entries: Array<MetricEntry> = []
const unlabelled: Array<Metric.Counter<number> | Metric.Gauge<number> | Metric.Histogram<number>> = []

interface Definition<L extends string> {
  readonly unit: string
  readonly help: string
  readonly labels?: ReadonlyArray<L>
}

/** Seconds from half a millisecond to a minute: commits and requests as well as runs. */
const secondsBoundaries = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
/** Numbers of things gathered into one transaction or message. */
const sizeBoundaries = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]

const family = <L extends string, M>(
  type: MetricEntry["type"],
  name: string,
  { help, labels = [], unit }: Definition<L>,
  make: (options: { readonly description: string; readonly attributes: Record<string, string> }) => M
) => {
  entries.push({ name, type, unit, labels, help })
  const made = new Map<string, M>()
  return (values: { readonly [K in L]: string }): M => {
    const key = labels.map((label) => values[label]).join("\n")
    const known = made.get(key)
    if (known !== undefined) return known
    const metric = make({ description: help, attributes: { unit, ...values } })
    made.set(key, metric)
    return metric
  }
}

const counters = <L extends string>(name: string, definition: Definition<L>) =>
  family("counter", name, definition, (options) => Metric.counter(name, { ...options, incremental: true }))

const gauges = <L extends string>(name: string, definition: Definition<L>) =>
  family("gauge", name, definition, (options) => Metric.gauge(name, options))

const histograms = <L extends string>(name: string, boundaries: ReadonlyArray<number>, definition: Definition<L>) =>
  family("histogram", name, definition, (options) => Metric.histogram(name, { ...options, boundaries }))

const single = <M extends (typeof unlabelled)[number]>(metric: M): M => {
  unlabelled.push(metric)
  return metric
}

const counter = (name: string, definition: Definition<never>) => single(counters(name, definition)({}))
const gauge = (name: string, definition: Definition<never>) => single(gauges(name, definition)({}))
const histogram = (name: string, boundaries: ReadonlyArray<number>, definition: Definition<never>) =>
  single(histograms(name, boundaries, definition)({}))

/** Has a gauge ask for its value when somebody reads it, for as long as the scope is open. */
export const gaugeReads = (gauge: Metric.Gauge<number>, read: () => number): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.map(Effect.context<never>(), (context) =>
        Metric.registerUnsafe(gauge, context, {
          get: () => ({ value: read() }),
          update: () => undefined,
          modify: () => undefined
        })
      ),
      (registration) => Effect.sync(() => registration.remove())
    )
  )

// Accepting

export const tasksAccepted = counter("datamcp_tasks_accepted_total", {
  unit: "tasks",
  help: "Tasks whose acceptance this node committed"
})
export const tasksAdmitted = counter("datamcp_tasks_admitted_total", {
  unit: "tasks",
  help: "Tasks that waited for capacity and were queued by this node"
})
export const submissionsRefused = counters("datamcp_submissions_refused_total", {
  unit: "tasks",
  labels: ["reason"],
  help: "Tasks refused by the scheduler, by problem: InvalidInput, TooLarge, IdempotencyMismatch, UniqueKeyHeld, CoalesceMismatch, Overloaded, Unavailable"
})
export const acceptSeconds = histogram("datamcp_accept_seconds", secondsBoundaries, {
  unit: "seconds",
  help: "From a decoded submission to its answer after COMMIT"
})
export const schedulerMailboxDepth = gauge("datamcp_scheduler_mailbox_depth", {
  unit: "commands",
  help: "Commands that wait in this node's scheduler"
})

// Ledger

export const ledgerCommitSeconds = histograms("datamcp_ledger_commit_seconds", secondsBoundaries, {
  unit: "seconds",
  labels: ["operation"],
  help: "Duration of the ledger's transactions, repetitions included"
})
export const ledgerBatchSize = histograms("datamcp_ledger_batch_size", sizeBoundaries, {
  unit: "changes",
  labels: ["operation"],
  help: "Changes gathered into one transaction of the ledger"
})
export const tasksClaimed = counter("datamcp_tasks_claimed_total", {
  unit: "tasks",
  help: "Attempts begun: tasks claimed by instances of this node"
})
export const taskEnds = counters("datamcp_task_ends_total", {
  unit: "attempts",
  labels: ["outcome"],
  help: "Recorded ends of attempts: completed, failed, timeout, retry, released"
})
export const tasksCancelled = counter("datamcp_tasks_cancelled_total", {
  unit: "tasks",
  help: "Tasks that were cancelled through this node"
})
export const taskEndsFenced = counter("datamcp_task_ends_fenced_total", {
  unit: "attempts",
  help: "Ends of attempts that were refused because the attempt or epoch was outdated"
})
export const takeovers = counter("datamcp_instance_takeovers_total", {
  unit: "instances",
  help: "Instances that this node took over, by gaining them or at its start"
})

// Bus

export const dispatchMessages = counter("datamcp_dispatch_messages_total", {
  unit: "messages",
  help: "Dispatch messages published, each with one or more tasks"
})
export const dispatchTasks = counter("datamcp_dispatch_tasks_total", {
  unit: "tasks",
  help: "Tasks carried by published dispatch messages"
})
export const dispatchHanded = counter("datamcp_dispatch_handed_total", {
  unit: "tasks",
  help: "Tasks handed to the only instance of their agent, which lives on the same node and had a free slot"
})
export const dispatchGivenUp = counter("datamcp_dispatch_given_up_total", {
  unit: "messages",
  help: "Dispatch messages never acknowledged by JetStream; the reconciler finds their tasks"
})
export const busConnected = gauge("datamcp_bus_connected", {
  unit: "boolean",
  help: "1 while this node is connected to NATS"
})
export const dispatchRepeated = counter("datamcp_dispatch_repeated_total", {
  unit: "messages",
  help: "Dispatch messages published again because JetStream had refused or not acknowledged them"
})
export const dispatchRedelivered = counter("datamcp_dispatch_redelivered_total", {
  unit: "messages",
  help: "Dispatch messages that reached this node though JetStream had delivered them before"
})
export const busReconnects = counter("datamcp_bus_reconnects_total", {
  unit: "connections",
  help: "Connections to NATS that were made again after one was lost"
})
export const busStreamsMade = counters("datamcp_bus_streams_made_total", {
  unit: "streams",
  labels: ["stream"],
  help: "Streams that this node found missing and made: after the first start, stores that were lost"
})
export const busUndecodable = counters("datamcp_bus_undecodable_total", {
  unit: "messages",
  labels: ["kind"],
  help: "Messages that could not be understood, as a whole or in part, by kind: dispatch, event, notice, chunk, survey"
})
export const busDropped = counters("datamcp_bus_dropped_total", {
  unit: "messages",
  labels: ["kind"],
  help: "Messages never handed to NATS, because it was away and a bound was reached, by kind: dispatch, event, notice"
})
export const busNotices = counters("datamcp_bus_notices_total", {
  unit: "messages",
  labels: ["direction"],
  help: "Hints between nodes: sent, received"
})
export const busEventsPublished = counter("datamcp_bus_events_published_total", {
  unit: "events",
  help: "Recorded events handed to NATS"
})

// Webhooks

export const webhookAttempts = counters("datamcp_webhook_attempts_total", {
  unit: "attempts",
  labels: ["outcome"],
  help: "Attempts to deliver to webhooks that this node made, by outcome: delivered, retried, failed"
})
export const webhooksInFlight = gauge("datamcp_webhook_deliveries_in_flight", {
  unit: "deliveries",
  help: "Deliveries to webhooks that this node waits for"
})
export const hookRequests = counters("datamcp_hook_requests_total", {
  unit: "requests",
  labels: ["outcome"],
  help: "Requests to hooks by outcome: accepted, refused, not_found, overloaded"
})

// Running

export const instancesActive = gauge("datamcp_instances_active", {
  unit: "instances",
  help: "Instances of agents that are awake on this node"
})
export const tasksRunning = gauge("datamcp_tasks_running", {
  unit: "tasks",
  help: "Attempts that run on this node now"
})
export const taskRunSeconds = histogram("datamcp_task_run_seconds", secondsBoundaries, {
  unit: "seconds",
  help: "Duration of attempts, from claim to end"
})
export const isolatedKills = counters("datamcp_isolated_kills_total", {
  unit: "processes",
  labels: ["reason"],
  help: "Processes of isolated behaviours that ended in the middle of something, by reason: memory_limit, message_limit, unresponsive, process_exited, crashed"
})
export const isolatedProcesses = gauge("datamcp_isolated_processes", {
  unit: "processes",
  help: "Processes of isolated behaviours on this node, at work or ready for it"
})
export const instanceRestarts = counter("datamcp_instance_restarts_total", {
  unit: "restarts",
  help: "Restarts of crashed instances by their supervisor"
})
export const agentsQuarantined = counter("datamcp_agents_quarantined_total", {
  unit: "agents",
  help: "Agents put into error because their instances kept crashing"
})
export const reconciled = counters("datamcp_reconciled_total", {
  unit: "tasks",
  labels: ["kind"],
  help: "Tasks that a sweep of the reconciler moved on, by the sweep"
})

// Doors

export const httpRequests = counters("datamcp_http_requests_total", {
  unit: "requests",
  labels: ["route", "status"],
  help: "HTTP requests answered, by route and class of status (2xx, 4xx, ...)"
})
export const httpRequestSeconds = histograms("datamcp_http_request_seconds", secondsBoundaries, {
  unit: "seconds",
  labels: ["route"],
  help: "From the request's head to its answer"
})
export const natsRequests = counters("datamcp_nats_requests_total", {
  unit: "requests",
  labels: ["endpoint", "code"],
  help: "Requests to the micro service answered, by endpoint and code (200 or that of the error)"
})
export const natsRequestSeconds = histograms("datamcp_nats_request_seconds", secondsBoundaries, {
  unit: "seconds",
  labels: ["endpoint"],
  help: "From a request's arrival on NATS to its answer"
})
export const natsRequestsInFlight = gauge("datamcp_nats_requests_in_flight", {
  unit: "requests",
  help: "Requests of the micro service that are being worked on"
})

// Process

export const eventLoopLagSeconds = gauges("datamcp_event_loop_lag_seconds", {
  unit: "seconds",
  labels: ["quantile"],
  help: "How late the event loop served timers since the last reading: 0.5, 0.99 and 1 (the worst)"
})
export const processMemoryBytes = gauges("datamcp_process_memory_bytes", {
  unit: "bytes",
  labels: ["kind"],
  help: "Memory of the process: resident, heap_used, heap_total, external"
})
export const processCpuSeconds = counters("datamcp_process_cpu_seconds_total", {
  unit: "seconds",
  labels: ["mode"],
  help: "CPU time of the process since its start: user, system"
})
export const processUptimeSeconds = gauge("datamcp_process_uptime_seconds", {
  unit: "seconds",
  help: "Time since the process started"
})
export const buildInfo = gauges("datamcp_build_info", {
  unit: "constant",
  labels: ["version", "node_version"],
  help: "Always 1; its labels say what runs"
})

/** Every metric above, in their order. */
export const catalogue: ReadonlyArray<MetricEntry> = entries

/** Metrics without labels: shown as 0 before they first change, so that a dashboard can tell nothing from unknown. */
export const alwaysShown: ReadonlyArray<(typeof unlabelled)[number]> = unlabelled
