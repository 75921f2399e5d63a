/**
 * `datamcp tasks submit`: a task from flags, from a file, or from both.
 */
import { Effect, Option, Predicate, Record, Schedule } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { HttpClientError } from "effect/http"
import * as Limits from "../../protocol/Limits.ts"
import { type AcceptedTask, priorities, SubmitTask } from "../../protocol/Task.ts"
import { Keep, OnConflict } from "../../protocol/TaskKeys.ts"
import { awaitAndShow } from "./Await.ts"
import { Client } from "./Client.ts"
import { decodeCommand, millisFlag, readJson, readObject } from "./input.ts"
import { Output } from "./Output.ts"

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

export const wait = Flag.Boolean("wait").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Stay until it has ended; exit code 1 unless it completed")
)

const flags = {
  type: Argument.String("type").pipe(
    Argument.withDescription("Kind of work, such as echo or http.fetch; not needed with an agent that can do one only"),
    Argument.optional
  ),
  agent: text("agent", "Agent that shall do it, by name or id").pipe(Flag.withAlias("a")),
  payload: text("payload", "JSON, @file, or - for standard input").pipe(Flag.withAlias("p")),
  name: text("name", "What people call it"),
  priority: Flag.Literals("priority", priorities).pipe(
    Flag.withDescription("Lane; normal if not given"),
    Flag.optional
  ),
  timeout: millisFlag("timeout").pipe(Flag.withDescription("Longest run of one attempt"), Flag.optional),
  attempts: Flag.Int("attempts").pipe(Flag.withDescription("Most attempts, the first included"), Flag.optional),
  retry: text("retry", "Retry policy: JSON or @file; --attempts goes before what it says"),
  runAt: text("run-at", "Earliest start, RFC 3339"),
  deadline: text("deadline", "When it ends whatever it is doing, RFC 3339"),
  queueTimeout: millisFlag("queue-timeout", Limits.queueTimeoutMillisMax).pipe(
    Flag.withDescription("Longest wait for its start once it is ready; then it ends as timeout"),
    Flag.optional
  ),
  unique: text("unique", "Key that no other task may have while this one has not ended"),
  onConflict: Flag.Literals("on-conflict", OnConflict.literals).pipe(
    Flag.withDescription("When a task has the key of --unique: refuse (if not given), or answer with the existing one"),
    Flag.optional
  ),
  coalesce: text("coalesce", "Key under which submissions join one waiting task; needs --quiet, --max-wait or both"),
  keep: Flag.Literals("keep", Keep.literals).pipe(
    Flag.withDescription("Of payloads that join: the latest (if not given), or all as a list"),
    Flag.optional
  ),
  quiet: millisFlag("quiet").pipe(Flag.withDescription("Start when nothing has joined for so long"), Flag.optional),
  maxWait: millisFlag("max-wait").pipe(
    Flag.withDescription("Start so long after the first submission at the latest"),
    Flag.optional
  ),
  maxItems: Flag.Int("max-items").pipe(
    Flag.withDescription("With --keep all: start when so many have joined"),
    Flag.optional
  ),
  after: Flag.String("after").pipe(
    Flag.withDescription("Id of a task that must complete first; may be repeated"),
    Flag.between(0, Limits.dependenciesMax)
  ),
  label: Flag.KeyValuePair("label").pipe(Flag.withDescription("key=value; may be repeated"), Flag.optional),
  file: text("file", "The whole task as JSON (- for standard input); other flags replace its fields").pipe(
    Flag.withAlias("f")
  ),
  idempotencyKey: text(
    "idempotency-key",
    `The same key gives the same task for ${Limits.idempotencyKeyHours} h; a fresh one if not given`
  ),
  wait
}

type Flags = Command.Command.Config.Infer<typeof flags>

