/** The use cases of limits in memory: enough of their promises for the doors to be tested without servers. */
import { Effect, Layer } from "effect"
import { LimitId } from "../../protocol/Ids.ts"
import type { Limit } from "../../protocol/Limit.ts"
import { Conflict, LimitNotFound } from "../../protocol/Problem.ts"
import { authorize } from "../../src/app/authorize.ts"
import { LimitRules } from "../../src/app/LimitRules.ts"

const at = "2026-11-23T10:00:00.000Z"

export const layer = Layer.sync(LimitRules, () => {
  const known = new Map<string, Limit>()
  const find = (ref: string) => {
    const limit = [...known.values()].find(({ id, name }) => id === ref || name === ref)
    return limit === undefined ? Effect.fail(new LimitNotFound({ limit: ref })) : Effect.succeed(limit)
  }
  return LimitRules.of({
    create: Effect.fnUntraced(function* (command) {
      const { namespace } = yield* authorize("limit:create")
      if (known.has(command.name)) return yield* new Conflict({ reason: "name-taken" })
      const limit: Limit = {
        id: LimitId.make(`01900000-0000-7000-9000-${String(known.size + 1).padStart(12, "0")}`),
        namespace,
        name: command.name,
        description: command.description ?? null,
        agent_id: null,
        type: command.type ?? null,
        key: command.key ?? "*",
        fair_by: command.fair_by ?? null,
        concurrency: command.concurrency ?? null,
        rate: command.rate === undefined ? null : { burst: command.rate.limit, ...command.rate },
        created_at: at,
        updated_at: at,
        version: 1
      }
      known.set(limit.name, limit)
      return limit
    }),
    get: (ref) => Effect.andThen(authorize("limit:read"), find(ref)),
    list: () =>
      Effect.map(authorize("limit:read"), () => ({ data: [...known.values()].toReversed(), next_cursor: null })),
    update: Effect.fnUntraced(function* (ref, command, ifVersion) {
      yield* authorize("limit:update")
      const limit = yield* find(ref)
      if (ifVersion !== undefined && ifVersion !== limit.version) {
        return yield* new Conflict({ reason: "version", current_version: limit.version })
      }
      const changed: Limit = {
        ...limit,
        concurrency: command.concurrency ?? limit.concurrency,
        description: command.description ?? limit.description,
        version: limit.version + 1
      }
      known.set(limit.name, changed)
      return changed
    }),
    remove: Effect.fnUntraced(function* (ref) {
      yield* authorize("limit:delete")
      const limit = yield* find(ref)
      known.delete(limit.name)
      return limit
    }),
    usage: Effect.fnUntraced(function* (ref, key) {
      yield* authorize("limit:read")
      const { id, name } = yield* find(ref)
      return { limit_id: id, name, keys: [{ key: key ?? "a", running: 1, waiting: 2, tokens: null }], more_keys: false }
    })
  })
})
