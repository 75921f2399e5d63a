/**
 * Stored rules of retention, the walk that carries them out, and what was archived.
 *
 * The walk of a namespace goes from old tasks to new ones, as far as the youngest that a rule can mean, and begins again.
 * Where it stands is stored, so that it goes on after a crash; taking the same stretch twice does no harm.
 */
import { Context, Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { ArtifactId, Namespace, TaskId } from "../../protocol/Ids.ts"
import type { Retention, RetentionRule } from "../../protocol/Retention.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { idAt, labelJson, skewMillis, statusTexts } from "./TaskFilter.ts"
import * as Views from "./TaskViews.ts"

/** A namespace whose walk is due. */
export interface DueRetention {
  readonly namespace: Namespace
  readonly rules: ReadonlyArray<RetentionRule>
  readonly version: number
  /** Tasks older than this have been looked at. */
  readonly position: string | null
}

/** A task that is due to go. */
export interface DueTask {
  readonly id: TaskId
  /** Number of its events. */
  readonly version: number
  /** Index of the rule that decided. */
  readonly rule: number
}

export class RetentionStore extends Context.Service<
  RetentionStore,
  {
    readonly get: (namespace: Namespace) => Effect.Effect<Retention, StoreUnavailable>
    /** In place of the old ones, and the walk begins anew. `undefined` when the present version is another. */
    readonly set: (
      namespace: Namespace,
      rules: ReadonlyArray<RetentionRule>,
      by: { readonly actor: string; readonly ifVersion: number | undefined }
    ) => Effect.Effect<Retention | undefined, StoreUnavailable>
    readonly next: Effect.Effect<DueRetention | undefined, StoreUnavailable>
    /** What is due in the stretch after `position`, oldest first, and where the stretch ends; absent at the last one. */
    readonly stretch: (
      retention: DueRetention,
      bounds: { readonly windowRows: number; readonly nowMillis: number }
    ) => Effect.Effect<{ readonly tasks: ReadonlyArray<DueTask>; readonly edge: string | undefined }, StoreUnavailable>
    /** Records where the walk stands, how many it deleted, and when it goes on. Not over rules that were changed meanwhile. */
    readonly advance: (
      retention: DueRetention,
      to: { readonly position: string | undefined; readonly deleted: number; readonly after: Duration.Duration }
    ) => Effect.Effect<void, StoreUnavailable>
    /** Whole tasks with their events, one JSON document each, as they are archived. */
    readonly documents: (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>
    ) => Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
    readonly archived: (
      namespace: Namespace,
      artifact: ArtifactId,
      tasks: number
    ) => Effect.Effect<void, StoreUnavailable>
  }
>()("datamcp/ledger/RetentionStore") {
  static readonly layer = Layer.effect(
    RetentionStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const get = Effect.fn("RetentionStore.get")(
        function* (namespace: Namespace) {
          const [row] = yield* sql<Omit<Retention, "archives" | "namespace">>`
            select r.rules, r.version, r.deleted::float8 as deleted, ${sql.literal(Views.utc("r.updated_at", "updated_at"))}
            from retention r where r.namespace = ${namespace}
          `
          const archives = yield* sql<Retention["archives"][number]>`
            select a.artifact_id, a.tasks, ${sql.literal(Views.utc("a.at", "at"))}
            from retention_archives a where a.namespace = ${namespace} order by a.artifact_id desc limit ${archivesShown}
          `
          return { namespace, ...(row ?? never), archives }
        },
        (effect) => orUnavailable("RetentionStore.get")(effect)
      )

      const set: RetentionStore["Service"]["set"] = Effect.fn("RetentionStore.set")(
        function* (namespace, rules, { actor, ifVersion }) {
          const rows = yield* sql`
            insert into retention as r (namespace, rules, actor)
            select ${namespace}::text, ${JSON.stringify(rules)}::json, ${actor}::text
            where ${ifVersion ?? 0}::int = 0 or exists (select from retention where namespace = ${namespace})
            on conflict (namespace) do update set rules = excluded.rules, actor = excluded.actor, version = r.version + 1,
              updated_at = now(), position = null, due_at = now()
            where ${ifVersion === undefined} or r.version = ${ifVersion ?? 0}
            returning r.version
          `
          return rows.length > 0
        },
        (effect) => orUnavailable("RetentionStore.set")(effect),
        (effect, namespace) => Effect.flatMap(effect, (isSet) => (isSet ? get(namespace) : Effect.succeed(undefined)))
      )

      const next = sql<DueRetention>`
        select r.namespace, r.rules, r.version, r.position from retention r
        where r.due_at <= now() and json_array_length(r.rules) > 0 order by r.due_at limit 1
      `.pipe(
        Effect.map(([row]) => row),
        orUnavailable("RetentionStore.next")
      )

      /** Whether a rule fits a task; never null. */
      const fits = (rule: RetentionRule) =>
        sql`coalesce(${sql.and([
          sql`t.completed_at is not null`,
          ...(rule.status === undefined
            ? []
            : [sql`t.status in (${sql.literal(rule.status.map((status) => statusTexts[status]).join(", "))})`]),
          ...(rule.type === undefined ? [] : [sql`t.type = any (${[...rule.type]}::text[])`]),
          ...(rule.label ?? []).map((label) => sql`t.labels @> ${labelJson(label)}::jsonb`)
        ])}, false)`

      const stretch: RetentionStore["Service"]["stretch"] = Effect.fn("RetentionStore.stretch")(
        function* ({ namespace, position, rules }, { nowMillis, windowRows }) {
          const ages = rules.flatMap(({ delete_after_ms }) => (delete_after_ms === null ? [] : [delete_after_ms]))
          if (ages.length === 0) return { tasks: [], edge: undefined }
          // A task is older than its end.
          const youngest = idAt(nowMillis - Math.min(...ages) + skewMillis)
          const walk = sql.and([
            sql`t.namespace = ${namespace}`,
            sql`t.id < ${youngest}`,
            ...(position === null ? [] : [sql`t.id > ${position}`])
          ])
          const [edge] = yield* sql<{ readonly id: string }>`
            select t.id from tasks t where ${walk} order by t.id offset ${windowRows - 1} limit 1
          `
          const within = edge === undefined ? walk : sql`${walk} and t.id <= ${edge.id}`
          const which = sql`case ${sql.join(" ", false)(rules.map((rule, index) => sql`when ${fits(rule)} then ${sql.literal(String(index))}`))} end`
          const age = sql`case d.rule ${sql.join(
            " ",
            false
          )(
            rules.map(
              ({ delete_after_ms }, index) =>
                sql`when ${sql.literal(String(index))} then ${sql.literal(delete_after_ms === null ? "null::float8" : `${delete_after_ms}::float8`)}`
            )
          )} end`
          const tasks = yield* sql<DueTask>`
            select d.id, d.version, d.rule from (
              select t.id, t.version, t.completed_at, ${which} as rule from tasks t where ${within}
            ) d
            where d.completed_at + ${age} * interval '1 millisecond' <= now()
            order by d.id limit ${windowRows}
          `
          return { tasks, edge: edge?.id }
        },
        (effect) => orUnavailable("RetentionStore.stretch")(effect)
      )

      const advance: RetentionStore["Service"]["advance"] = Effect.fn("RetentionStore.advance")(
        ({ namespace, version }, { after, deleted, position }) =>
          sql`
            update retention set
              position = case when version = ${version} then ${position ?? null}::uuid else position end,
              due_at = case when version = ${version} then now() + ${Duration.toMillis(after)}::float8 * interval '1 millisecond' else due_at end,
              deleted = deleted + ${deleted}
            where namespace = ${namespace}
          `.pipe(Effect.asVoid, orUnavailable("RetentionStore.advance"))
      )

      const documents = Effect.fn("RetentionStore.documents")((namespace: Namespace, ids: ReadonlyArray<TaskId>) =>
        sql<{ readonly document: string }>`
          select row_to_json(d)::text as document from (
            select ${sql.literal(Views.archiveColumns)}, (
              select json_agg(row_to_json(e) order by e.number)
              from (select ${sql.literal(Views.eventColumns)}, e.attempt from events e where e.aggregate = t.id) e
            ) as events
            from tasks t where t.id = any (${[...ids]}::uuid[]) and t.namespace = ${namespace} order by t.id
          ) d
        `.pipe(
          Effect.map((rows) => rows.map(({ document }) => document)),
          orUnavailable("RetentionStore.documents")
        )
      )

      const archived = Effect.fn("RetentionStore.archived")(
        (namespace: Namespace, artifact: ArtifactId, tasks: number) =>
          sql`
          insert into retention_archives (artifact_id, namespace, tasks) values (${artifact}, ${namespace}, ${tasks})
          on conflict (artifact_id) do nothing
        `.pipe(Effect.asVoid, orUnavailable("RetentionStore.archived"))
      )

      return RetentionStore.of({ get, set, next, stretch, advance, documents, archived })
    })
  )
}

/** Archives that the view shows. */
const archivesShown = 100

/** Rules that were never set. */
const never = { rules: [], version: 0, deleted: 0, updated_at: null } as const
