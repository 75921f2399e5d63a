/**
 * The use cases of limits: define, change and delete them, and see what is taken of them. A change is committed, then told to all
 * nodes; a node that misses the notice finds it by its sweep.
 */
import { Context, Effect, Layer, Result } from "effect"
import { AgentDirectory } from "../../actors/AgentDirectory.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { LimitId, type LimitRef } from "../../protocol/Ids.ts"
import {
  type CreateLimit,
  everyTask,
  type Limit,
  type LimitUsage,
  type Rate,
  type UpdateLimit
} from "../../protocol/Limit.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  type Forbidden,
  type InvalidInput,
  invalidField,
  LimitNotFound,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import { decodeCursor, encodeCursor } from "../ledger/Cursor.ts"
import { isLimitId, type LimitChange, LimitRegistry } from "../ledger/LimitRegistry.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"

export class LimitRules extends Context.Service<
  LimitRules,
  {
    /** `Conflict` (`name-taken`) when the namespace has a limit of that name. It binds tasks that are accepted from now on. */
    readonly create: (
      command: CreateLimit
    ) => Effect.Effect<Limit, Conflict | InvalidInput | Forbidden | Unavailable, Principal>
    readonly get: (ref: LimitRef) => Effect.Effect<Limit, LimitNotFound | Forbidden | Unavailable, Principal>
    readonly list: (query: PageQuery) => Effect.Effect<Page<Limit>, InvalidInput | Forbidden | Unavailable, Principal>
    /** Holds for tasks that wait already. `ifVersion`: change only this version of it, else `Conflict` (`version`). */
    readonly update: (
      ref: LimitRef,
      command: UpdateLimit,
      ifVersion: number | undefined
    ) => Effect.Effect<Limit, LimitNotFound | Conflict | InvalidInput | Forbidden | Unavailable, Principal>
    /** Tasks that waited for it alone are queued. */
    readonly remove: (ref: LimitRef) => Effect.Effect<Limit, LimitNotFound | Forbidden | Unavailable, Principal>
    /** Of one key, or of those with most to do. */
    readonly usage: (
      ref: LimitRef,
      key: string | undefined
    ) => Effect.Effect<LimitUsage, LimitNotFound | InvalidInput | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/LimitRules") {
  static readonly layer = Layer.effect(
    LimitRules,
    Effect.gen(function* () {
      const registry = yield* LimitRegistry
      const directory = yield* AgentDirectory
      const ledger = yield* Ledger
      const bus = yield* Bus
      const ids = yield* UuidV7

      const tell = (limit: Limit) =>
        Effect.andThen(bus.notify({ _tag: "LimitsChanged", namespace: limit.namespace }), ledger.admit(limit.namespace))

      const agentOf = Effect.fnUntraced(function* (principal: Principal["Service"], command: CreateLimit) {
        if (command.agent === undefined) return undefined
        const agent = yield* directory.find(principal.namespace, command.agent)
        return agent?.id ?? (yield* invalidField("agent", `there is no agent "${command.agent}" in this namespace`))
      })

      const create: LimitRules["Service"]["create"] = Effect.fn("LimitRules.create")(function* (command) {
        const principal = yield* authorize("limit:create")
        if (isLimitId(command.name)) return yield* invalidField("name", "must not look like the id of a limit")
        yield* checkMeasure(command)
        const created = yield* registry.create({
          id: LimitId.make(ids.next()),
          namespace: principal.namespace,
          name: command.name,
          description: command.description,
          agentId: yield* agentOf(principal, command),
          type: command.type,
          key: command.key ?? everyTask,
          fairBy: command.fair_by,
          concurrency: command.concurrency,
          rate: wholeRate(command.rate)
        })
        if (created === "name-taken") {
          return yield* new Conflict({
            detail: `This namespace has a limit "${command.name}" already.`,
            reason: "name-taken"
          })
        }
        if (created === "too-many") {
          return yield* invalidField("", `a namespace has at most ${Limits.limitsMax} limits`, Limits.limitsMax)
        }
        yield* tell(created)
        return created
      }, orUnavailable)

      const get: LimitRules["Service"]["get"] = Effect.fn("LimitRules.get")(function* (ref) {
        const { namespace } = yield* authorize("limit:read")
        return (yield* registry.get(namespace, ref)) ?? (yield* notFound(ref))
      }, orUnavailable)

      const list: LimitRules["Service"]["list"] = Effect.fn("LimitRules.list")(function* (query) {
        const { namespace } = yield* authorize("limit:read")
        const { cursor, limit = Limits.pageEntriesDefault } = query
        const scope = { list: "limits", namespace, filters: {} }
        const before =
          cursor === undefined
            ? undefined
            : LimitId.make(yield* Effect.fromResult(decodeCursor(scope, cursor, idPattern)))
        const found = yield* registry.list(namespace, before, limit + 1)
        const last = found.length > limit ? found[limit - 1] : undefined
        return { data: found.slice(0, limit), next_cursor: last === undefined ? null : encodeCursor(scope, last.id) }
      }, orUnavailable)

      const update: LimitRules["Service"]["update"] = Effect.fn("LimitRules.update")(function* (
        ref,
        command,
        ifVersion
      ) {
        const { namespace } = yield* authorize("limit:update")
        const changed = yield* registry.change(namespace, ref, (limit) => decide(limit, command, ifVersion))
        if (changed === undefined) return yield* notFound(ref)
        yield* tell(changed)
        return changed
      }, orUnavailable)

      const remove: LimitRules["Service"]["remove"] = Effect.fn("LimitRules.remove")(function* (ref) {
        const { namespace } = yield* authorize("limit:delete")
        const removed = (yield* registry.remove(namespace, ref)) ?? (yield* notFound(ref))
        yield* tell(removed)
        return removed
      }, orUnavailable)

      const usage: LimitRules["Service"]["usage"] = Effect.fn("LimitRules.usage")(function* (ref, key) {
        const { namespace } = yield* authorize("limit:read")
        if (key?.includes("\u0000") === true) return yield* invalidField("key", "must not contain U+0000")
        const limit = (yield* registry.get(namespace, ref)) ?? (yield* notFound(ref))
        const keys = yield* registry.usage(limit.id, { key, limit: Limits.usageKeysMax + 1 })
        return {
          limit_id: limit.id,
          name: limit.name,
          keys: keys.slice(0, Limits.usageKeysMax),
          more_keys: keys.length > Limits.usageKeysMax
        }
      }, orUnavailable)

      return LimitRules.of({ create, get, list, update, remove, usage })
    })
  )
}

