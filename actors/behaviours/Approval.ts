/**
 * The behaviour `approval`: waits, without a slot and for as long as need be, until somebody who may decides. As a task of
 * a graph it lets what depends on it go on, or not.
 *
 *   approve --> completed        reject --> failed, code `rejected`        nobody in time --> as `on_expiry` says
 *
 * Who may decide, and that it is decided once, is kept at the door, where decisions come in.
 */
import { Clock, Duration, Effect, Schema } from "effect"
import * as Limits from "../../protocol/Limits.ts"
import { ApprovalDecision, approvalSignal, Senders } from "../../protocol/Signal.ts"
import { Timestamp } from "../../protocol/Task.ts"
import { type Attempt, type Behaviour, BehaviourFailure, type RunAttempt } from "../Behaviour.ts"
import { parametersOf, payloadDecoder, settingsDecoder } from "./BehaviourInput.ts"

const Payload = Schema.Struct({
  message: Schema.String.check(Schema.isBetweenLength(1, Limits.descriptionCharactersMax)).annotateKey({
    description: "What is to be decided, for those who look at what waits."
  }),
  /** Who may decide: one of these is enough. Everybody with `task:approve` where none is given. */
  ...Senders.fields,
  until: Schema.optionalKey(Timestamp).annotateKey({ description: "When it expires; never when absent." }),
  timeout_ms: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.scheduleAheadMillisMax }))
  ).annotateKey({ description: "The same, from when the task first ran; the earlier of both counts." }),
  on_expiry: Schema.optionalKey(Schema.Literals(["approve", "reject", "fail"])).annotateKey({
    description: "What nobody's decision means; `fail` when absent: code `approval_expired`."
  })
})
type Payload = typeof Payload.Type

const decodePayload = payloadDecoder(Payload)
const decodeDecision = payloadDecoder(ApprovalDecision)
const decodeSettings = settingsDecoder(
  Schema.Record(Schema.String, Schema.Json).check(
    Schema.makeFilter((settings) => Object.keys(settings).length === 0, { expected: "empty: approval has no settings" })
  )
)

const run: RunAttempt = Effect.fnUntraced(function* (attempt) {
  const asked = yield* decodePayload(attempt.payload)
  const timeoutMillis = yield* timeoutOf(asked)
  const { decided_at, decided_by, decision, comment, expired } = yield* decided(attempt, asked, timeoutMillis)
  const outcome = {
    ...{ decision, message: asked.message, decided_by, decided_at, expired },
    ...(comment !== undefined && { comment })
  }
  if (decision === "approve") return outcome
  const why = comment === undefined ? "" : `: ${comment}`
  return yield* new BehaviourFailure({
    code: "rejected",
    message: expired ? "nobody approved in time" : `${decided_by} rejected it${why}`,
    retryable: false,
    details: outcome
  })
})

/** Counts from now, which is when the first attempt comes here: later ones keep what that one found. */
const timeoutOf = Effect.fnUntraced(function* ({ timeout_ms: timeout = Number.POSITIVE_INFINITY, until }: Payload) {
  const left = until === undefined ? Number.POSITIVE_INFINITY : Date.parse(until) - (yield* Clock.currentTimeMillis)
  const millis = Math.max(0, Math.min(timeout, left))
  return Number.isFinite(millis) ? millis : undefined
})

const decided = (attempt: Attempt, asked: Payload, timeoutMillis: number | undefined) => {
  const { actors, message, on_expiry: onExpiry = "fail", permission, roles } = asked
  const from: Senders = {
    ...(actors !== undefined && { actors }),
    ...(permission !== undefined && { permission }),
    ...(roles !== undefined && { roles })
  }
  return attempt
    .signal(approvalSignal, {
      message,
      hold: Duration.zero,
      ...(Object.keys(from).length > 0 && { from }),
      ...(timeoutMillis !== undefined && { timeout: Duration.millis(timeoutMillis) })
    })
    .pipe(
      Effect.flatMap(({ actor, at, payload }) =>
        Effect.map(decodeDecision(payload), ({ comment, decision }) => ({
          ...{ decision, comment, decided_by: actor, decided_at: at, expired: false }
        }))
      ),
      Effect.catchIf(
        ({ code }) => code === "signal_timeout",
        () =>
          onExpiry === "fail"
            ? Effect.fail(
                new BehaviourFailure({
                  code: "approval_expired",
                  message: "nobody decided in time",
                  retryable: false,
                  details: { message }
                })
              )
            : Effect.succeed({
                ...{ decision: onExpiry, comment: undefined, decided_by: null, decided_at: null, expired: true }
              })
      )
    )
}

export const approval: Behaviour = {
  type: "approval",
  description: "Waits until somebody who may approves or rejects; holds no slot while it waits.",
  capabilities: [
    {
      name: "approval",
      version: "1",
      description:
        "Completes as {decision: approve, decided_by, decided_at, comment} when it is approved, fails with code `rejected` when it is not.",
      parameters: parametersOf(Payload)
    }
  ],
  check: decodeSettings,
  open: (settings) => Effect.as(decodeSettings(settings), run)
}
