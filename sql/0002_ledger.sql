-- The ledger's statements. Each is one round trip and one transaction, takes a batch, and writes the event of every
-- change it makes. Inside, a later statement sees what a lock was waited for (read committed), which single
-- statements with CTEs would not: that is why these are functions.
--
-- Plans: a session keeps the plan that it made first, perhaps on an empty table, so none may exist here that is wrong when
-- the table is large. Rows are looked up by key for each row of the batch, and nothing else is left to choose:
-- `enable_seqscan` is off; `t.id = any (array[u.id])` rather than `t.id = u.id` gives no hash or merge join; a status that
-- is only checked is compared as text, or a partial index would offer to read all tasks that have it. Measured with
-- 10,000 tasks and no statistics: a cascade down a chain took 188 s before, 3 s since.
--
-- Fences: a claim key-share-locks the instance's lease and needs its present epoch (heartbeats do not wait for that lock,
-- nor it for them; takeovers do); an end needs the task to run under the
-- caller's attempt and epoch. `p_again` marks the repetition of a batch whose first commit is unknown: what that one
-- did is then answered as if it had been done now.

-- One recorded fact, as the maintenance functions return it.
create type task_change as (
  id uuid, namespace text, number int, event text, at timestamptz, status task_status, agent_id uuid, trace text, data json
);

-- Counts ends of parents towards their children, and ends children that can no longer run, down the graph: at most 200
-- levels and 5,000 edges per transaction, so that no graph holds up others or runs into the statement timeout. What is left
-- is kept in `dependency_frontier`, from where `dependencies_resume` carries on.
create function dependencies_resolve(p_ended uuid[]) returns setof task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ended uuid[] := p_ended;
  v_children uuid[];
  v_counts int[];
  v_fails boolean[];
  v_skips boolean[];
  v_causes uuid[];
  v_changed task_change[];
  v_level int := 0;
  v_edges int := 0;
