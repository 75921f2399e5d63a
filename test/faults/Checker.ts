/**
 * The history checker: what clients saw, what the outside world saw and what is stored at the end, held against the promises
 * of the platform (docs/guarantees.md). Pure; time and memory grow with the number of records, but for sorting.
 *
 * A run in which hardly anything succeeded while nothing was wrong, or in which no fault came to be, shows nothing: it is
 * `void`, however clean the rest is.
 */
import type { FinalState, StoredEvent, StoredTask } from "./FinalState.ts"
import type { Operation } from "./History.ts"
import type { SinkEntry } from "./Rig.ts"

export interface Evidence {
  readonly seed: number
  readonly operations: ReadonlyArray<Operation>
  readonly sink: ReadonlyArray<SinkEntry>
  readonly state: FinalState
  /** Times on the clients' monotonic clock in which nothing was wrong. */
  readonly calm: ReadonlyArray<{ readonly from: number; readonly to: number }>
  /** Faults that were seen to happen: connections cut, processes ended, writes fenced. */
  readonly faultsObserved: number
  /** From the last fault healed to the last task ended; undefined when some never ended. */
  readonly quietAfterMillis: number | undefined
  readonly quietBoundMillis: number
  /** Agents that run one task at a time. */
  readonly serialAgents: ReadonlyArray<string>
}

export interface CheckResult {
  readonly id: string
  readonly promise: string
  readonly outcome: "holds" | "broken" | "not applicable"
  /** Records that were looked at. */
  readonly looked: number
  readonly broken: number
  /** The first finding, with the records that show it and no others. */
  readonly example: { readonly found: string; readonly records: ReadonlyArray<unknown> } | undefined
}

export interface Verdict {
  readonly verdict: "pass" | "violated" | "void"
  readonly seed: number
  readonly checks: ReadonlyArray<CheckResult>
  readonly figures: {
    readonly operations: number
    readonly acknowledged: number
    readonly unknown: number
    readonly tasks: number
    readonly effects: number
    /** Calls that were answered beyond the first of their task: the attempt before it was cut short. */
    readonly effectsRepeated: number
    /** Tasks that may run at most once and ended with an unknown outcome. */
    readonly unknownOutcomes: number
    readonly calmOkRate: number
    readonly faultsObserved: number
  }
}

interface Finding {
  readonly found: string
  /** The task or key that it is about. */
  readonly subject: string
}

/** Records by what checks ask for, made once. */
interface Index extends Evidence {
  readonly tasks: ReadonlyMap<string, StoredTask>
  readonly eventsOf: ReadonlyMap<string, ReadonlyArray<StoredEvent>>
  readonly effectsOf: ReadonlyMap<string, ReadonlyArray<SinkEntry>>
  readonly operationsOf: ReadonlyMap<string, ReadonlyArray<Operation>>
  /** Ids that an answer named: committed, or the platform lied. */
  readonly acknowledged: ReadonlyMap<string, Operation>
  /** Keys of submissions that were begun, whatever came of them. */
  readonly keysTried: ReadonlySet<string>
}

interface Check {
  readonly id: string
  readonly promise: string
  readonly looked: (index: Index) => number
  /** Undefined: the platform does not have what this is about. */
  readonly find: ((index: Index) => Iterable<Finding>) | undefined
}

const terminal = new Set(["completed", "failed", "timeout", "cancelled"])
const ends = new Set(["TaskCompleted", "TaskFailed", "TaskTimedOut", "TaskCancelled"])
const over = new Set([...ends, "TaskRetried", "TaskQueued", "TaskPaused"])
const endOf: Readonly<Record<string, string>> = {
  ...{ completed: "TaskCompleted", failed: "TaskFailed", timeout: "TaskTimedOut", cancelled: "TaskCancelled" }
}

