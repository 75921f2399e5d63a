/**
 * The use cases of hooks: define them, and submit a task for a request that one of them vouches for.
 *
 * Invariant: whoever cannot prove where a request comes from learns nothing, not even whether the hook exists. A hook submits
 * with its own rights (`task:create` in its namespace) and none of its maker's.
 */
import { createHash } from "node:crypto"
import { Clock, Context, Effect, Layer, Metric, Option, Result, Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import { Bus } from "../../actors/ports/Bus.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { prefix } from "../../protocol/api/Wire.ts"
import type { Event } from "../../protocol/Event.ts"
import {
  type CreatedHook,
  type CreateHook,
  type Hook,
  type HookAccepted,
  type HookAuthentication,
  hookPerMinuteDefault,
  type RotateHook,
  type UpdateHook
} from "../../protocol/Hook.ts"
import { HookId, type HookName } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { Page } from "../../protocol/Page.ts"
import { Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  type Forbidden,
  HookNotFound,
  type InvalidInput,
  invalidField,
  Overloaded,
  type SubmitProblem,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import { type CallableHook, type HookDefinition, HookStore } from "../ledger/HookStore.ts"
import { isSame, isSigned, isSignedLikeGitHub, parseSecret, secretBytes, secretText } from "../webhooks/Signature.ts"
import { authorize } from "./authorize.ts"
import { changedBy } from "./changedBy.ts"
import { checkTemplate, fillTemplate } from "./HookTemplate.ts"
import { orUnavailable } from "./outage.ts"
import * as RequestRate from "./RequestRate.ts"
import { Tasks } from "./Tasks.ts"

type Denied = Forbidden | Unavailable

/** A request to a hook. The body is read only once what the URL says has been checked, and decoded once it is trusted. */
export interface HookCall<E, R> {
  readonly id: string
  /** The last part of the URL, where a secret may stand. */
  readonly secret: string | undefined
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Effect.Effect<Uint8Array, E, R>
  readonly decode: (bytes: Uint8Array) => Result.Result<Schema.Json, E>
}

export class Hooks extends Context.Service<
  Hooks,
  {
    readonly create: (command: CreateHook) => Effect.Effect<CreatedHook, InvalidInput | Conflict | Denied, Principal>
    readonly list: (query: PageQuery) => Effect.Effect<Page<Hook>, InvalidInput | Denied, Principal>
    readonly get: (id: HookId) => Effect.Effect<Hook, HookNotFound | Denied, Principal>
    readonly update: (
      id: HookId,
      command: UpdateHook,
      ifVersion: number | undefined
    ) => Effect.Effect<Hook, HookNotFound | InvalidInput | Conflict | Denied, Principal>
    readonly remove: (id: HookId) => Effect.Effect<void, HookNotFound | Denied, Principal>
    /** The old secret is refused at once. */
    readonly rotate: (
      id: HookId,
      command: RotateHook
    ) => Effect.Effect<CreatedHook, HookNotFound | InvalidInput | Denied, Principal>
    /**
     * Submits the hook's task for a request. `HookNotFound` alike for an unknown hook, a disabled one, a wrong secret and a
     * wrong or old signature; `Overloaded` above the hook's rate. The same value of its idempotency header gives the same task.
     */
    readonly call: <E, R>(call: HookCall<E, R>) => Effect.Effect<HookAccepted, HookNotFound | SubmitProblem | E, R>
  }
>()("datamcp/app/Hooks") {
  static readonly layer = Layer.effect(
    Hooks,
    Effect.gen(function* () {
      const store = yield* HookStore
      const tasks = yield* Tasks
      const random = yield* SecureRandom.SecureRandom
      const bus = yield* Bus
      const ids = yield* UuidV7
      const takeToken = yield* RequestRate.make
      let unproven = 0

      const tell = (event: Event | undefined) => (event === undefined ? Effect.void : bus.publishEvents([event]))

      /** What is shown once, and what is stored of it. */
      const secretFor = Effect.fnUntraced(function* (authentication: HookAuthentication, given: string | undefined) {
        if (authentication === "secret") {
          if (given !== undefined)
            return yield* invalidField("secret", "is always made here for authentication `secret`")
          const shown = Buffer.from(yield* random.randomBytes(secretBytes)).toString("base64url")
          return { shown, stored: sha256(shown) }
        }
        if (authentication === "github") {
          const shown = given ?? Buffer.from(yield* random.randomBytes(secretBytes)).toString("base64url")
          return { shown, stored: Buffer.from(shown) }
        }
        const stored = given === undefined ? Buffer.from(yield* random.randomBytes(secretBytes)) : parseSecret(given)
        if (stored === undefined) return yield* invalidField("secret", "must be whsec_ and 24 to 64 bytes as base64")
        return { shown: secretText(stored), stored }
      })

      const created = (hook: Hook, secret: string): CreatedHook => ({
        ...hook,
        secret,
        path: `${prefix}/hooks/${hook.id}${hook.authentication === "secret" ? `/${secret}` : ""}`
      })

      const create: Hooks["Service"]["create"] = Effect.fn("Hooks.create")(function* (command) {
        // What a hook may do its maker must be allowed to.
        const principal = yield* authorize("webhook:write", "task:create")
        yield* Effect.fromResult(checkTemplate(command.task))
        const { shown, stored } = yield* secretFor(command.authentication, command.secret)
        const made = yield* store.create(
          {
            id: HookId.make(ids.next()),
            namespace: principal.namespace,
            authentication: command.authentication,
            secret: stored,
            name: command.name,
            description: command.description ?? null,
            idempotency_header: (command.idempotency_header ?? defaultHeader(command.authentication)).toLowerCase(),
            per_minute: command.per_minute ?? hookPerMinuteDefault,
            task: command.task,
            enabled: true
          },
          yield* changedBy(principal)
        )
        if (made === "name-taken") return yield* nameTaken(command.name)
        if (made === "too-many") return yield* tooMany
        yield* tell(made.event)
        return created(made.hook, shown)
      }, orUnavailable)

      const list: Hooks["Service"]["list"] = Effect.fn("Hooks.list")(function* (query) {
        const { namespace } = yield* authorize("webhook:read")
        return yield* store.list(namespace, query)
      }, orUnavailable)

      const get: Hooks["Service"]["get"] = Effect.fn("Hooks.get")(function* (id) {
        const { namespace } = yield* authorize("webhook:read")
        return (yield* store.get(namespace, id)) ?? (yield* notFound(id))
      }, orUnavailable)

      const update: Hooks["Service"]["update"] = Effect.fn("Hooks.update")(function* (id, command, ifVersion) {
        const principal = yield* authorize("webhook:write", "task:create")
        if (command.task !== undefined) yield* Effect.fromResult(checkTemplate(command.task))
        const changed = yield* store.change(principal.namespace, id, yield* changedBy(principal), (hook) => {
          if (ifVersion !== undefined && ifVersion !== hook.version) return Result.fail(otherVersion(hook, ifVersion))
          const parts = Object.entries(command).flatMap(([field, value]) => (value === undefined ? [] : [field]))
          if (parts.length === 0) return Result.succeed(undefined)
          const header = (command.idempotency_header ?? hook.idempotency_header).toLowerCase()
          const next: HookDefinition = { ...hook, ...command, idempotency_header: header }
          return Result.succeed({ ...next, data: { name: next.name, changed: parts } })
        })
        if (changed === undefined) return yield* notFound(id)
        if (changed === "name-taken") return yield* nameTaken(command.name)
        yield* tell(changed.event)
        return changed.hook
      }, orUnavailable)

      const rotate: Hooks["Service"]["rotate"] = Effect.fn("Hooks.rotate")(function* (id, command) {
        const principal = yield* authorize("webhook:write")
        const hook = (yield* store.get(principal.namespace, id)) ?? (yield* notFound(id))
        const { shown, stored } = yield* secretFor(hook.authentication, command.secret)
        const changed = yield* store.change(principal.namespace, id, yield* changedBy(principal), (now) =>
          Result.succeed({ ...now, secret: stored, data: { name: now.name, rotated: true } })
        )
        if (changed === undefined || changed === "name-taken") return yield* notFound(id)
        yield* tell(changed.event)
        return created(changed.hook, shown)
      }, orUnavailable)

      const remove: Hooks["Service"]["remove"] = Effect.fn("Hooks.remove")(function* (id) {
        const principal = yield* authorize("webhook:write")
        const event = yield* store.remove(principal.namespace, id, yield* changedBy(principal))
        if (event === undefined) return yield* notFound(id)
        yield* tell(event)
      }, orUnavailable)

      /** The hook and the body, when the request proves where it comes from. A secret is checked before the body is read. */
      const proven = Effect.fnUntraced(function* <E, R>({ body, headers, id, secret }: HookCall<E, R>) {
        const known = Schema.decodeUnknownOption(HookId)(id)
        if (Option.isNone(known)) return undefined
        const hook = yield* store.callable(known.value)
        if (hook === undefined || (hook.authentication === "secret") !== (secret !== undefined)) return undefined
        if (secret !== undefined && !isSame(hook.secret, sha256(secret))) return undefined
        const bytes = yield* body
        if (secret !== undefined) return { hook, bytes }
        const now = Math.floor((yield* Clock.currentTimeMillis) / 1_000)
        return isProof(hook, headers, bytes, now) ? { hook, bytes } : undefined
      })

      /** Bounds what those make this node do who have proven nothing yet. */
      const bounded = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.suspend((): Effect.Effect<A, E | Overloaded, R> => {
          if (unproven >= unprovenMax) return Effect.fail(overloaded(1))
          unproven++
          return Effect.ensuring(
            effect,
            Effect.sync(() => {
              unproven--
            })
          )
        })

      const submit = Effect.fnUntraced(function* <E, R>(call: HookCall<E, R>) {
        const request = yield* bounded(proven(call))
        if (request === undefined) return yield* notFound(call.id)
        const { bytes, hook } = request
        const wait = takeToken(hook.id, hook.per_minute)
        if (wait !== undefined) return yield* overloaded(wait)
        const body = yield* Effect.fromResult(call.decode(bytes))
        const command = yield* Effect.fromResult(fillTemplate(hook.task, { body, headers: call.headers }))
        const once = call.headers[hook.idempotency_header]
        const key = once === undefined ? {} : { idempotency_key: `hook:${hook.id}:${sha256(once).toString("hex")}` }
        const accepted = yield* Effect.provideService(
          tasks.submit({ ...command, ...key }),
          Principal,
          principalOf(hook)
        )
        return { task_id: accepted.id, status: accepted.status, duplicate: accepted.duplicate }
      })

      const call = <E, R>(given: HookCall<E, R>) =>
        submit(given).pipe(
          orUnavailable,
          Effect.onExit((exit) => {
            const problem = exit._tag === "Success" ? undefined : exit.cause.reasons.find(({ _tag }) => _tag === "Fail")
            const tag = problem?._tag === "Fail" ? Reflect.get(Object(problem.error), "_tag") : undefined
            return Metric.update(
              Metrics.hookRequests({
                outcome: exit._tag === "Success" ? "accepted" : (outcomes[String(tag)] ?? "refused")
              }),
              1
            )
          }),
          Effect.withSpan("Hooks.call")
        )

      return Hooks.of({ create, list, get, update, remove, rotate, call })
    })
  )
}

/** Requests at a time on one node whose proof is being checked, bodies included. */
const unprovenMax = 256

const outcomes: Readonly<Record<string, string>> = { HookNotFound: "not_found", Overloaded: "overloaded" }

const sha256 = (text: string) => createHash("sha256").update(text).digest()

const defaultHeader = (authentication: HookAuthentication) =>
  authentication === "github" ? "x-github-delivery" : "webhook-id"

const isProof = (
  hook: CallableHook,
  headers: HookCall<never, never>["headers"],
  body: Uint8Array,
  nowSeconds: number
): boolean => {
  if (hook.authentication === "github") {
    return isSignedLikeGitHub(hook.secret, body, headers["x-hub-signature-256"] ?? "")
  }
  const { "webhook-id": id, "webhook-signature": signature, "webhook-timestamp": timestamp } = headers
  if (id === undefined || signature === undefined || timestamp === undefined) return false
  return isSigned(hook.secret, { id, timestamp, body }, signature, nowSeconds)
}

const principalOf = (hook: Hook): Principal["Service"] => ({
  actor: `hook:${hook.id}`,
  namespace: hook.namespace,
  role: "agent",
  permissions: new Set(["task:create"])
})

const notFound = (id: string) =>
  new HookNotFound({
    hook_id: id.slice(0, 64),
    detail: "There is no such hook, or what proves that this request may use it is missing or wrong."
  })

const overloaded = (seconds: number) =>
  new Overloaded({
    detail: "This hook gets more requests than this node takes of it. Nothing was stored.",
    retry_after_seconds: seconds
  })

const nameTaken = (name: HookName | undefined) =>
  new Conflict({ detail: `This namespace has a hook "${name}" already.`, reason: "name-taken" })

const tooMany = new Conflict({
  detail: `This namespace has ${Limits.hooksMax} hooks, which is the limit: delete one.`,
  reason: "state"
})

const otherVersion = (hook: Hook, version: number) =>
  new Conflict({
    detail: `Hook "${hook.name}" is at version ${hook.version}, not ${version}: read it again.`,
    reason: "version",
    current_version: hook.version
  })