begin
  while cardinality(v_ended) > 0 loop
    if v_level >= 200 or v_edges >= 5000 then
      insert into dependency_frontier select unnest(v_ended) on conflict do nothing;
      exit;
    end if;
    v_level := v_level + 1;
    with ended as (
      select p.id, p.status = 'completed' as done from tasks p
      where p.id = any (v_ended) and p.status in ('completed', 'failed', 'timeout', 'cancelled')
    ), picked as (
      select d.ctid as at, e.done from ended e cross join lateral (
        select x.ctid from task_dependencies x where x.parent_id = e.id and not x.resolved
        order by x.child_id limit 5000 - v_edges
      ) d
      limit 5000 - v_edges
    ), counted as (
      update task_dependencies d set resolved = true
      from picked p
      where d.ctid = p.at and not d.resolved
      returning d.child_id, d.parent_id, d.required, (p.done or d.on_ended) as satisfied
    ), per_child as (
      select child_id, count(*)::int as counts, bool_or(not satisfied and required) as fails,
        bool_or(not satisfied and not required) as skips,
        min(parent_id::text) filter (where not satisfied)::uuid as cause
      from counted group by child_id
    )
    select array_agg(child_id order by child_id), array_agg(counts order by child_id), array_agg(fails order by child_id),
      array_agg(skips order by child_id), array_agg(cause order by child_id), v_edges + coalesce(sum(counts), 0)
    into v_children, v_counts, v_fails, v_skips, v_causes, v_edges
    from per_child;
    exit when v_children is null;
    if v_edges >= 5000 then
      insert into dependency_frontier select unnest(v_ended) on conflict do nothing;
    end if;

    -- One order of locking for all, or two commits that share children could wait for each other.
    if cardinality(v_children) > 1 then
      perform 1 from tasks where id = any (v_children) order by id for no key update;
    end if;

    with changed as (
      update tasks t set
        dependencies_open = t.dependencies_open - c.counts,
        status = case
          when c.fails then 'failed'::task_status
          when c.skips then 'cancelled'
          when t.dependencies_open > c.counts or t.run_at > now() or t.agent_id is null then 'pending'
          else 'queued' end,
        waiting_for = case
          when c.fails or c.skips then null
          when t.dependencies_open > c.counts then 'dependencies'::task_wait
          when t.run_at > now() then 'time'
          when t.agent_id is null then 'agent' end,
        result = case
          when c.fails then json_build_object('success', false, 'error', json_build_object(
            'code', 'dependency_failed', 'message', 'a task that this one depends on did not complete',
            'details', json_build_object('task_id', c.cause)))
          when c.skips then json_build_object('success', false, 'error', json_build_object(
            'code', 'skipped', 'message', 'an optional dependency did not complete',
            'details', json_build_object('task_id', c.cause)))
          end,
        queued_at = case
          when not (c.fails or c.skips) and t.dependencies_open = c.counts and t.agent_id is not null
            and (t.run_at is null or t.run_at <= now()) then now() end,
        completed_at = case when c.fails or c.skips then now() end,
        version = t.version + case when c.fails or c.skips or t.dependencies_open = c.counts then 1 else 0 end
      from unnest(v_children, v_counts, v_fails, v_skips, v_causes) as c (id, counts, fails, skips, cause)
      where t.id = any (array[c.id]) and t.status::text = 'pending' and t.waiting_for::text = 'dependencies'
      returning t.id, t.namespace, t.version, t.status, t.waiting_for, t.agent_id, t.trace, t.has_dependents, t.result, t.attempt
    ), facts as (
      select *, case status when 'failed' then 'TaskFailed' when 'cancelled' then 'TaskCancelled' else 'TaskQueued' end as event,
        case status
          when 'queued' then null
          when 'pending' then json_build_object('waiting_for', waiting_for)
          else json_build_object('error', result -> 'error') end as data
      from changed where status <> 'pending' or waiting_for <> 'dependencies'
    ), recorded as (
      insert into events (aggregate, number, kind, type, namespace, attempt, trace, data)
      select id, version, 'task', event, namespace, attempt, trace, data from facts
    ), tallied as (
      insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
      select agent_id, 0, count(*) filter (where status = 'failed'), 0, count(*) filter (where status = 'cancelled'), 0, 0, 0
      from facts where agent_id is not null and status in ('failed', 'cancelled') group by agent_id
    )
    select array_agg((id, namespace, version, event, now(), status, agent_id, trace, data)::task_change),
      array_agg(id) filter (where has_dependents and status in ('failed', 'cancelled'))
    into v_changed, v_ended
    from facts;
    return query select c.* from unnest(v_changed) as c;
  end loop;
end $$;

-- Carries on where long cascades stopped.
create function dependencies_resume(p_limit int) returns setof task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ended uuid[];
begin
  with taken as (
    delete from dependency_frontier where parent_id in (
      select parent_id from dependency_frontier order by parent_id limit p_limit for update skip locked)
    returning parent_id
  )
  select array_agg(parent_id) into v_ended from taken;
  if v_ended is not null then return query select * from dependencies_resolve(v_ended); end if;
end $$;

-- Why a row of a batch was not accepted.
create type accept_refusal as (ordinal int, outcome text, id uuid, same boolean, at timestamptz);

-- Accepts tasks. `p_tasks` is an array of rows as the ledger writes them, `p_dependencies` one of edges. With
-- `p_atomic` either all of them are accepted or none. Outcomes by `ordinal`: accepted, existing (`id` is the task that
-- the key made, as it stands, `same` whether the command is the same), unknown_parent, unknown_dependency (`id` is what was not found).
create function task_accept(p_tasks json, p_dependencies json, p_graph json, p_atomic boolean, p_simple boolean)
returns table (
  ordinal int, outcome text, id uuid, status task_status, waiting_for task_wait, at timestamptz, same boolean,
  name text, type text, agent_id uuid
)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_graph record;
  v_refusals accept_refusal[] := '{}';
  v_refused int[];
  v_existing accept_refusal[];
  v_parents uuid[];
  v_new uuid[];
  v_ended uuid[];