/** Which event may follow which. */
const follows: Readonly<Record<string, ReadonlyArray<string>>> = {
  TaskCreated: ["TaskQueued", "TaskStarted", "TaskPaused", "TaskFailed", "TaskTimedOut", "TaskCancelled"],
  TaskQueued: ["TaskQueued", "TaskStarted", "TaskPaused", "TaskFailed", "TaskTimedOut", "TaskCancelled"],
  TaskStarted: ["TaskProgressed", "TaskRetried", "TaskQueued", "TaskPaused", ...ends],
  TaskProgressed: ["TaskProgressed", "TaskRetried", "TaskQueued", "TaskPaused", ...ends],
  TaskRetried: ["TaskQueued", "TaskPaused", "TaskFailed", "TaskTimedOut", "TaskCancelled"],
  TaskPaused: ["TaskResumed", "TaskQueued", "TaskFailed", "TaskTimedOut", "TaskCancelled"],
  TaskResumed: ["TaskQueued", "TaskStarted", "TaskPaused", "TaskFailed", "TaskTimedOut", "TaskCancelled"],
  TaskCompleted: ["TaskResultExpired"],
  TaskFailed: ["TaskResultExpired"],
  TaskTimedOut: ["TaskResultExpired"],
  TaskCancelled: ["TaskResultExpired"],
  TaskResultExpired: []
}

/** A signal, a change of lane or agent, and a submission that joined it. */
const stateless: ReadonlySet<string> = new Set(["TaskSignalled", "TaskMoved", "TaskUpdated"])

/** What a map may do beside: its elements progress, and it ends, while no attempt of its own begins. */
const followsInMap: Readonly<Record<string, ReadonlyArray<string>>> = {
  TaskCreated: ["TaskProgressed", "TaskCompleted"]
}

const byTask = (look: (task: StoredTask, index: Index) => string | undefined) =>
  function* (index: Index): Iterable<Finding> {
    for (const task of index.state.tasks) {
      const found = look(task, index)
      if (found !== undefined) yield { subject: task.id, found }
    }
  }

const tasksLooked = ({ state }: Index) => state.tasks.length
const startsOf = (index: Index, task: string) =>
  (index.eventsOf.get(task) ?? []).filter(({ type }) => type === "TaskStarted")
const endsOf = (index: Index, task: string) => (index.eventsOf.get(task) ?? []).filter(({ type }) => ends.has(type))

