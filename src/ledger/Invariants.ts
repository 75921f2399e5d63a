/**
 * Owns what must always be true of what is stored, as queries that find where it is not.
 *
 * Each is one statement and so sees one moment: whatever the ledger commits in one transaction it sees whole or not at all. None
 * locks a row or writes. A query answers rows {subject, found}; none is what it should answer.
 *
 *   tasks     `$1` is an array of task ids: what it looks at, and what it looks at again
 *   database  `$1` is a namespace, or null for all; whatever state the tasks are in, their number does not matter
 *   history   the same, but it reads every task
 */
export interface Invariant {
  /** Names it for people and scripts: never changes. */
  readonly id: string
  /** In the numbering of docs/guarantees.md. */
  readonly guarantee: string
  readonly promise: string
  readonly over: "tasks" | "database" | "history"
  readonly query: string
}

const ended = "('completed', 'failed', 'timeout', 'cancelled')"

/** The tasks of a batch, each by its key. */
const these = "unnest($1::uuid[]) as u (id) join tasks t on t.id = any (array[u.id])"

/** Numbers that must count from 1 to `last` without a gap. */
const notUpTo = (last: string, numbers: string) =>
  `(${numbers}.count <> ${last} or (${last} > 0 and (${numbers}.least <> 1 or ${numbers}.most <> ${last})))`

const counted = (column: string) => `count(*)::int as count, min(${column}) as least, max(${column}) as most`

const eventGaps = (from: string, last: string) => `
  select o.id::text as subject, format('should have events 1 to %s, has %s of them, from %s to %s', ${last}, e.count, e.least, e.most) as found
  from ${from} cross join lateral (select ${counted("x.number")} from events x where x.aggregate = o.id) e
  where ${notUpTo(last, "e")} and ($1::text is null or o.namespace = $1::text)`