begin
  if not p_simple then
    -- The graph's own key comes first: a repeated graph answers before anything is looked at.
    if p_graph is not null then
      select * into v_graph from json_to_record(p_graph) as g (id uuid, namespace text, name text, key text, fingerprint text);
      if v_graph.key is not null then
        insert into idempotency_keys as k (namespace, key, fingerprint, resource_id)
        values (v_graph.namespace, v_graph.key, decode(v_graph.fingerprint, 'hex'), v_graph.id)
        on conflict (namespace, key) do update
          set fingerprint = excluded.fingerprint, resource_id = excluded.resource_id, created_at = now()
          where k.created_at < now() - interval '72 hours';
        return query
          select -1, 'existing', k.resource_id, null::task_status, null::task_wait, k.created_at,
            k.fingerprint = decode(v_graph.fingerprint, 'hex'), null, null, null::uuid
          from idempotency_keys k
          where k.namespace = v_graph.namespace and k.key = v_graph.key and k.resource_id <> v_graph.id;
        if found then return; end if;
      end if;
      insert into graphs (id, namespace, name) values (v_graph.id, v_graph.namespace, v_graph.name)
      on conflict (id) do nothing;
    end if;

    -- Parents outside of this batch are locked until commit, so that none can end unseen; one order for all.
    select array_agg(distinct d.parent) into v_parents from json_to_recordset(p_dependencies) as d (parent uuid);
    perform 1 from tasks p where p.id = any (v_parents) order by p.id for no key update;

    select coalesce(array_agg((n.o, 'unknown_parent', n.parent_id, null, null)::accept_refusal), '{}') into v_refusals
    from json_to_recordset(p_tasks) as n (o int, namespace text, parent_id uuid)
    where n.parent_id is not null
      and not exists (select from tasks p where p.id = n.parent_id and p.namespace = n.namespace offset 0);
    select v_refusals || coalesce(array_agg((u.o, 'unknown_dependency', u.parent, null, null)::accept_refusal), '{}')
    into v_refusals
    from (
      select distinct on (n.o) n.o, d.parent
      from json_to_recordset(p_tasks) as n (o int, id uuid, namespace text)
        join json_to_recordset(p_dependencies) as d (child uuid, parent uuid) on d.child = n.id
      where not exists (select from json_to_recordset(p_tasks) as b (id uuid) where b.id = d.parent)
        and not exists (select from tasks p where p.id = d.parent and p.namespace = n.namespace offset 0)
        and not exists (select from unnest(v_refusals) as r where r.ordinal = n.o)
    ) u;

    if cardinality(v_refusals) = 0 or not p_atomic then
      insert into idempotency_keys as k (namespace, key, fingerprint, resource_id)
      select n.namespace, n.key, decode(n.fingerprint, 'hex'), n.id
      from (
        select distinct on (n.namespace, n.key) n.*
        from json_to_recordset(p_tasks) as n (o int, id uuid, namespace text, key text, fingerprint text)
        where n.key is not null and not exists (select from unnest(v_refusals) as r where r.ordinal = n.o)
        order by n.namespace, n.key, n.o
      ) n
      on conflict (namespace, key) do update
        set fingerprint = excluded.fingerprint, resource_id = excluded.resource_id, created_at = now()
        where k.created_at < now() - interval '72 hours';
      select array_agg((n.o, 'existing', k.resource_id, k.fingerprint = decode(n.fingerprint, 'hex'), k.created_at)::accept_refusal)
      into v_existing
      from json_to_recordset(p_tasks) as n (o int, id uuid, namespace text, key text, fingerprint text) cross join lateral (
        select * from idempotency_keys k where k.namespace = n.namespace and k.key = n.key offset 0
      ) k
      where k.resource_id <> n.id;
      v_refusals := v_refusals || coalesce(v_existing, '{}');
    end if;

    -- All or none: what was written so far is taken back.
    if p_atomic and exists (select from unnest(v_refusals) as r where r.outcome <> 'existing' or not r.same) then
      delete from idempotency_keys where ctid = any (array(
        select k.ctid from json_to_recordset(p_tasks) as n (id uuid, namespace text, key text) cross join lateral (
          select ctid from idempotency_keys k where k.namespace = n.namespace and k.key = n.key and k.resource_id = n.id offset 0
        ) k
      ));
      if p_graph is not null then
        delete from idempotency_keys k
        where k.namespace = v_graph.namespace and k.key = v_graph.key and k.resource_id = v_graph.id;
        delete from graphs g where g.id = v_graph.id;
      end if;
      return query
        select r.ordinal, r.outcome, r.id, t.status, t.waiting_for, coalesce(t.created_at, r.at, now()), r.same,
          t.name, t.type, t.agent_id
        from unnest(v_refusals) as r
          left join lateral (select * from tasks x where x.id = r.id and r.outcome = 'existing' offset 0) t on true;
      return;
    end if;
  end if;
  select coalesce(array_agg(r.ordinal), '{}') into v_refused from unnest(v_refusals) as r;

  with batch as (
    select *,
      case
        when n.open > 0 then 'dependencies'::task_wait
        when n.run_at > now() then 'time'
        when n.agent_id is null then 'agent' end as waits
    from json_to_recordset(p_tasks) as n (
      o int, id uuid, namespace text, name text, type text, description text, agent_id uuid, lane task_lane,
      max_attempts int, at_most_once boolean, open int, dependents boolean, payload json, configuration json, labels jsonb,
      metadata json, parent_id uuid, graph_id uuid, graph_key text, retry_of uuid, run_at timestamptz,
      deadline timestamptz, actor text, trace text
    )
    where not n.o = any (v_refused)
  ), inserted as (
    insert into tasks (id, namespace, name, type, description, agent_id, status, waiting_for, lane, max_attempts,
      at_most_once, dependencies_open, has_dependents, payload, configuration, labels, metadata, parent_id, graph_id,
      graph_key, retry_of, run_at, deadline, actor, trace, queued_at)
    select id, namespace, name, type, description, agent_id,
      case when waits is null then 'queued'::task_status else 'pending' end, waits, lane, max_attempts,
      coalesce(at_most_once, false), coalesce(open, 0), coalesce(dependents, false), payload, configuration, labels,
      metadata, parent_id, graph_id, graph_key, retry_of, run_at, deadline, actor, trace,
      case when waits is null then now() end
    from batch
    on conflict (id) do nothing
    returning tasks.id, tasks.namespace, tasks.waiting_for, tasks.actor, tasks.trace
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
    select i.id, 1, 'task', 'TaskCreated', i.namespace, i.actor, i.trace,
      case when i.waiting_for is not null then json_build_object('waiting_for', i.waiting_for) end
    from inserted i
  )
  select array_agg(i.id) into v_new from inserted i;

  if not p_simple then
    -- Joined rather than compared with an array, which would be read for each of many edges.
    insert into task_dependencies (child_id, parent_id, on_ended, required)
    select d.child, d.parent, d.on_ended, d.required
    from json_to_recordset(p_dependencies) as d (child uuid, parent uuid, on_ended boolean, required boolean)
      join unnest(v_new) as n (id) on n.id = d.child;
    update tasks p set has_dependents = true where p.id = any (v_parents) and not p.has_dependents;
    select array_agg(p.id) into v_ended from tasks p
    where p.id = any (v_parents) and p.status in ('completed', 'failed', 'timeout', 'cancelled');
    if v_ended is not null then
      perform dependencies_resolve(v_ended);
    end if;
    return query
      select r.ordinal, r.outcome, r.id, t.status, t.waiting_for, coalesce(t.created_at, r.at, now()), r.same,
        t.name, t.type, t.agent_id
      from unnest(v_refusals) as r
          left join lateral (select * from tasks x where x.id = r.id and r.outcome = 'existing' offset 0) t on true;
  end if;

  -- Read back rather than returned from the insert: it also answers for rows that an unknown commit had written.
  return query
    select n.o, 'accepted', t.id, t.status, t.waiting_for, t.created_at, null::boolean, null, null, null::uuid
    from json_to_recordset(p_tasks) as n (o int, id uuid)
      cross join lateral (select * from tasks x where x.id = n.id offset 0) t
    where not n.o = any (v_refused);