const commandFrom = Effect.fnUntraced(function* (given: Flags) {
  const file = Option.isSome(given.file) ? yield* readObject(given.file.value) : {}
  const payload = Option.isSome(given.payload) ? yield* readJson("payload", given.payload.value) : undefined
  const retry = Option.isSome(given.retry) ? yield* readJson("retry", given.retry.value) : undefined
  const base = yield* decodeCommand(
    SubmitTask,
    file,
    Option.getOrElse(given.file, () => "The task")
  )
  const fields = Record.getSomes<string, unknown>({
    type: given.type,
    agent: given.agent,
    name: given.name,
    priority: given.priority,
    run_at: given.runAt,
    deadline: given.deadline,
    labels: given.label,
    idempotency_key: given.idempotencyKey,
    payload: Option.fromUndefinedOr(payload),
    unique: uniqueFrom(given),
    coalesce: coalesceFrom(given),
    dependencies: given.after.length === 0 ? Option.none() : Option.some(given.after.map((task_id) => ({ task_id })))
  })
  const configuration = {
    ...base.configuration,
    ...Record.getSomes<string, unknown>({
      timeout_ms: given.timeout,
      queue_timeout_ms: given.queueTimeout,
      retry: retryFrom(retry ?? base.configuration?.retry, given.attempts)
    })
  }
  const fresh = yield* Effect.sync(() => crypto.randomUUID())
  return yield* decodeCommand(
    SubmitTask,
    {
      idempotency_key: fresh,
      ...base,
      ...fields,
      ...(Object.keys(configuration).length === 0 ? {} : { configuration })
    },
    "The task"
  )
})

const uniqueFrom = ({ onConflict, unique }: Flags): Option.Option<unknown> =>
  Option.isNone(unique) && Option.isNone(onConflict)
    ? Option.none()
    : Option.some(Record.getSomes<string, unknown>({ key: unique, on_conflict: onConflict }))

const coalesceFrom = ({ coalesce: key, keep, maxItems, maxWait, quiet }: Flags): Option.Option<unknown> => {
  const said = Record.getSomes<string, unknown>({
    key,
    keep,
    quiet_ms: quiet,
    max_wait_ms: maxWait,
    max_items: maxItems
  })
  return Record.isEmptyRecord(said) ? Option.none() : Option.some({ keep: "latest", ...said })
}

/** A policy with the number of attempts that a flag says; what is no object is left to the schema to refuse. */
const retryFrom = (policy: unknown, attempts: Option.Option<number>): Option.Option<unknown> =>
  Option.match(attempts, {
    onNone: () => Option.fromUndefinedOr(policy),
    onSome: (max_attempts) =>
      Option.some(Predicate.isObject(policy) || policy === undefined ? { ...policy, max_attempts } : policy)
  })

/** A submission with an idempotency key may be sent again when its answer was lost (G2). */
export const againIfAnswerWasLost = <A, E, R>(submission: Effect.Effect<A, E, R>) =>
  Effect.retry(submission, {
    schedule: Schedule.spaced("500 millis"),
    times: 3,
    while: (error) =>
      HttpClientError.isHttpClientError(error) && error.reason._tag === "TransportError" && wasCut(error)
  })

/** The connection stood and was cut: unlike a refused one, the request may have been heard. */
const wasCut = (error: HttpClientError.HttpClientError) => /ECONNRESET|UND_ERR_SOCKET|EPIPE/u.test(codeOf(error))

const codeOf = (error: unknown): string => {
  for (let cause = error, depth = 0; depth < 6 && typeof cause === "object" && cause !== null; depth++) {
    if ("code" in cause) return String(cause.code)
    cause = "cause" in cause ? cause.cause : "reason" in cause ? cause.reason : undefined
  }
  return ""
}

export const submit = Command.make(
  "submit",
  flags,
  Effect.fn("tasks.submit")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* commandFrom(given)
    const accepted = yield* againIfAnswerWasLost(client.tasks.submit({ payload, headers: {} }))
    yield* given.wait ? awaitAndShow(accepted.id) : output.answer(accepted, acceptedLine)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Submit a task"),
  Command.withExamples([
    {
      command: `datamcp tasks submit echo --payload '{"hello":"world"}' --wait`,
      description: "Run one and see its result"
    },
    { command: "datamcp tasks submit --file task.json", description: "A task from a file" }
  ])
)

export const acceptedLine = (task: AcceptedTask) =>
  [
    task.id,
    task.status + (task.waiting_for === null ? "" : ` (waits for ${task.waiting_for})`),
    task.duplicate ? "there already: nothing was added" : "",
    task.coalesced === true ? "joined this task, which waits" : ""
  ]
    .join("  ")
    .trimEnd()
