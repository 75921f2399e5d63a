/**
 * The rows of nodes: what each says of itself, and what operators want of it.
 *
 * Cost at rest: one statement of one row per node every two seconds; rows of nodes that have gone are forgotten after an hour.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { NodeName } from "../../protocol/Ids.ts"
import type { Node, NodeRole, NodeState } from "../../protocol/Node.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

/** What a node says of itself. */
export interface Beat {
  readonly name: NodeName
  /** Names the process. */
  readonly process: string
  readonly version: string
  readonly roles: ReadonlyArray<NodeRole>
  readonly state: Exclude<NodeState, "gone">
  readonly instances: number
  readonly running: number
  readonly shards: number
}

/** Silence after which a node counts as gone. */
const goneAfter = "10 seconds"

/** How long nodes that have gone are listed; their drain is forgotten with them. */
const rememberedFor = "1 hour"

/** Most nodes of a list. */
const listedMax = 1_000

export class NodeStore extends Context.Service<
  NodeStore,
  {
    /** Writes it down; answers whether the node is wanted drained. */
    readonly beat: (beat: Beat) => Effect.Effect<boolean, StoreUnavailable>
    /** The process has ended in order. */
    readonly left: (name: NodeName, process: string) => Effect.Effect<void, StoreUnavailable>
    readonly forget: Effect.Effect<void, StoreUnavailable>
    /** By name, at most 1,000. */
    readonly list: Effect.Effect<ReadonlyArray<Node>, StoreUnavailable>
    readonly get: (name: NodeName) => Effect.Effect<Node | undefined, StoreUnavailable>
    /** Undefined when there is no such node. Nothing is changed of one that has gone, unless a drain is taken back. */
    readonly want: (name: NodeName, drain: boolean) => Effect.Effect<Node | undefined, StoreUnavailable>
  }
>()("datamcp/ledger/NodeStore") {
  static readonly layer = Layer.effect(
    NodeStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const gone = sql.literal(`(left_at is not null or heartbeat < now() - interval '${goneAfter}')`)
      const columns = sql.literal(
        `name, version, roles, case when left_at is not null or heartbeat < now() - interval '${goneAfter}' then 'gone' else state end as state,
         drain, to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as started_at,
         greatest(0, extract(epoch from now() - heartbeat) * 1000)::int as heartbeat_age_ms, instances, running, shards`
      )

      const beat = Effect.fn("NodeStore.beat")((own: Beat) =>
        sql<{ readonly drain: boolean }>`
          insert into nodes as n (name, process, version, roles, state, instances, running, shards)
          values (${own.name}, ${own.process}, ${own.version}, ${own.roles}, ${own.state}, ${own.instances}, ${own.running}, ${own.shards})
          on conflict (name) do update set process = excluded.process, version = excluded.version, roles = excluded.roles,
            state = excluded.state, instances = excluded.instances, running = excluded.running, shards = excluded.shards,
            started_at = case when n.process = excluded.process then n.started_at else now() end,
            heartbeat = now(), left_at = null
          returning drain
        `.pipe(
          Effect.map(([row]) => row?.drain === true),
          orUnavailable("NodeStore.beat")
        )
      )

      const left = Effect.fn("NodeStore.left")((name: NodeName, process: string) =>
        sql`
          update nodes set left_at = now(), instances = 0, running = 0, shards = 0
          where name = ${name} and process = ${process}
        `.pipe(Effect.asVoid, orUnavailable("NodeStore.left"))
      )

      const forget = sql`delete from nodes where heartbeat < now() - interval '${sql.literal(rememberedFor)}'`.pipe(
        Effect.asVoid,
        orUnavailable("NodeStore.forget")
      )

      const list = sql<Node>`select ${columns} from nodes order by name limit ${listedMax}`.pipe(
        orUnavailable("NodeStore.list")
      )

      const get = Effect.fn("NodeStore.get")((name: NodeName) =>
        sql<Node>`select ${columns} from nodes where name = ${name}`.pipe(
          Effect.map(([row]) => row),
          orUnavailable("NodeStore.get")
        )
      )

      const want = Effect.fn("NodeStore.want")((name: NodeName, drain: boolean) =>
        sql<Node>`
          update nodes set drain = ${drain} where name = ${name} and not (${drain} and ${gone}) returning ${columns}
        `.pipe(
          orUnavailable("NodeStore.want"),
          Effect.flatMap(([changed]) => (changed === undefined ? get(name) : Effect.succeed(changed)))
        )
      )

      return NodeStore.of({ beat, left, forget, list, get, want })
    })
  )
}