const checks: ReadonlyArray<Check> = [
  {
    id: "C1",
    promise: "Every acknowledged task is there and has ended.",
    looked: ({ acknowledged }) => acknowledged.size,
    *find(index) {
      for (const [id, { key }] of index.acknowledged) {
        const task = index.tasks.get(id)
        if (task === undefined) yield { subject: id, found: `${id} was acknowledged under ${key} and is not there` }
        else if (!terminal.has(task.status))
          yield { subject: id, found: `${id} was acknowledged and is ${task.status}` }
      }
    }
  },
  {
    id: "C2",
    promise: "Every stored task was submitted by somebody.",
    looked: tasksLooked,
    *find(index) {
      const made = new Map(index.state.keys.map(({ key, task }) => [task, key] as const))
      for (const { id } of index.state.tasks) {
        const key = made.get(id)
        if (index.acknowledged.has(id) || (key !== undefined && index.keysTried.has(key))) continue
        yield { subject: id, found: `${id} is stored, and nobody has submitted it` }
      }
    }
  },
  {
    id: "C3",
    promise: "A task that has ended has one end, that of its status; others have none.",
    looked: tasksLooked,
    find: byTask((task, index) => {
      const own = endsOf(index, task.id).map(({ type }) => type)
      const due = endOf[task.status]
      if (own.length === (due === undefined ? 0 : 1) && own[0] === due) return undefined
      return `${task.status}, with the ends ${own.join(", ") || "none"}`
    })
  },
  {
    id: "C4",
    promise: "A task that completed by calling the outside world has called it.",
    looked: ({ sink }) => sink.length,
    find: byTask((task, index) => {
      if (task.status !== "completed" || task.type !== "http.fetch") return undefined
      const calls = index.effectsOf.get(task.id) ?? []
      return calls.some(({ answered }) => answered) ? undefined : `completed, with ${calls.length} calls, none answered`
    })
  },
  {
    id: "C5",
    promise:
      "The outside world is called at most once per started attempt, and once in all where a task may run once only.",
    looked: ({ sink }) => sink.length,
    *find(index) {
      for (const [id, calls] of index.effectsOf) {
        const task = index.tasks.get(id)
        const starts = startsOf(index, id).length
        if (task === undefined) yield { subject: id, found: `${calls.length} calls for a task that is not there` }
        else if (calls.length > starts) {
          yield { subject: id, found: `${calls.length} calls, but ${starts} attempts were started` }
        } else if (task.at_most_once && calls.length > 1) {
          yield { subject: id, found: `${calls.length} calls for a task that may run at most once` }
        }
      }
    }
  },
  {
    id: "C6",
    promise: "What an instance records never goes back to an older epoch.",
    looked: tasksLooked,
    *find(index) {
      const recorded = index.state.tasks.filter(({ ended_at, epoch, instance }) => {
        return ended_at !== null && instance !== null && epoch > 0
      })
      const sorted = recorded.toSorted((left, right) => {
        return (left.ended_at ?? 0) - (right.ended_at ?? 0) || left.epoch - right.epoch
      })
      const newest = new Map<string, StoredTask>()
      for (const task of sorted) {
        // Ended by somebody else, under no epoch of its own: cancelled, or lost with its instance.
        const last = index.eventsOf.get(task.id)?.at(-1)
        if (last?.lost === true || !["TaskCompleted", "TaskFailed", "TaskTimedOut"].includes(last?.type ?? "")) continue
        const lease = `${task.agent}/${task.instance}`
        const before = newest.get(lease)
        if (before !== undefined && before.epoch > task.epoch) {
          const found = `recorded under epoch ${task.epoch} of ${lease} after ${before.id} was under ${before.epoch}`
          yield { subject: task.id, found }
        } else newest.set(lease, task)
      }
    }
  },
  {
    id: "C7",
    promise: "An agent that runs one task at a time never has two accepted runs at once.",
    looked: ({ serialAgents, state }) => state.tasks.filter(({ agent }) => serialAgents.includes(agent ?? "")).length,
    *find(index) {
      const runs: Array<{ readonly agent: string; readonly task: string; readonly from: number; readonly to: number }> =
        []
      for (const { agent, id } of index.state.tasks) {
        if (agent === null || !index.serialAgents.includes(agent)) continue
        let from: number | undefined
        for (const { at, type } of index.eventsOf.get(id) ?? []) {
          if (type === "TaskStarted") from = at
          else if (over.has(type) && from !== undefined) {
            runs.push({ agent, task: id, from, to: at })
            from = undefined
          }
        }
      }
      runs.sort((left, right) => left.from - right.from)
      const latest = new Map<string, (typeof runs)[number]>()
      for (const run of runs) {
        const before = latest.get(run.agent)
        if (before !== undefined && before.to > run.from) {
          yield { subject: run.task, found: `started ${before.to - run.from} us before ${before.task} had ended` }
        }
        if (before === undefined || run.to > before.to) latest.set(run.agent, run)
      }
    }
  },
  {
    id: "C8",
    promise: "A child starts only after all its parents have ended, and once per attempt.",
    looked: ({ state }) => state.dependencies.length,
    *find(index) {
      for (const { child, parent } of index.state.dependencies) {
        const started = startsOf(index, child)[0]
        if (started === undefined) continue
        const ended = endsOf(index, parent)[0]
        if (ended !== undefined && ended.at <= started.at) continue
        yield {
          subject: child,
          found: `started ${ended === undefined ? "though" : "before"} ${parent} had ${ended === undefined ? "not " : ""}ended`
        }
      }
    }
  },
  {
    id: "C9",
    promise: "A task goes from state to state as its life cycle says.",
    looked: ({ state }) => state.events.length,
    find: byTask((task, index) => {
      // What comes in any state and changes none.
      const own = (index.eventsOf.get(task.id) ?? []).filter(({ type }) => !stateless.has(type))
      if (own[0]?.type !== "TaskCreated") return `begins with ${own[0]?.type ?? "nothing"}`
      for (let at = 1; at < own.length; at++) {
        const [before, after] = [own[at - 1]?.type ?? "", own[at]?.type ?? ""]
        if (task.map === true && followsInMap[before]?.includes(after) === true) continue
        if (follows[before]?.includes(after) !== true) return `${after} after ${before}`
      }
      return undefined
    })
  },
  {
    id: "C10",
    promise: "A task's events are numbered from 1 to its version without a gap.",
    looked: ({ state }) => state.events.length,
    find: byTask((task, index) => {
      const numbers = (index.eventsOf.get(task.id) ?? []).map(({ number }) => number)
      const isWhole = numbers.length === task.version && numbers.every((number, at) => number === at + 1)
      return isWhole ? undefined : `version ${task.version}, with the events ${numbers.join(", ")}`
    })
  },
  {
    id: "C11",
    promise: "One idempotency key is one task, and another command under it is refused.",
    looked: ({ operations }) => operations.length,
    *find(index) {
      for (const [key, operations] of index.operationsOf) {
        const ids = new Set<string>()
        for (const { kind, outcome, status, taskId } of operations) {
          if (kind === "conflict" && (outcome === "ok" || (outcome === "fail" && ![422, 429].includes(status)))) {
            yield { subject: key, found: `another command under ${key} was answered ${status}` }
          }
          if ((kind === "submit" || kind === "graph") && outcome === "ok" && taskId !== undefined) ids.add(taskId)
        }
        if (ids.size > 1) yield { subject: key, found: `${key} is ${[...ids].join(" and ")}` }
      }
    }
  },
  {
    id: "C12",
    promise: "What was acknowledged can be read, and is never seen older than it was.",
    looked: ({ operations }) => operations.filter(({ kind }) => kind === "read").length,
    *find(index) {
      for (const [key, operations] of index.operationsOf) {
        const acknowledged = operations.find(({ kind, outcome }) => kind === "submit" && outcome === "ok")
        const reads = operations.filter(({ kind, outcome }) => kind === "read" && outcome !== "info")
        if (acknowledged === undefined) continue
        // Newest version among the reads that had ended, in the order of their ends.
        const ended = reads.toSorted((left, right) => left.endedAt - right.endedAt)
        const begun = reads.toSorted((left, right) => left.invokedAt - right.invokedAt)
        let next = 0
        let newest = 0
        for (const read of begun) {
          for (
            let before = ended[next];
            before !== undefined && before.endedAt < read.invokedAt;
            before = ended[++next]
          )
            newest = Math.max(newest, before.seen?.version ?? 0)
          if (read.status === 404) yield { subject: key, found: `${read.taskId} was acknowledged and then not found` }
          else if (read.seen !== undefined && read.seen.version < newest) {
            yield { subject: key, found: `${read.taskId} was seen at version ${newest}, then at ${read.seen.version}` }
          }
        }
      }
    }
  },
  {
    id: "C13",
    promise: "Counters, tallies and limits agree with the tasks (all that `datamcp verify` checks).",
    looked: tasksLooked,
    *find(index) {
      for (const { check, found, subject } of index.state.breaches) yield { subject, found: `${check}: ${found}` }
    }
  },
  {
    id: "C14",
    promise:
      "No task has more attempts than it may, and every one that failed and was not retried is among the dead letters.",
    looked: tasksLooked,
    *find(index) {
      const dead = new Set(index.state.deadLetters)
      for (const { attempt, id, max_attempts, retried, status } of index.state.tasks) {
        if (attempt > max_attempts) yield { subject: id, found: `attempt ${attempt} of ${max_attempts}` }
        else if ((status === "failed" || status === "timeout") && retried !== true && !dead.has(id)) {
          yield { subject: id, found: `${status}, and not among the dead letters` }
        }
      }
    }
  },
  {
    id: "C15",
    promise: "The chain of audit records verifies.",
    looked: () => 0,
    // The platform keeps no audit chain yet.
    find: undefined
  },
  {
    id: "C16",
    promise: "All tasks have ended within a bound after the last fault.",
    looked: tasksLooked,
    *find({ quietAfterMillis, quietBoundMillis, state }) {
      if (quietAfterMillis !== undefined && quietAfterMillis <= quietBoundMillis) return
      const open = state.tasks.find(({ status }) => !terminal.has(status))
      const found =
        quietAfterMillis === undefined
          ? `not quiet within ${quietBoundMillis} ms${open === undefined ? "" : `; ${open.id} is ${open.status}`}`
          : `quiet after ${Math.round(quietAfterMillis)} ms only`
      yield { subject: open?.id ?? "", found }
    }
  }
]