end $$;

-- Claims queued tasks for instances of one node. `p_slots` are leases {slot, agent_id, index, epoch}, `p_tasks` what each
-- slot wants {slot, id, behind}. Rows with an id were won; rows without tell a slot that is fenced.
create function task_claim(p_slots json, p_tasks json, p_node text, p_again boolean)
returns table (slot int, id uuid, attempt int, number int, at timestamptz, payload json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
  return query
  with slots as materialized (
    select s.slot, i.agent_id, i.index, i.epoch
    from json_to_recordset(p_slots) as s (slot int, agent_id uuid, index int, epoch int)
      join agent_instances i on i.agent_id = any (array[s.agent_id]) and i.index = s.index and i.epoch = s.epoch
    for key share of i
  ), won as (
    update tasks t set status = 'running', attempt = t.attempt + 1, epoch = u.epoch, instance = u.index,
      version = t.version + 1, started_at = now(), progress = null
    from (
      -- One order of locking for all batches.
      select w.id, w.slot, w.behind, s.agent_id, s.index, s.epoch
      from json_to_recordset(p_tasks) as w (id uuid, slot int, behind boolean) join slots s on s.slot = w.slot
      order by w.id
    ) u
    where t.id = any (array[u.id]) and t.status::text = 'queued' and t.agent_id = u.agent_id and t.attempt < t.max_attempts
    returning u.slot, t.id, t.attempt, t.version, t.namespace, t.trace, case when u.behind then t.payload end as payload
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace)
    select w.id, w.version, 'task', 'TaskStarted', w.namespace, w.attempt, p_node, w.trace from won w
  )
  select w.slot, w.id, w.attempt, w.version, now(), w.payload from won w
  union all
  select s.slot, null, null, null, null, null
  from json_to_recordset(p_slots) as s (slot int)
  where not exists (select from slots where slots.slot = s.slot);
  if p_again then
    return query
    select u.slot, t.id, t.attempt, t.version, t.started_at, case when u.behind then t.payload end
    from json_to_recordset(p_tasks) as u (id uuid, slot int, behind boolean)
      join json_to_recordset(p_slots) as s (slot int, agent_id uuid, index int, epoch int) on s.slot = u.slot
      join tasks t on t.id = any (array[u.id])
    where t.status::text = 'running' and t.agent_id = s.agent_id and t.instance = s.index and t.epoch = s.epoch
      and t.started_at < now();
  end if;