export const invariants: ReadonlyArray<Invariant> = [
  {
    id: "task-events",
    guarantee: "G12",
    promise: "A task's events are numbered from 1 to its version without a gap.",
    over: "tasks",
    query: `
      select t.id::text as subject, format('version %s, but %s events, from %s to %s', t.version, e.count, e.least, e.most) as found
      from ${these} cross join lateral (select ${counted("x.number")} from events x where x.aggregate = t.id) e
      where ${notUpTo("t.version", "e")}`
  },
  {
    id: "task-end",
    guarantee: "G1",
    promise:
      "A task that has ended has one event of its end, that of its status, and only the expiry of its result after it; others have none.",
    over: "tasks",
    query: `
      select t.id::text as subject, format('%s, with the ends %s', t.status, coalesce(e.ends, 'none'))
        || case when e.after > 0 then format(' and %s events after them', e.after) else '' end as found
      from ${these} cross join lateral (
        select string_agg(x.type, ', ' order by x.number) filter (where x.ends) as ends,
          count(*) filter (where x.number > x.ended and x.type <> 'TaskResultExpired' and not x.ends) as after
        from (
          select n.*, min(n.number) filter (where n.ends) over () as ended from (
            select v.number, v.type, v.type in ('TaskCompleted', 'TaskFailed', 'TaskTimedOut', 'TaskCancelled') as ends
            from events v where v.aggregate = t.id
          ) n
        ) x
      ) e
      where e.ends is distinct from case t.status
          when 'completed' then 'TaskCompleted' when 'failed' then 'TaskFailed'
          when 'timeout' then 'TaskTimedOut' when 'cancelled' then 'TaskCancelled' end
        or e.after > 0`
  },
  {
    id: "task-attempts",
    guarantee: "G3",
    promise:
      "A task's attempts are those that started less those that were given back, at most as many as it may have, and at most one where it may run once only.",
    over: "tasks",
    query: `
      select t.id::text as subject,
        format('attempt %s of %s, but %s started and %s were given back', t.attempt, case when t.at_most_once then 1 else t.max_attempts end,
          e.started, e.returned) as found
      from ${these} cross join lateral (
        -- Given back: by a node that stops in order, or by a run that waits for a signal or its children. One that was paused by somebody counts.
        select count(*) filter (where x.type = 'TaskStarted')::int as started,
          count(*) filter (where x.type = 'TaskQueued' and x.data ->> 'released' = 'true'
            or x.type = 'TaskPaused' and x.data ->> 'waiting_for' in ('signal', 'children'))::int as returned
        from events x where x.aggregate = t.id and x.type in ('TaskStarted', 'TaskQueued', 'TaskPaused')
      ) e
      where t.attempt <> e.started - e.returned or t.attempt > t.max_attempts or (t.at_most_once and t.attempt > 1)`
  },
  {
    id: "task-agent",
    guarantee: "G1",
    promise: "A task that is queued or runs has an agent of its namespace.",
    over: "tasks",
    query: `
      select t.id::text as subject, format('%s for the agent %s, which its namespace does not have', t.status, coalesce(t.agent_id::text, 'none')) as found
      from ${these} left join agents a on a.id = any (array[t.agent_id])
      where t.status in ('queued', 'running') and a.namespace is distinct from t.namespace`
  },
  {
    id: "dependencies-counted",
    guarantee: "G6",
    promise: "A task that waits for others counts exactly those of them whose end it has not been told of.",
    over: "tasks",
    query: `
      select t.id::text as subject, format('counts %s open dependencies, has %s', t.dependencies_open, d.open) as found
      from ${these} cross join lateral (
        select count(*)::int as open from task_dependencies x where x.child_id = t.id and not x.resolved
      ) d
      where t.status = 'pending' and t.waiting_for = 'dependencies' and t.dependencies_open <> d.open`
  },
  {
    id: "dependencies-told",
    guarantee: "G6",
    promise: "No task waits for others that have all ended, and each is told of every end.",
    over: "tasks",
    // Told later, in a transaction of its own: long cascades, and graphs that are being cancelled. A step is due, an element of a
    // map is held back.
    query: `
      select t.id::text as subject, case
        when d.untold is not null then format('was not told that %s has ended', d.untold)
        else 'waits for nothing any more' end as found
      from ${these} cross join lateral (
        select min(p.id::text) as untold from task_dependencies x join tasks p on p.id = any (array[x.parent_id])
        where x.child_id = t.id and not x.resolved and p.status::text in ${ended}
          and not exists (select from dependency_frontier f where f.parent_id = p.id)
          and not exists (select from graphs g where g.id = p.graph_id and g.ending is not null)
      ) d
      where t.status = 'pending' and t.waiting_for = 'dependencies' and (
        d.untold is not null
        or t.dependencies_open = 0 and not case
          when t.step then exists (select from graph_steps s where s.task_id = t.id and s.due)
          else exists (select from map_elements m where m.map_id = t.parent_id and m.task_id = t.id and m.state = 'held') end)`
  },
  {
    id: "dependencies-order",
    guarantee: "G6",
    promise: "A task is queued, and starts, only after all that it depends on has ended as its policy says.",
    over: "tasks",
    // Times are those of Postgres's clock, which may be set back a little.
    query: `
      select t.id::text as subject, format('%s, but %s, on which it depends, %s', case when s.at is null then t.status::text else 'started' end, p.id, case
        when p.status is null then 'is gone'
        when p.completed_at > s.at + interval '1 second' then format('ended %s after its start', p.completed_at - s.at)
        else format('is %s', p.status) end) as found
      from ${these} cross join lateral (
        select min(x.at) as at from events x where x.aggregate = t.id and x.type = 'TaskStarted'
      ) s cross join lateral (
        select d.parent_id as id, p.status, p.completed_at
        from task_dependencies d left join tasks p on p.id = any (array[d.parent_id])
        where d.child_id = t.id and d.element is not true and (
          p.id is null or p.completed_at > s.at + interval '1 second'
          or not (p.status::text = 'completed' or d.on_ended and p.status::text in ${ended}
            or d.runs_if_skipped is true and p.status::text = 'cancelled' and p.result -> 'error' ->> 'code' = 'skipped'))
        order by d.parent_id limit 1
      ) p
      where s.at is not null or t.status in ('queued', 'running')`
  },
  {
    id: "map-elements",
    guarantee: "G6",
    promise:
      "A map has made as many elements as it says, numbered without a gap, and holds back those it says it holds.",
    over: "tasks",
    query: `
      select t.id::text as subject, format('made %s of %s and holds %s back; has %s, from %s to %s, and %s of them are held back',
        s.made, s.total, s.held, m.count, m.least, m.most, m.held) as found
      from ${these} join graph_steps s on s.task_id = any (array[t.id]) cross join lateral (
        select ${counted("x.index")}, count(*) filter (where x.state = 'held')::int as held from map_elements x where x.map_id = t.id
      ) m
      where s.made <> m.count or s.held <> m.held or m.most <> m.count - 1 or (s.phase = 'expanded' and s.made <> s.total)`
  },
  {
    id: "streams",
    guarantee: "Streams",
    promise: "A stream's chunks are numbered from 1 to its last without a gap.",
    over: "tasks",
    query: `
      select t.id || ' ' || s.name as subject, format('should have chunks 1 to %s, has %s, from %s to %s', s.last, c.count, c.least, c.most) as found
      from ${these} join task_streams s on s.task_id = any (array[t.id]) cross join lateral (
        select ${counted("x.number")} from stream_chunks x where x.task_id = s.task_id and x.name = s.name
      ) c
      where ${notUpTo("s.last", "c")}`
  },
  {
    id: "signals",
    guarantee: "Signals",
    promise: "A signal is taken by one await at most, and an await that was answered has its signal.",
    over: "tasks",
    query: `
      select t.id::text as subject, case
        when s.number is null then format('await %s has the signal %s, which is not there', a.position, a.signal)
        else format('signal %s was taken by the await %s, and is that of the await %s', s.number, coalesce(s.position::text, 'none'),
          coalesce(a.position::text, 'none')) end as found
      from ${these} cross join lateral (
        select x.task_id, x.number as signal from task_signals x where x.task_id = t.id and x.position is not null
        union
        select x.task_id, x.signal from task_awaits x where x.task_id = t.id and x.signal is not null
      ) k left join task_signals s on s.task_id = k.task_id and s.number = k.signal
        left join task_awaits a on a.task_id = k.task_id and a.signal = k.signal
      where s.position is distinct from a.position`
  },
  {
    id: "children-told",
    guarantee: "Children",
    promise: "No task waits for children that have all ended.",
    over: "tasks",
    // Told later, in a transaction of its own: ends that came while the parent was locked.
    query: `
      select t.id::text as subject, format('waits at %s, and none of its %s children there is left', w.position, c.count) as found
      from ${these} join child_awaits w on w.task_id = any (array[t.id]) and not w.closed cross join lateral (
        select count(*) as count, bool_or(p.status::text not in ${ended}) as alive, bool_or(f.parent_id is not null) as coming
        from awaited_children a left join tasks p on p.id = any (array[a.child_id])
          left join dependency_frontier f on f.parent_id = any (array[a.child_id])
        where a.task_id = w.task_id and a.position = w.position
      ) c
      where t.status = 'paused' and t.waiting_for = 'children' and c.alive is not true and not c.coming`
  },
  {
    id: "unique-holders",
    guarantee: "Conditions",
    promise: "A task that has not ended has the unique key that it was accepted with.",
    over: "tasks",
    query: `
      select t.id::text as subject, format('%s, but its key "%s" belongs to %s', t.status, t.unique_key, coalesce(k.task_id::text, 'nobody')) as found
      from ${these} left join unique_keys k on k.namespace = t.namespace and k.key = t.unique_key
      where t.unique_key is not null and t.status::text not in ${ended} and k.task_id is distinct from t.id`
  },
  {
    id: "unique-keys",
    guarantee: "Conditions",
    promise: "Each unique key belongs to a task of its namespace that has not ended.",
    over: "database",
    query: `
      select u.namespace || ' ' || u.key as subject, format('belongs to %s, which is %s and has the key %s', u.task_id, coalesce(t.status::text, 'gone'),
        coalesce(t.unique_key, 'none')) as found
      from unique_keys u left join tasks t on t.id = u.task_id and t.namespace = u.namespace
      where (t.id is null or t.status in ${ended} or t.unique_key is distinct from u.key) and ($1::text is null or u.namespace = $1::text)`
  },
  {
    id: "coalescing",
    guarantee: "Conditions",
    promise: "Submissions join only a task that waits for its time, and of one that keeps all of them none is missing.",
    over: "database",
    query: `
      select c.namespace || ' ' || c.key as subject, format('%s is %s, waits for %s; %s submissions, %s payloads, from %s to %s', c.task_id, coalesce(t.status::text, 'gone'),
        coalesce(t.waiting_for::text, 'nothing'), c.submissions, i.count, i.least, i.most) as found
      from coalescing c left join tasks t on t.id = c.task_id and t.namespace = c.namespace cross join lateral (
        select ${counted("x.number")} from coalesced_items x where x.task_id = c.task_id
      ) i
      where (t.waiting_for is distinct from 'time' or t.coalesce_key is distinct from c.key
          or case c.keep when 'all' then ${notUpTo("c.submissions", "i")} else i.count > 0 end)
        and ($1::text is null or c.namespace = $1::text)
      union all
      select i.task_id::text, format('%s, and payloads wait to become its own', coalesce(t.status::text, 'gone'))
      from (select distinct x.task_id from coalesced_items x) i left join tasks t on t.id = i.task_id
      where t.waiting_for is distinct from 'time' and ($1::text is null or t.namespace = $1::text)`
  },
  {
    id: "start-deadlines",
    guarantee: "Conditions",
    promise: "While a node runs, a task that was not started in time ends within a minute.",
    over: "database",
    query: `
      select s.task_id::text as subject, format('%s, should have been looked at %s; is a node running?', t.status, s.at) as found
      from start_deadlines s join tasks t on t.id = s.task_id
      where s.at < now() - interval '1 minute' and t.started_at is null and t.status::text not in ${ended}
        and ($1::text is null or t.namespace = $1::text)`
  },
  {
    id: "agent-events",
    guarantee: "G12",
    promise: "An agent's events are numbered from 1 to its version without a gap.",
    over: "database",
    query: eventGaps("agents o", "o.version")
  },
  {
    id: "schedule-events",
    guarantee: "G12",
    promise: "A schedule's events are numbered from 1 without a gap.",
    over: "database",
    query: eventGaps("schedules o", "o.event_number")
  },
  {
    id: "leases",
    guarantee: "G7",
    promise: "A task runs only under the present epoch of its instance's lease.",
    over: "database",
    query: `
      select t.id::text as subject, format('runs on instance %s of %s under epoch %s, but its lease %s', t.instance, t.agent_id, t.epoch,
        case when i.epoch is null then 'is not there' else format('has epoch %s', i.epoch) end) as found
      from tasks t left join agent_instances i on i.agent_id = t.agent_id and i.index = t.instance
      where t.status = 'running' and i.epoch is distinct from t.epoch and ($1::text is null or t.namespace = $1::text)`
  },
  {
    id: "limits-taken",
    guarantee: "Limits",
    promise: "What counts as taken of a limit's key is the tasks that hold it, and what is about to be given back.",
    over: "database",
    query: `
      with held as (
        select h.l as limit_id, h.k as key, min(t.namespace) as namespace, count(*) as count
        from tasks t cross join lateral json_to_recordset(t.held_limits) as h (l uuid, k text)
        where t.limited and t.status in ('queued', 'running', 'paused') group by h.l, h.k
      ), freed as (select m.limit_id, m.key, sum(m.freed) as count from limit_marks m group by m.limit_id, m.key)
      select coalesce(k.limit_id, h.limit_id) || ' ' || coalesce(k.key, h.key) as subject,
        format('%s are taken; %s tasks hold it and %s are about to give it back', coalesce(k.taken, 0), coalesce(h.count, 0), coalesce(f.count, 0)) as found
      from limit_keys k full join held h on h.limit_id = k.limit_id and h.key = k.key
        left join freed f on f.limit_id = coalesce(k.limit_id, h.limit_id) and f.key = coalesce(k.key, h.key)
      where coalesce(k.taken, 0) <> coalesce(h.count, 0) + coalesce(f.count, 0)
        and ($1::text is null or coalesce(k.namespace, h.namespace) = $1::text)`
  },
  {
    id: "limits-held",
    guarantee: "Limits",
    promise:
      "A task with limits holds all of them while it is queued or runs, and waits for none of them then or after its end.",
    over: "database",
    query: `
      select coalesce(t.id, e.task_id) || ' ' || e.limit_id as subject,
        format('%s, and stands at the key %s', coalesce(t.status::text, 'gone'), e.key) as found
      from task_limits e left join tasks t on t.id = e.task_id
      where (t.id is null or t.status in ${ended} or t.status in ('queued', 'running'))
        and ($1::text is null or e.namespace = $1::text)
      union all
      select t.id::text, format('%s, and holds no limit', t.status) from tasks t
      where t.limited and t.held_limits is null and t.status in ('queued', 'running') and ($1::text is null or t.namespace = $1::text)`
  },
  {
    id: "webhook-journal",
    guarantee: "Webhooks",
    promise: "While a node runs, every event that a webhook wants becomes a delivery within a minute.",
    over: "database",
    query: `
      select j.id::text as subject, format('events since %s wait to be handed out; is a node running?', e.at) as found
      from webhook_journal j cross join lateral (
        select x.at from events x where x.aggregate = j.aggregates[1] and x.number = j.numbers[1]
      ) e
      where e.at < now() - interval '1 minute' and ($1::text is null or j.namespace = $1::text)`
  },
  {
    id: "agent-tallies",
    guarantee: "G12",
    promise: "An agent's tallies, less what was deleted, count the ends of its tasks.",
    over: "history",
    query: `
      with stored as (
        select t.agent_id, count(*) filter (where t.status = 'completed') as completed, count(*) filter (where t.status = 'failed') as failed,
          count(*) filter (where t.status = 'timeout') as timed_out, count(*) filter (where t.status = 'cancelled') as cancelled
        from tasks t
        where t.agent_id is not null and t.status in ${ended} and ($1::text is null or t.namespace = $1::text) group by t.agent_id
      ), parts as (
        select agent_id, completed, failed, timed_out, cancelled from agent_tallies
        union all
        select agent_id, -completed, -failed, -timed_out, -cancelled from task_deletions where agent_id is not null
      ), tallied as (
        select agent_id, sum(completed) as completed, sum(failed) as failed, sum(timed_out) as timed_out, sum(cancelled) as cancelled
        from parts group by agent_id
      ), compared as (
        select a.id,
          array[coalesce(c.completed, 0), coalesce(c.failed, 0), coalesce(c.timed_out, 0), coalesce(c.cancelled, 0)]::bigint[] as tallied,
          array[coalesce(s.completed, 0), coalesce(s.failed, 0), coalesce(s.timed_out, 0), coalesce(s.cancelled, 0)]::bigint[] as stored
        from agents a left join stored s on s.agent_id = a.id left join tallied c on c.agent_id = a.id
        where $1::text is null or a.namespace = $1::text
      )
      select id::text as subject,
        format('tallies say %s completed, failed, timed out, cancelled; its tasks are %s', tallied, stored) as found
      from compared where tallied <> stored`
  }
]