/** Least share of submissions that must succeed while nothing is wrong. */
const calmOkRateLeast = 0.8

export const check = (evidence: Evidence): Verdict => {
  const index = indexOf(evidence)
  const results = checks.map((each) => resultOf(each, index))
  const calmOkRate = okRate(evidence)
  const isValid = calmOkRate >= calmOkRateLeast && evidence.faultsObserved > 0
  results.push({
    id: "C17",
    promise: "The run shows something: calm submissions succeed, and faults were seen.",
    outcome: isValid ? "holds" : "broken",
    looked: evidence.operations.length,
    broken: isValid ? 0 : 1,
    example: isValid
      ? undefined
      : {
          found: `${Math.round(calmOkRate * 100)} % ok while calm, ${evidence.faultsObserved} faults seen`,
          records: []
        }
  })
  const isBroken = results.some(({ id, outcome }) => id !== "C17" && outcome === "broken")
  let effectsRepeated = 0
  for (const calls of index.effectsOf.values()) {
    effectsRepeated += Math.max(0, calls.filter(({ answered }) => answered).length - 1)
  }
  return {
    verdict: isBroken ? "violated" : isValid ? "pass" : "void",
    seed: evidence.seed,
    checks: results,
    figures: {
      operations: evidence.operations.length,
      acknowledged: index.acknowledged.size,
      unknown: evidence.operations.filter(({ outcome }) => outcome === "info").length,
      tasks: evidence.state.tasks.length,
      effects: evidence.sink.length,
      effectsRepeated,
      unknownOutcomes: evidence.state.tasks.filter(({ at_most_once, status }) => at_most_once && status === "failed")
        .length,
      calmOkRate,
      faultsObserved: evidence.faultsObserved
    }
  }
}

