/**
 * A run in which everything went right, as records, and what each planted bug would have made of it. The checker must find
 * every one of them, and nothing in the clean run.
 */
import { type Chance, fromSeed } from "./Chance.ts"
import type { Evidence } from "./Checker.ts"
import type { FinalState, StoredEvent, StoredTask } from "./FinalState.ts"
import type { Operation } from "./History.ts"
import type { SinkEntry } from "./Rig.ts"

type Mutable<A> = { -readonly [key in keyof A]: A[key] }

/** The same records as `Evidence`, to be changed. */
export interface Draft {
  operations: Array<Mutable<Operation>>
  sink: Array<Mutable<SinkEntry>>
  tasks: Array<Mutable<StoredTask>>
  events: Array<Mutable<StoredEvent>>
  dependencies: Array<{ child: string; parent: string }>
  keys: Array<{ key: string; task: string }>
  breaches: Array<FinalState["breaches"][number]>
  deadLetters: Array<string>
  calm: Array<{ from: number; to: number }>
  faultsObserved: number
  quietAfterMillis: number | undefined
}

const serial = "serial"

/** `tasks` submissions in 60 s, calm at both ends, with lost instances, retries, reads and repeated submissions in between. */
export const cleanRun = (seed: number, tasks = 200): Draft => {
  const chance = fromSeed(seed)
  const draft: Draft = {
    ...{ operations: [], sink: [], tasks: [], events: [], dependencies: [], keys: [], breaches: [], deadLetters: [] },
    ...{ calm: [], faultsObserved: 3, quietAfterMillis: 1_200 }
  }
  const spacing = 60_000 / tasks
  let serialFree = 0
  let parent: { readonly id: string; readonly endedAt: number } | undefined
  for (let number = 0; number < tasks; number++) {
    const invokedAt = number * spacing
    const isCalm = invokedAt < 15_000 || invokedAt > 45_000
    const made = makeTask({ chance, number, invokedAt, isCalm, serialFree, parent })
    if (made.task.agent === serial) serialFree = made.endedAt
    parent = number % 10 === 0 ? { id: made.task.id, endedAt: made.endedAt } : undefined
    draft.operations.push(...made.operations)
    draft.tasks.push(made.task)
    draft.events.push(...made.events)
    draft.sink.push(...made.sink)
    draft.dependencies.push(...made.dependencies)
    draft.keys.push({ key: made.key, task: made.task.id })
    if (made.task.status === "failed") draft.deadLetters.push(made.task.id)
  }
  for (const [number, operation] of draft.operations.entries()) Object.assign(operation, { number })
  draft.calm.push({ from: 0, to: 15_000 }, { from: 45_000, to: 61_000 })
  return draft
}

const makeTask = (given: {
  readonly chance: Chance
  readonly number: number
  readonly invokedAt: number
  readonly isCalm: boolean
  readonly serialFree: number
  readonly parent: { readonly id: string; readonly endedAt: number } | undefined
}) => {
  const { chance, invokedAt, isCalm, number, parent } = given
  const id = `task-${number}`
  const key = `op-${number}`
  const isSerial = number % 7 === 3
  const isOnce = !isSerial && number % 9 === 4
  const isLost = !isCalm && !isSerial && chance.next() < 0.2
  const micros = (millis: number) => Math.round(millis * 1_000)
  const events: Array<Mutable<StoredEvent>> = []
  const add = (type: string, millis: number, attempt: number | null = null, lost = false) =>
    void events.push({ task: id, number: events.length + 1, type, at: micros(millis), attempt, lost })
  const sink: Array<Mutable<SinkEntry>> = []
  let at = invokedAt + 2
  add("TaskCreated", at)
  at = Math.max(at + 1, given.serialFree + 1, (parent?.endedAt ?? 0) + 1)
  let attempt = 1
  const run = () => {
    add("TaskStarted", at, attempt)
    sink.push({ key: id, label: key, at, answered: true })
    at += chance.between(1, 40)
  }
  run()
  let status = "completed"
  if (isLost && isOnce) {
    status = "failed"
    add("TaskFailed", at, attempt, true)
  } else {
    if (isLost) {
      add("TaskQueued", at, attempt, true)
      attempt++
      at += 3_000
      run()
    }
    add("TaskCompleted", at, attempt)
  }
  const operation = (of: Partial<Operation>): Mutable<Operation> => ({
    ...{ number: 0, kind: "submit", key, invokedAt, endedAt: invokedAt + 5, outcome: "ok", status: 202, taskId: id },
    ...{ taskIds: [id], seen: undefined, node: "node-1" },
    ...of
  })
  const operations = isLost
    ? [
        operation({ outcome: "info", status: 0, taskId: undefined, taskIds: [], endedAt: invokedAt + 4 }),
        operation({ invokedAt: invokedAt + 5, endedAt: invokedAt + 9 })
      ]
    : [operation({})]
  const version = events.length
  const read = (after: number, seen: Operation["seen"]) =>
    operation({ kind: "read", invokedAt: at + after, endedAt: at + after + 2, status: 200, seen, taskIds: [] })
  operations.push(read(10, { status, version: version - 1 }), read(20, { status, version }))
  operations.push(
    operation({ kind: "conflict", outcome: "fail", status: 422, invokedAt: at + 30, endedAt: at + 31, taskIds: [] })
  )
  // Every 15 s all instances are taken over.
  const epoch = 1 + Math.floor(at / 15_000)
  const task: Mutable<StoredTask> = {
    ...{ id, agent: isSerial ? serial : `effects-${number % 3}`, instance: 0, epoch, status, attempt, max_attempts: 5 },
    ...{ at_most_once: isOnce, version, type: "http.fetch", ended_at: micros(at) }
  }
  const dependencies = parent === undefined ? [] : [{ child: id, parent: parent.id }]
  return { key, task, events, sink, operations, dependencies, endedAt: at }
}