end $$;

-- Records the ends of attempts {id, attempt, epoch, status, result, delay, millis, slot}: completed, failed, timeout,
-- pending (a retry after `delay` ms), queued (given back). With a `slot`, one of the leases `p_slots`, the attempt had
-- not been claimed when it ended: claim and end are recorded at once, both with their event. Rows that are missing from
-- the answer were fenced. Children that changed come with their event.
create function task_settle(p_slots json, p_ends json, p_node text, p_again boolean)
returns table (id uuid, number int, at timestamptz, child json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_ids uuid[];
  v_numbers int[];
  v_ended uuid[];
begin
  with slots as materialized (
    select s.slot, i.agent_id, i.index
    from json_to_recordset(p_slots) as s (slot int, agent_id uuid, index int, epoch int)
      join agent_instances i on i.agent_id = any (array[s.agent_id]) and i.index = s.index and i.epoch = s.epoch
    for key share of i
  ), won as (
    update tasks t set
      status = u.status,
      waiting_for = case when u.status = 'pending' then 'retry'::task_wait end,
      result = case when u.status in ('pending', 'queued') then null else u.result end,
      progress = case when u.status = 'completed' and t.progress is not null
        then (t.progress::jsonb || '{"percentage": 100}')::json else t.progress end,
      run_at = case when u.status = 'pending' then now() + u.delay * interval '1 millisecond' else t.run_at end,
      attempt = case when u.status = 'queued' then t.attempt - 1 else u.attempt end,
      epoch = u.epoch,
      instance = coalesce(u.index, t.instance),
      queued_at = case when u.status = 'queued' then now() else t.queued_at end,
      started_at = case when u.slot is null then t.started_at else now() - u.millis * interval '1 millisecond' end,
      completed_at = case when u.status in ('pending', 'queued') then null else now() end,
      version = t.version + case when u.slot is null then 1 else 2 end
    from (
      -- One order of locking for all batches.
      select e.*, s.agent_id, s.index
      from json_to_recordset(p_ends)
        as e (id uuid, attempt int, epoch int, status task_status, result json, delay float8, millis float8, slot int)
        left join slots s on s.slot = e.slot
      order by e.id
    ) u
    where t.id = any (array[u.id]) and case
      when u.slot is null then t.status::text = 'running' and t.attempt = u.attempt and t.epoch = u.epoch
      else t.status::text = 'queued' and t.attempt = u.attempt - 1 and t.agent_id = u.agent_id
        and u.attempt <= t.max_attempts end
    returning t.id, t.version, t.namespace, t.trace, t.agent_id, t.has_dependents, u.attempt, u.status, u.result, u.delay,
      u.millis, u.slot
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select w.id, w.version - 1, 'task', 'TaskStarted', w.namespace, w.attempt, p_node, w.trace, null
    from won w where w.slot is not null
    union all
    select w.id, w.version, 'task',
      case w.status when 'completed' then 'TaskCompleted' when 'failed' then 'TaskFailed' when 'timeout' then 'TaskTimedOut'
        when 'pending' then 'TaskRetried' else 'TaskQueued' end,
      w.namespace, w.attempt, p_node, w.trace,
      case w.status
        when 'completed' then json_build_object('execution_time_ms', w.millis)
        when 'queued' then json_build_object('released', true)
        when 'pending' then json_build_object('execution_time_ms', w.millis, 'error', w.result -> 'error', 'delay_ms', w.delay)
        else json_build_object('execution_time_ms', w.millis, 'error', w.result -> 'error') end
    from won w
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select w.agent_id, count(*) filter (where w.status = 'completed'), count(*) filter (where w.status = 'failed'),
      count(*) filter (where w.status = 'timeout'), 0, count(*), sum(w.millis), max(w.millis)
    from won w where w.status <> 'queued' group by w.agent_id
  )
  select array_agg(w.id), array_agg(w.version),
    array_agg(w.id) filter (where w.has_dependents and w.status not in ('pending', 'queued'))
  into v_ids, v_numbers, v_ended from won w;
  return query select u.id, u.number, now(), null::json from unnest(v_ids, v_numbers) as u (id, number);
  if p_again then
    return query
    select t.id, t.version, now(), null::json
    from json_to_recordset(p_ends) as u (id uuid, attempt int, epoch int, status task_status)
      join tasks t on t.id = any (array[u.id])
    where not t.id = any (coalesce(v_ids, '{}')) and t.epoch = u.epoch and t.status = u.status
      and t.attempt = case when u.status = 'queued' then u.attempt - 1 else u.attempt end;
  end if;
  -- A statement of its own: its snapshot has the dependencies that were accepted while this one waited for a lock.
  if v_ended is not null then
    return query select c.id, c.number, c.at, row_to_json(c) from dependencies_resolve(v_ended) as c;
  end if;
end $$;

-- Records progress of running attempts; rows that are missing from the answer were late or fenced.
create function task_progress(p_reports json, p_node text)
returns table (id uuid, number int, at timestamptz)
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with won as (
    update tasks t set progress = u.progress, version = t.version + 1
    from json_to_recordset(p_reports) as u (id uuid, attempt int, epoch int, progress json)
    where t.id = any (array[u.id]) and t.status::text = 'running' and t.attempt = u.attempt and t.epoch = u.epoch
    returning t.id, t.version, t.namespace, t.trace, t.attempt, u.progress
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select w.id, w.version, 'task', 'TaskProgressed', w.namespace, w.attempt, p_node, w.trace, w.progress from won w
  )
  select w.id, w.version, now() from won w
$$;

-- Ends tasks from outside, whatever they are doing. `agent_id` of a change is set for those that were running.
create function task_cancel(p_namespace text, p_ids uuid[], p_actor text, p_reason text) returns setof task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_changed task_change[];
  v_ended uuid[];
begin
  perform 1 from tasks where id = any (p_ids) and namespace = p_namespace order by id for no key update;
  with before as (
    select t.id, t.status as was from tasks t
    where t.id = any (p_ids) and t.namespace = p_namespace and t.status not in ('completed', 'failed', 'timeout', 'cancelled')
  ), changed as (
    update tasks t set status = 'cancelled', waiting_for = null, completed_at = now(), version = t.version + 1,
      result = json_build_object('success', false, 'error', json_build_object('code', 'cancelled', 'message', coalesce(p_reason, 'cancelled')))
    from before b where t.id = any (array[b.id])
    returning t.id, t.namespace, t.version, t.agent_id, t.trace, t.attempt, t.has_dependents, b.was
  ), facts as (select *, case when p_reason is not null then json_build_object('reason', p_reason) end as data from changed),
  recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskCancelled', namespace, attempt, p_actor, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, 0, 0, count(*), 0, 0, 0 from changed where agent_id is not null group by agent_id
  )
  select array_agg((id, namespace, version, 'TaskCancelled', now(), 'cancelled', case when was = 'running' then agent_id end, trace, data)::task_change),
    array_agg(id) filter (where has_dependents)
  into v_changed, v_ended from facts;
  return query select c.* from unnest(v_changed) as c;
  if v_ended is not null then return query select * from dependencies_resolve(v_ended); end if;
