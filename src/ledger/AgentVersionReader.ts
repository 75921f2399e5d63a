/**
 * The kept versions of agents' definitions, with how tasks ended under each. It must not change anything: versions are
 * written with the change that brings them (`AgentRegistry`).
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { AgentDefinition, VersionFigures } from "../../protocol/AgentVersion.ts"
import type { AgentId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { firstDefinition } from "./TaskRows.ts"

export interface KeptVersion {
  readonly version: number
  readonly created_at: string
  readonly actor: string | null
  readonly restores: number | null
  readonly figures: VersionFigures
}

export class AgentVersionReader extends Context.Service<
  AgentVersionReader,
  {
    /** Newest first, at most `Limits.agentVersionsMax` and the one that a roll-out stands on. */
    readonly list: (id: AgentId) => Effect.Effect<ReadonlyArray<KeptVersion>, StoreUnavailable>
    /** What was in force at a version of the agent; undefined when that is not kept. */
    readonly at: (
      id: AgentId,
      version: number
    ) => Effect.Effect<(KeptVersion & { readonly definition: AgentDefinition }) | undefined, StoreUnavailable>
  }
>()("datamcp/ledger/AgentVersionReader") {
  static readonly layer = Layer.effect(
    AgentVersionReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const summary = sql.literal(`v.version, v.actor, v.restores,
        to_char(v.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
        ends.completed, ends.failed, ends.timed_out, ends.attempts, ends.millis_sum, ends.millis_max`)

      // What has no version is of the first one, or has no attempt: it was ended from outside.
      const ends = (id: AgentId) => sql`
        select coalesce(version, ${firstDefinition}::int) as version, sum(completed)::float8 as completed,
          sum(failed)::float8 as failed, sum(timed_out)::float8 as timed_out, sum(attempts)::float8 as attempts,
          sum(millis_sum) as millis_sum, max(millis_max) as millis_max
        from agent_tallies where agent_id = ${id} and (version is not null or attempts > 0) group by 1
      `

      const list = Effect.fn("AgentVersionReader.list")((id: AgentId) =>
        sql<SummaryRow>`
          select ${summary} from agent_versions v left join (${ends(id)}) ends using (version)
          where v.agent_id = ${id} order by v.version desc limit ${Limits.agentVersionsMax + 1}
        `.pipe(
          Effect.map((rows) => rows.map(keptVersion)),
          orUnavailable("AgentVersionReader.list")
        )
      )

      const at = Effect.fn("AgentVersionReader.at")((id: AgentId, version: number) =>
        sql<SummaryRow & { readonly definition: AgentDefinition }>`
          select ${summary}, v.definition from (
            select * from agent_versions where agent_id = ${id} and version <= ${version} order by version desc limit 1
          ) v left join (${ends(id)}) ends using (version)
          where ${version} <= (select version from agents where id = ${id})
        `.pipe(
          Effect.map(([row]) => (row === undefined ? undefined : { ...keptVersion(row), definition: row.definition })),
          orUnavailable("AgentVersionReader.at")
        )
      )

      return AgentVersionReader.of({ list, at })
    })
  )
}

interface SummaryRow extends Omit<KeptVersion, "figures"> {
  readonly completed: number | null
  readonly failed: number | null
  readonly timed_out: number | null
  readonly attempts: number | null
  readonly millis_sum: number | null
  readonly millis_max: number | null
}

const keptVersion = (row: SummaryRow): KeptVersion => {
  const { attempts, completed, failed, millis_sum: millis, timed_out } = row
  const ended = (completed ?? 0) + (failed ?? 0) + (timed_out ?? 0)
  const ran = attempts !== null && attempts > 0
  return {
    version: row.version,
    created_at: row.created_at,
    actor: row.actor,
    restores: row.restores,
    figures: {
      completed: completed ?? 0,
      failed: failed ?? 0,
      timed_out: timed_out ?? 0,
      attempts: attempts ?? 0,
      success_rate: ended === 0 ? null : (completed ?? 0) / ended,
      response_time_mean_ms: ran && millis !== null ? millis / attempts : null,
      response_time_max_ms: ran ? row.millis_max : null
    }
  }
}