export const evidenceOf = (draft: Draft, seed: number): Evidence => ({
  seed,
  operations: draft.operations,
  sink: draft.sink,
  state: {
    tasks: draft.tasks,
    events: draft.events,
    dependencies: draft.dependencies,
    keys: draft.keys,
    breaches: draft.breaches,
    deadLetters: draft.deadLetters
  },
  calm: draft.calm,
  faultsObserved: draft.faultsObserved,
  quietAfterMillis: draft.quietAfterMillis,
  quietBoundMillis: 60_000,
  serialAgents: [serial]
})

export interface PlantedHistory {
  readonly bug: string
  /** The check that must find it. Others may, too. */
  readonly check: string
  readonly plant: (draft: Draft, chance: Chance) => void
}

const completed = (draft: Draft, chance: Chance, fits: (task: StoredTask) => boolean = () => true) =>
  chance.pick(draft.tasks.filter((task) => task.status === "completed" && fits(task)))

const eventsOf = (draft: Draft, id: string) => draft.events.filter(({ task }) => task === id)

const startOf = (draft: Draft, id: string) => {
  const start = eventsOf(draft, id).find(({ type }) => type === "TaskStarted")
  if (start === undefined) throw new Error(`${id} never started`)
  return start
}

const forget = (draft: Draft, id: string) => {
  draft.tasks = draft.tasks.filter((task) => task.id !== id)
  draft.events = draft.events.filter(({ task }) => task !== id)
  draft.keys = draft.keys.filter(({ task }) => task !== id)
  draft.sink = draft.sink.filter(({ key }) => key !== id)
  draft.dependencies = draft.dependencies.filter(({ child, parent }) => child !== id && parent !== id)
}

