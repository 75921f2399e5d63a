/**
 * Finding among a million: pages and counts over HTTP, 8 connections, of a namespace with 1,000,000 tasks of the last 30 days
 * (98 % completed, 1 % failed, the rest cancelled or queued). Rows are put in by SQL, with the tallies that commits would have
 * left; the rates are those of reading. Last, an action on 10,000 of them, from the command to its end.
 */
import { makeClient } from "../Client.ts"
import { type Figures, percentiles, perSecond } from "../Figures.ts"
import { httpLoad } from "../HttpLoad.ts"
import { type StartedPlatform, startNode } from "../Platform.ts"
import { startNats } from "../servers/Nats.ts"
import { startPostgres } from "../servers/Postgres.ts"
import { query } from "../servers/query.ts"
import { makeAgent, pause, type Scenario } from "./Bench.ts"

const rows = 1_000_000
const agent = "finding"

const fill = async (url: string, agentId: string) => {
  // In parts, as no statement may take longer than its timeout.
  const part = 100_000
  for (let from = 0; from < rows; from += part) {
    await query(
      url,
      `insert into tasks (id, namespace, name, type, agent_id, status, lane, attempt, max_attempts, payload, labels, result,
         created_at, queued_at, started_at, completed_at)
       select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
         'default', 'task ' || n, case when n % 10000 = 5 then 'rare.type' else 'echo' end, $1::uuid, s::task_status,
         (array['critical', 'high', 'normal', 'low'])[1 + n % 4]::task_lane, 1, 5,
         json_build_object('customer', json_build_object('id', n % 1000)), jsonb_build_object('team', 'team-' || n % 50),
         case s when 'completed' then '{"success":true,"data":{"ok":true}}'::json
           when 'failed' then json_build_object('success', false, 'error', json_build_object('code', 'code-' || n / 100 % 5, 'message', 'm')) end,
         at, at, at, case when s <> 'queued' then at + interval '1 second' end
       from (
         select n, now() - interval '30 days' + n * (interval '30 days' / ${rows}) as at,
           case when n % 100 = 7 then 'failed' when n % 400 = 11 then 'cancelled' when n % 400 = 13 then 'queued' else 'completed' end as s
         from generate_series($2::int, $3::int) n
       ) g`,
      [agentId, from, from + part - 1]
    )
    process.stderr.write(`finding: ${from + part} rows\n`)
  }
  await query(
    url,
    `insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
     select agent_id, count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'), 0,
       count(*) filter (where status = 'cancelled'), 0, 0, 0 from tasks group by agent_id`
  )
  await query(url, "vacuum analyze tasks")
}

export const finding: Scenario = {
  name: "finding",
  once: true,
  run: async ({ seconds }) => {
    const postgres = await startPostgres()
    const nats = await startNats()
    let node: StartedPlatform | undefined
    try {
      node = await startNode({ databaseUrl: postgres.url, natsUrl: nats.url })
      const { key, url } = node
      const client = await makeClient(node)
      try {
        const { id } = await makeAgent(client, agent)
        await client.request("POST", `/api/v1/agents/${agent}/pause`)
        await fill(postgres.url, id)
        const load = async (name: string, path: string): Promise<Figures> => {
          const loaded = await httpLoad({
            ...{ url, key, connections: 8, seconds: Math.min(5, seconds), status: 200 },
            request: () => ({ method: "GET", path: `/api/v1${path}` })
          })
          return {
            [`${name}_per_s`]: perSecond(loaded.millis.length, loaded.elapsedMillis),
            ...percentiles(`${name}_`, loaded.millis),
            [`${name}_errors`]: loaded.errors
          }
        }
        await load("warm", "/tasks?limit=50")
        const figures = {
          ...(await load("page", "/tasks?limit=50")),
          ...(await load("failed", "/tasks?limit=50&status=failed")),
          ...(await load("failed_by_end", "/tasks?limit=50&status=failed&sort=completed&order=asc")),
          ...(await load("queued_by_priority", `/tasks?limit=50&status=queued&agent=${agent}&sort=priority`)),
          ...(await load("label", "/tasks?limit=50&label=team=team-7")),
          ...(await load("payload", "/tasks?limit=10&where=payload./customer/id=42")),
          ...(await load("error_code", "/tasks?limit=50&error=code-3")),
          ...(await load("rare_type", "/tasks?limit=50&type=rare.type")),
          ...(await load("dead_letters", "/dead-letters?limit=20")),
          ...(await load("counts", "/tasks/counts"))
        }
        const began = performance.now()
        const { id: operation } = await client.request("POST", "/api/v1/tasks/actions", {
          action: "acknowledge",
          filter: { status: "failed" }
        })
        for (;;) {
          const state = await client.request("GET", `/api/v1/operations/${operation}`)
          if (state.status === "completed") {
            return { ...figures, acted_on: state.done, acted_per_s: perSecond(state.done, performance.now() - began) }
          }
          if (state.status !== "running") throw new Error(`the operation ended as ${state.status}`)
          await pause(50)
        }
      } finally {
        await client.close()
      }
    } finally {
      await node?.stop()
      await nats.stop()
      await postgres.stop()
    }
  }
}
