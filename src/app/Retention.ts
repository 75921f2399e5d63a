/**
 * The use cases of retention: after how long a namespace's ended tasks are deleted.
 */
import { Context, Effect, Layer } from "effect"
import type { Principal } from "../../protocol/Permission.ts"
import { Conflict, type Forbidden, type InvalidInput, invalidField, type Unavailable } from "../../protocol/Problem.ts"
import type { Retention as RetentionView, SetRetention } from "../../protocol/Retention.ts"
import { RetentionStore } from "../ledger/RetentionStore.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"

export class Retention extends Context.Service<
  Retention,
  {
    readonly get: Effect.Effect<RetentionView, Forbidden | Unavailable, Principal>
    /** In place of the old rules; with `ifVersion` only of that version (0: nothing was set), else `Conflict`. */
    readonly set: (
      command: SetRetention,
      ifVersion: number | undefined
    ) => Effect.Effect<RetentionView, InvalidInput | Conflict | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Retention") {
  static readonly layer = Layer.effect(
    Retention,
    Effect.gen(function* () {
      const store = yield* RetentionStore

      const get = Effect.gen(function* () {
        const { namespace } = yield* authorize("retention:read")
        return yield* store.get(namespace)
      }).pipe(orUnavailable, Effect.withSpan("Retention.get"))

      const set: Retention["Service"]["set"] = Effect.fn("Retention.set")(function* ({ rules }, ifVersion) {
        const { actor, namespace } = yield* authorize("retention:update")
        for (const [index, { label }] of rules.entries()) {
          if (label?.some((text) => text.includes("\0")) === true) {
            return yield* invalidField(`rules.${index}.label`, "must not contain U+0000")
          }
        }
        const saved = yield* store.set(namespace, rules, { actor, ifVersion })
        if (saved !== undefined) return saved
        const { version } = yield* store.get(namespace)
        return yield* new Conflict({
          detail: `The rules have version ${version} by now.`,
          reason: "version",
          current_version: version
        })
      }, orUnavailable)

      return Retention.of({ get, set })
    })
  )
}