const indexOf = (evidence: Evidence): Index => {
  const acknowledged = new Map<string, Operation>()
  const keysTried = new Set<string>()
  for (const operation of evidence.operations) {
    if (operation.kind !== "submit" && operation.kind !== "graph") continue
    keysTried.add(operation.key)
    if (operation.outcome === "ok") for (const id of operation.taskIds) acknowledged.set(id, operation)
  }
  const eventsOf = grouped(evidence.state.events, ({ task }) => task)
  for (const own of eventsOf.values()) own.sort((left, right) => left.number - right.number)
  return {
    ...evidence,
    tasks: new Map(evidence.state.tasks.map((task) => [task.id, task] as const)),
    eventsOf,
    effectsOf: grouped(evidence.sink, ({ key }) => key),
    operationsOf: grouped(evidence.operations, ({ key }) => key),
    ...{ acknowledged, keysTried }
  }
}

const grouped = <A>(list: ReadonlyArray<A>, keyOf: (of: A) => string): Map<string, Array<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const each of list) {
    const group = groups.get(keyOf(each))
    if (group === undefined) groups.set(keyOf(each), [each])
    else group.push(each)
  }
  return groups
}

const resultOf = ({ find, id, looked, promise }: Check, index: Index): CheckResult => {
  if (find === undefined) return { id, promise, outcome: "not applicable", looked: 0, broken: 0, example: undefined }
  const findings = [...find(index)]
  const [first] = findings
  return {
    ...{
      id,
      promise,
      outcome: first === undefined ? "holds" : "broken",
      looked: looked(index),
      broken: findings.length
    },
    example: first === undefined ? undefined : { found: first.found, records: recordsOf(first.subject, index) }
  }
}

/** All that is known of one task or key, and nothing else: the smallest history that shows the finding. */
const recordsOf = (subject: string, index: Index): ReadonlyArray<unknown> => {
  const id = subject.split(" ")[0] ?? subject
  const key = index.acknowledged.get(id)?.key ?? id
  return [
    ...(index.operationsOf.get(key) ?? []),
    ...[index.tasks.get(id) ?? []].flat(),
    ...(index.eventsOf.get(id) ?? []),
    ...(index.effectsOf.get(id) ?? [])
  ].slice(0, recordsMax)
}
const recordsMax = 60

/** Of submissions that were begun and answered within a calm time: how many the platform took. */
const okRate = ({ calm, operations }: Evidence): number => {
  let asked = 0
  let taken = 0
  for (const { endedAt, invokedAt, kind, outcome } of operations) {
    if (kind !== "submit" && kind !== "graph") continue
    if (!calm.some(({ from, to }) => invokedAt >= from && !(endedAt > to))) continue
    asked++
    if (outcome === "ok") taken++
  }
  return asked === 0 ? 0 : taken / asked
}
