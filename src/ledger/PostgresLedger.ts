/**
 * The ledger on Postgres: every change of state is one function call of `sql/functions/`, in one transaction with its
 * events, answered after COMMIT. Accepting, claiming and settling stand in files of their own; here are the rest and the
 * whole.
 */
import { Duration, Effect, Layer, Metric } from "effect"
import { Ledger } from "../../actors/ports/Ledger.ts"
import type { AgentId, Namespace, NodeName, TaskId, TaskType } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import * as Accepting from "./Accepting.ts"
import * as Admitting from "./Admitting.ts"
import * as ChildAwaiting from "./ChildAwaiting.ts"
import * as Claiming from "./Claiming.ts"
import * as Committing from "./Committing.ts"
import * as Controlling from "./Controlling.ts"
import * as GraphSteps from "./GraphSteps.ts"
import { ledger } from "./LedgerFunctions.ts"
import * as Settling from "./Settling.ts"
import * as Signalling from "./Signalling.ts"
import * as Streaming from "./Streaming.ts"
import * as TaskRows from "./TaskRows.ts"

const make = (node: NodeName) =>
  Effect.gen(function* () {
    const committing = yield* Committing.make(node)
    const { actor, announce, changes, commit, ready, refusedIsDefect, rowsOf, sql } = committing
    const admitting = yield* Admitting.make(committing)
    const { accept, earlier } = yield* Accepting.make(committing, admitting)
    const claim = yield* Claiming.make(committing)
    const { progress, settle } = yield* Settling.make(committing, admitting)
    const signals = yield* Signalling.make(committing, admitting)
    const streams = yield* Streaming.make(committing)
    const controlling = Controlling.make(committing)

    const cancel = Effect.fnUntraced(function* (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>,
      by: { readonly actor: string; readonly reason: string | undefined }
    ) {
      const changed = yield* changes(
        "cancel",
        `select * from ${ledger}.task_cancel($1::text, $2::uuid[], $3::text, $4::text)`,
        [namespace, ids, by.actor, by.reason ?? null]
      )
      const asked = new Set<string>(ids)
      yield* Metric.update(Metrics.tasksCancelled, changed.length)
      return changed
        .filter((change) => asked.has(change.id))
        .map((change) => ({ id: change.id, ranOn: change.agent_id ?? undefined }))
    })

    const setAside = Effect.fnUntraced(function* (
      agent: { readonly id: AgentId; readonly version: number },
      ids: ReadonlyArray<TaskId>
    ) {
      const statement = `select * from ${ledger}.task_set_aside($1::uuid, $2::int, $3::uuid[], $4::text)`
      const changed = yield* changes("set_aside", statement, [agent.id, agent.version, ids, actor])
      return changed.length
    })

    const takeOver = Effect.fnUntraced(function* (instance: { readonly agentId: AgentId; readonly index: number }) {
      const rows = yield* refusedIsDefect(
        commit<{ readonly epoch: number; readonly changes: ReadonlyArray<TaskRows.ChangeRow> }>("take_over", () =>
          sql.unsafe(`select * from ${ledger}.instance_take_over($1::uuid, $2::int, $3::text)`, [
            instance.agentId,
            instance.index,
            node
          ])
        )
      )
      const taken = rows[0]
      if (taken === undefined) return yield* Effect.die(new Error("a takeover without an epoch"))
      yield* announce(taken.changes)
      yield* Metric.update(Metrics.takeovers, 1)
      const failed = taken.changes.filter((change) => change.status === "failed").length
      const requeued = taken.changes.filter((change) => change.status === "queued").length
      return { epoch: taken.epoch, requeued, failed }
    })
    const queueDue = Effect.fnUntraced(function* (limit: number) {
      const changed = yield* changes("queue_due", `select * from ${ledger}.tasks_queue_due($1::int, $2::text)`, [
        limit,
        actor
      ])
      return changed.length
    })

    const resume = Effect.fnUntraced(function* (limit: number) {
      const changed = yield* changes("resume", `select * from ${ledger}.dependencies_resume($1::int)`, [limit])
      return changed.length
    })

    const expire = Effect.fnUntraced(function* (limit: number) {
      const changed = yield* changes("expire", `select * from ${ledger}.tasks_expire($1::int, $2::text)`, [
        limit,
        actor
      ])
      const notStarted = yield* changes("expire", `select * from ${ledger}.tasks_start_expire($1::int, $2::text)`, [
        limit,
        actor
      ])
      const expired = [...changed, ...notStarted].filter((change) => change.status === "timeout")
      return {
        ended: expired.length,
        running: expired.flatMap((change) =>
          change.agent_id === null ? [] : [{ id: change.id, agentId: change.agent_id }]
        )
      }
    })

    const assign = Effect.fnUntraced(function* (
      waiting: { readonly namespace: Namespace; readonly type: TaskType; readonly agentId: AgentId },
      limit: number
    ) {
      const changed = yield* changes(
        "assign",
        `select * from ${ledger}.tasks_assign($1::text, $2::text, $3::uuid, $4::int, $5::text)`,
        [waiting.namespace, waiting.type, waiting.agentId, limit, actor]
      )
      return changed.length
    })

    const tidy = Effect.fnUntraced(function* (limit: number) {
      const folded = yield* rowsOf<{ readonly count: number }>(
        "tidy",
        `with many as (
           select agent_id from agent_tallies where at < now() - interval '1 minute' group by agent_id having count(*) > 20 limit 200
         ), gone as (
           delete from agent_tallies where ctid = any (array(
             select t.ctid from agent_tallies t join many using (agent_id) where t.at < now() - interval '1 minute' limit $1::int))
           returning *
         ), kept as (
           insert into agent_tallies (agent_id, at, version, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
           select agent_id, min(at), version, sum(completed), sum(failed), sum(timed_out), sum(cancelled), sum(attempts), sum(millis_sum), max(millis_max)
           from gone group by agent_id, version, attempts > 0 returning 1
         ) select ((select count(*) from gone) - (select count(*) from kept))::int as count`,
        [limit]
      )
      const forgotten = yield* rowsOf<{ readonly count: number }>(
        "tidy",
        `with gone as (
           delete from idempotency_keys where (namespace, key) in (
             select namespace, key from idempotency_keys
             where created_at < now() - interval '72 hours' and not (key like 'task:%' and exists (
                 select from tasks c join tasks p on p.id = c.parent_id where c.id = resource_id and p.completed_at is null))
             order by created_at limit $1::int)
           returning 1
         ) select count(*)::int as count from gone`,
        [limit]
      )
      const idle = yield* rowsOf<{ readonly count: number }>("tidy", `select ${ledger}.limits_tidy($1::int) as count`, [
        limit
      ])
      const joined = yield* rowsOf<{ readonly count: number }>(
        "tidy",
        `select ${ledger}.joined_submissions_tidy($1::int) as count`,
        [limit]
      )
      const deletions = yield* controlling.foldDeletions(limit)
      const gone = [folded, forgotten, idle, joined].reduce((sum, [row]) => sum + (row?.count ?? 0), 0)
      return gone + deletions
    })
    return Ledger.of({
      ready,
      signals,
      children: ChildAwaiting.make(committing),
      streams,
      graphs: GraphSteps.make(committing),
      accept,
      earlier,
      claim,
      settle,
      progress,
      control: controlling.control,
      deletable: controlling.deletable,
      expireResults: controlling.expireResults,
      cancel,
      setAside,
      takeOver,
      queueDue,
      resume,
      expire,
      assign,
      tidy,
      admit: (namespace) => Effect.sync(() => admitting.wake(namespace)),
      admitOpen: admitting.open,
      hibernate: (slot) =>
        Effect.asVoid(
          rowsOf(
            "hibernate",
            "update agent_instances set status = 'hibernating' where agent_id = $1::uuid and index = $2::int and epoch = $3::int",
            [slot.agentId, slot.index, slot.epoch]
          )
        ),
      heartbeat: (slots) =>
        Effect.asVoid(
          rowsOf("heartbeat", `select ${ledger}.instances_heartbeat($1::json)`, [
            JSON.stringify(slots.map((slot) => ({ agent_id: slot.agentId, index: slot.index, epoch: slot.epoch })))
          ])
        ),
      backlog: (agentId, { limit }) =>
        Effect.map(
          rowsOf<TaskRows.OrderRow>(
            "backlog",
            `select ${TaskRows.orderColumns} from unnest(enum_range(null::task_lane)) as l (lane) cross join lateral (
               select * from tasks q where q.agent_id = $1::uuid and q.status = 'queued' and q.lane = l.lane
               order by q.id limit $2::int
             ) t order by t.lane, t.id`,
            [agentId, limit]
          ),
          (rows) => rows.map(TaskRows.orderOfRow)
        ),
      results: (namespace, refs) =>
        rowsOf(
          "results",
          `select t.id, t.status, t.result -> 'data' as data from tasks t where t.namespace = $1::text and t.id = any ($2::uuid[])`,
          [namespace, refs.map((ref) => ref.id)]
        ),
      withoutAgent: (after, limit) =>
        rowsOf("without_agent", `select * from ${ledger}.types_without_agent($1::text, $2::text, $3::int)`, [
          after?.namespace ?? "",
          after?.type ?? "",
          limit
        ]),
      orphans: (silentFor, limit) =>
        Effect.map(
          rowsOf<{ readonly agent_id: AgentId; readonly index: number }>(
            "orphans",
            `select i.agent_id, i.index from agent_instances i
             where i.heartbeat < now() - $1::float8 * interval '1 millisecond'
               and exists (select from tasks t where t.agent_id = i.agent_id and t.instance = i.index and t.status = 'running')
             limit $2::int`,
            [Duration.toMillis(silentFor), limit]
          ),
          (rows) => rows.map((row) => ({ agentId: row.agent_id, index: row.index }))
        ),
      agentsWithWork: (limit) =>
        Effect.map(
          rowsOf<{ readonly agents_with_work: AgentId }>(
            "agents_with_work",
            `select * from ${ledger}.agents_with_work($1::int)`,
            [limit]
          ),
          (rows) => rows.map((row) => row.agents_with_work)
        ),
      lost: (slot, ids) =>
        Effect.map(
          rowsOf<{ readonly id: TaskId }>(
            "lost",
            `select u.id from unnest($1::uuid[]) as u (id)
             where not exists (select from tasks t where t.id = u.id and t.status = 'running' and t.agent_id = $2::uuid
               and t.instance = $3::int and t.epoch = $4::int offset 0)`,
            [ids, slot.agentId, slot.index, slot.epoch]
          ),
          (rows) => rows.map((row) => row.id)
        )
    })
  })

/** Needs `SqlClient` and the bus. `node` is recorded as the actor of what the node does by itself. */
export const layer = (node: NodeName) => Layer.effect(Ledger, make(node))