const wholeRate = (rate: Rate | undefined) => (rate === undefined ? undefined : { burst: rate.limit, ...rate })

const checkMeasure = (command: CreateLimit): Effect.Effect<void, InvalidInput> => {
  if (command.concurrency !== undefined && command.rate !== undefined) {
    return Effect.fail(invalidField("rate", "cannot stand beside `concurrency`: make a limit of each; both will hold"))
  }
  if (command.concurrency !== undefined || command.rate !== undefined) return Effect.void
  return command.agent !== undefined && command.fair_by !== undefined
    ? Effect.void
    : Effect.fail(
        invalidField("concurrency", "is required, or `rate`, or `agent` with `fair_by` to share the agent's slots")
      )
}

/** What a command makes of a limit. Its kind stays: the counts of the other kind do not exist. */
const decide = (
  limit: Limit,
  command: UpdateLimit,
  ifVersion: number | undefined
): Result.Result<LimitChange, Conflict | InvalidInput> => {
  if (ifVersion !== undefined && ifVersion !== limit.version) {
    return Result.fail(
      new Conflict({
        detail: `Limit "${limit.name}" is at version ${limit.version}, not ${ifVersion}: read it again.`,
        reason: "version",
        current_version: limit.version
      })
    )
  }
  if (command.concurrency !== undefined && limit.concurrency === null) {
    return Result.fail(
      invalidField("concurrency", `limit "${limit.name}" does not bound concurrency; make another one`)
    )
  }
  if (command.rate !== undefined && limit.rate === null) {
    return Result.fail(invalidField("rate", `limit "${limit.name}" does not bound a rate; make another one`))
  }
  return Result.succeed({
    description: command.description,
    concurrency: command.concurrency,
    rate: wholeRate(command.rate)
  })
}

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u

const notFound = (ref: LimitRef) =>
  Effect.fail(new LimitNotFound({ limit: ref, detail: `There is no limit "${ref}" in this namespace.` }))