export const plantedHistories: ReadonlyArray<PlantedHistory> = [
  {
    bug: "a submission is answered before its commit, and the commit is lost",
    check: "C1",
    plant: (draft, chance) => forget(draft, completed(draft, chance).id)
  },
  {
    bug: "an end is recorded without a look at epoch or attempt: twice",
    check: "C3",
    plant: (draft, chance) => {
      const task = completed(draft, chance)
      const last = eventsOf(draft, task.id).at(-1)
      if (last === undefined) return
      draft.events.push({ ...last, number: last.number + 1 })
      task.version++
    }
  },
  {
    bug: "an end of an older epoch is recorded after a newer one's first",
    check: "C6",
    plant: (draft, chance) => {
      const late = completed(draft, chance, ({ epoch, ended_at }) => epoch > 2 && (ended_at ?? 0) > 50_000_000)
      late.epoch = 1
    }
  },
  {
    bug: "a cursor over events trusts a sequence, and passes one that commits late",
    check: "C10",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance)
      draft.events = draft.events.filter(({ number, task }) => task !== id || number !== 2)
    }
  },
  {
    bug: "dispatch forgets a task whose acknowledgement did not come in time",
    check: "C16",
    plant: (draft, chance) => {
      const task = completed(draft, chance)
      Object.assign(task, { status: "queued", ended_at: null, version: 1, attempt: 0 })
      draft.events = draft.events.filter((event) => event.task !== task.id || event.number === 1)
      draft.sink = draft.sink.filter(({ key }) => key !== task.id)
      draft.quietAfterMillis = undefined
    }
  },
  {
    bug: "a message is acknowledged before the claim, and the claim is lost",
    check: "C1",
    plant: (draft, chance) => {
      const task = completed(draft, chance)
      Object.assign(task, { status: "running", ended_at: null })
      draft.events = draft.events.filter((event) => event.task !== task.id || event.type !== "TaskCompleted")
      task.version--
    }
  },
  {
    bug: "the order of arrival is trusted: a run begins while the one before it goes on",
    check: "C7",
    plant: (draft) => {
      const runs = draft.tasks.filter(({ agent }) => agent === serial)
      const [first, second] = [runs[3], runs[4]]
      if (first === undefined || second === undefined) return
      startOf(draft, second.id).at = startOf(draft, first.id).at + 1
    }
  },
  {
    bug: "a doubled message is known by its message id only, and runs again minutes later",
    check: "C5",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance)
      const first = draft.sink.find(({ key }) => key === id)
      if (first !== undefined) draft.sink.push({ ...first, at: first.at + 180_000 })
    }
  },
  {
    bug: "a message is delivered three times at most, and nobody asks Postgres",
    check: "C1",
    plant: (draft, chance) => {
      const task = completed(draft, chance)
      Object.assign(task, { status: "queued", ended_at: null })
      const end = eventsOf(draft, task.id).at(-1)
      if (end !== undefined) Object.assign(end, { type: "TaskQueued", lost: true })
    }
  },
  {
    bug: "attempts are counted where a lost message can make it forget them",
    check: "C14",
    plant: (draft, chance) => {
      completed(draft, chance).attempt = 6
    }
  },
  {
    bug: "a dependency is counted down twice: a child starts before its parents have ended",
    check: "C8",
    plant: (draft, chance) => {
      const { child, parent } = chance.pick(draft.dependencies)
      startOf(draft, child).at = startOf(draft, parent).at
    }
  },
  {
    bug: "an idempotency key is looked up outside the transaction: two tasks",
    check: "C11",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance)
      const operation = draft.operations.find(({ kind, taskId }) => kind === "submit" && taskId === id)
      const task = draft.tasks.find((each) => each.id === id)
      if (operation === undefined || task === undefined) return
      const double = `${id}-again`
      draft.operations.push({ ...operation, taskId: double, taskIds: [double] })
      draft.tasks.push({ ...task, id: double })
      draft.events.push(...eventsOf(draft, id).map((event) => ({ ...event, task: double })))
      draft.sink.push(...draft.sink.filter(({ key }) => key === id).map((entry) => ({ ...entry, key: double })))
    }
  },
  {
    bug: "an idempotency key is kept without what it stood for: another command is taken under it",
    check: "C11",
    plant: (draft, chance) => {
      const operation = chance.pick(draft.operations.filter(({ kind }) => kind === "conflict"))
      Object.assign(operation, { outcome: "ok", status: 202 })
    }
  },
  {
    bug: "a lock elsewhere says who owns an instance: two of them run the same task",
    check: "C9",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance)
      const start = startOf(draft, id)
      const task = draft.tasks.find((each) => each.id === id)
      for (const event of eventsOf(draft, id)) if (event.number > start.number) event.number++
      draft.events.push({ ...start, number: start.number + 1 })
      if (task !== undefined) task.version++
    }
  },
  {
    bug: "a task that may run at most once is tried again",
    check: "C5",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance, ({ at_most_once }) => at_most_once)
      const start = startOf(draft, id)
      const task = draft.tasks.find((each) => each.id === id)
      for (const event of eventsOf(draft, id)) if (event.number > start.number) event.number += 2
      draft.events.push(
        { ...start, number: start.number + 1, type: "TaskQueued", lost: true },
        { ...start, number: start.number + 2 }
      )
      const call = draft.sink.find(({ key }) => key === id)
      if (call !== undefined) draft.sink.push({ ...call })
      if (task !== undefined) task.version += 2
    }
  },
  {
    bug: "timers follow the wall clock: what was due is never started",
    check: "C16",
    plant: (draft) => {
      draft.quietAfterMillis = 3_600_000
    }
  },
  {
    bug: "a result is recorded of a call that was never made",
    check: "C4",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance)
      draft.sink = draft.sink.filter(({ key }) => key !== id)
    }
  },
  {
    bug: "a task is stored that nobody submitted",
    check: "C2",
    plant: (draft, chance) => {
      const task = completed(draft, chance)
      draft.tasks.push({ ...task, id: "phantom" })
      draft.events.push(...eventsOf(draft, task.id).map((event) => ({ ...event, task: "phantom" })))
      draft.sink.push({ key: "phantom", label: "", at: 0, answered: true })
    }
  },
  {
    bug: "a read comes from a copy that is behind",
    check: "C12",
    plant: (draft, chance) => {
      const reads = draft.operations.filter(({ kind, seen }) => kind === "read" && (seen?.version ?? 0) > 2)
      const last = chance.pick(reads.filter((_, at) => at % 2 === 1))
      last.seen = { status: "queued", version: 1 }
    }
  },
  {
    bug: "what was acknowledged is not found",
    check: "C12",
    plant: (draft, chance) => {
      const read = chance.pick(draft.operations.filter(({ kind }) => kind === "read"))
      Object.assign(read, { outcome: "fail", status: 404, seen: undefined })
    }
  },
  {
    bug: "a counter of dependencies is wrong, as `datamcp verify` finds",
    check: "C13",
    plant: (draft) => {
      draft.breaches.push({
        check: "dependencies-counted",
        subject: "task-1",
        found: "counts 2 open dependencies, has 1"
      })
    }
  },
  {
    bug: "a failed task is not among the dead letters",
    check: "C14",
    plant: (draft, chance) => {
      const { id } = completed(draft, chance)
      const task = draft.tasks.find((each) => each.id === id)
      const end = eventsOf(draft, id).at(-1)
      if (task !== undefined) task.status = "failed"
      if (end !== undefined) end.type = "TaskFailed"
    }
  }
]