end $$;

-- Takes an instance over: a new epoch, and what ran under the old one is queued again, or fails when it has no attempt
-- left or may run once only. The lease is locked first, so that a claim under the old epoch has committed or never will.
create function instance_take_over(p_agent uuid, p_index int, p_node text, out epoch int, out changes json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ended uuid[];
  v_changes task_change[];
begin
  perform 1 from agent_instances where agent_id = p_agent and index = p_index for update;
  insert into agent_instances as i (agent_id, index, epoch, node) values (p_agent, p_index, 1, p_node)
  on conflict (agent_id, index) do update
    set epoch = i.epoch + 1, node = excluded.node, status = 'active', taken_at = now(), heartbeat = now()
  returning i.epoch into epoch;
  -- In the order in which ends and cancellations lock tasks.
  perform 1 from tasks where agent_id = p_agent and instance = p_index and status = 'running' order by id for no key update;
  with changed as (
    update tasks t set
      status = case when t.at_most_once or t.attempt >= t.max_attempts then 'failed'::task_status else 'queued' end,
      queued_at = now(),
      result = case
        when t.at_most_once then json_build_object('success', false, 'error', json_build_object(
          'code', 'unknown_outcome', 'message', 'its instance was lost while it ran, and it may run at most once'))
        when t.attempt >= t.max_attempts then json_build_object('success', false, 'error', json_build_object(
          'code', 'instance_lost', 'message', 'its instance was lost during the last attempt allowed')) end,
      completed_at = case when t.at_most_once or t.attempt >= t.max_attempts then now() end,
      version = t.version + 1
    where t.agent_id = p_agent and t.instance = p_index and t.status = 'running'
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt, t.has_dependents, t.result
  ), facts as (
    select *, case status when 'failed' then 'TaskFailed' else 'TaskQueued' end as event,
      case status when 'failed' then json_build_object('error', result -> 'error') else json_build_object('instance_lost', true) end as data
    from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', event, namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, count(*), 0, 0, 0, 0, 0 from changed where status = 'failed' group by agent_id
  )
  select array_agg((id, namespace, version, event, now(), status, agent_id, trace, data)::task_change),
    array_agg(id) filter (where has_dependents and status = 'failed')
  into v_changes, v_ended from facts;
  if v_ended is not null then
    select v_changes || coalesce(array_agg(c), '{}') into v_changes from dependencies_resolve(v_ended) as c;
  end if;
  changes := coalesce(array_to_json(v_changes), '[]');
end $$;

-- Pending tasks whose time has come: run_at passed, or the delay of a retry.
create function tasks_queue_due(p_limit int, p_node text) returns setof task_change
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with due as (
    select id from tasks where status = 'pending' and waiting_for in ('time', 'retry') and run_at <= now()
    order by run_at limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set
      status = case when t.agent_id is null then 'pending'::task_status else 'queued' end,
      waiting_for = case when t.agent_id is null then 'agent'::task_wait end,
      queued_at = case when t.agent_id is not null then now() end,
      version = t.version + 1
    from due where t.id = any (array[due.id])
    returning t.id, t.namespace, t.version, t.status, t.waiting_for, t.agent_id, t.trace, t.attempt
  ), facts as (
    select *, case when status = 'pending' then json_build_object('waiting_for', waiting_for) end as data from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace, data from facts
  )
  select id, namespace, version, 'TaskQueued', now(), status, agent_id, trace, data from facts
$$;

-- Tasks whose deadline has passed end as timeout, whatever they are doing. `agent_id` is set for those that were running.
create function tasks_expire(p_limit int, p_node text) returns setof task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_changed task_change[];
  v_ended uuid[];
begin
  with due as (
    select id, status as was, agent_id as ran_on from tasks
    where deadline <= now() and status in ('pending', 'queued', 'running', 'paused')
    order by deadline limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set status = 'timeout', waiting_for = null, completed_at = now(), version = t.version + 1,
      result = json_build_object('success', false, 'error', json_build_object(
        'code', 'deadline', 'message', 'its deadline passed before it completed'))
    from due where t.id = any (array[due.id])
    returning t.id, t.namespace, t.version, t.agent_id, t.trace, t.attempt, t.has_dependents, t.result, due.was
  ), facts as (select *, json_build_object('error', result -> 'error') as data from changed),
  recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskTimedOut', namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, 0, count(*), 0, 0, 0, 0 from changed where agent_id is not null group by agent_id
  )
  select array_agg((id, namespace, version, 'TaskTimedOut', now(), 'timeout', case when was = 'running' then agent_id end, trace, data)::task_change),
    array_agg(id) filter (where has_dependents)
  into v_changed, v_ended from facts;
  return query select c.* from unnest(v_changed) as c;
  if v_ended is not null then return query select * from dependencies_resolve(v_ended); end if;
end $$;

-- Tasks that wait for an agent of a type get one.
create function tasks_assign(p_namespace text, p_type text, p_agent uuid, p_limit int, p_node text) returns setof task_change
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with found as (
    select id from tasks where namespace = p_namespace and type = p_type and status = 'pending' and waiting_for = 'agent'
    order by id limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set agent_id = p_agent, status = 'queued', waiting_for = null, queued_at = now(), version = t.version + 1
    from found where t.id = any (array[found.id])
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace)
    select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace from changed
  )
  select id, namespace, version, 'TaskQueued', now(), status, agent_id, trace, null::json from changed
$$;

-- Agents that have queued or running tasks, by skipping through the index rather than reading the backlog.
create function agents_with_work(p_limit int) returns setof uuid
language sql stable as $$
  with recursive agents as (
    (select agent_id from tasks where status in ('queued', 'running') order by agent_id limit 1)
    union all
    select (select t.agent_id from tasks t where t.status in ('queued', 'running') and t.agent_id > a.agent_id
      order by t.agent_id limit 1)
    from agents a where a.agent_id is not null
  )
  select agent_id from agents where agent_id is not null limit p_limit
$$;

-- Namespaces and types of tasks that wait for an agent, in order after a given one, by skipping through the index.
create function types_without_agent(p_namespace text, p_type text, p_limit int) returns table (namespace text, type text)
language sql stable as $$
  with recursive kinds as (
    (select t.namespace, t.type from tasks t
     where t.status = 'pending' and t.waiting_for = 'agent' and (t.namespace, t.type) > (p_namespace, p_type)
     order by t.namespace, t.type limit 1)
    union all
    select n.namespace, n.type from kinds k cross join lateral (
      select t.namespace, t.type from tasks t
      where t.status = 'pending' and t.waiting_for = 'agent' and (t.namespace, t.type) > (k.namespace, k.type)
      order by t.namespace, t.type limit 1) n
  )
  select k.namespace, k.type from kinds k limit p_limit
$$;
