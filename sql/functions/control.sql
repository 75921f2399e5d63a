-- Moves tasks that wait to another lane or another agent. Whoever claims one at the same time either has it before, and
-- then it is no longer moved, or finds it gone. A task that waited for any agent is queued with the one it is given, or
-- waits for its limits.
create function ledger.tasks_move(p_namespace text, p_ids uuid[], p_lane task_lane, p_agent uuid, p_actor text)
returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  if p_agent is not null then
    -- Shared until commit: an agent on its way out does not leave while it is given work.
    perform 1 from agents a where a.id = p_agent and a.namespace = p_namespace and a.status <> 'terminated' and not a.draining
    for share;
    if not found then return; end if;
  end if;
  perform 1 from tasks where id = any (p_ids) and namespace = p_namespace order by id for no key update;
  return query
  with before as (
    select t.id, t.lane as lane_was, t.agent_id as agent_was, p_agent is not null and t.waiting_for::text = 'agent' as released
    from tasks t
    where t.id = any (p_ids) and t.namespace = p_namespace and t.status::text in ('pending', 'queued', 'paused')
      and (t.lane <> p_lane or t.agent_id is distinct from coalesce(p_agent, t.agent_id))
  ), changed as (
    update tasks t set
      lane = coalesce(p_lane, t.lane),
      agent_id = coalesce(p_agent, t.agent_id),
      status = case when b.released and t.limited is null then 'queued'::task_status else t.status end,
      waiting_for = case when b.released then case when t.limited then 'capacity'::task_wait end else t.waiting_for end,
      queued_at = case when b.released and t.limited is null then now() else t.queued_at end,
      version = t.version + 1
    from before b where t.id = any (array[b.id])
    returning t.id, t.namespace, t.version, t.status, t.waiting_for, t.agent_id, t.trace, t.attempt, t.lane, t.limited, t.held_limits is null as waits,
      b.lane_was, b.agent_was, b.released
  ), requeued as (
    -- Who waits for capacity does so in its new lane.
    update task_limits l set lane = c.lane from changed c
    where c.limited and c.waits and c.lane <> c.lane_was and l.task_id = any (array[c.id])
  ), facts as (
    select *, case when released then 'TaskQueued' else 'TaskMoved' end as event,
      json_strip_nulls(json_build_object(
        'priority', case when lane <> lane_was then lane end,
        'priority_before', case when lane <> lane_was then lane_was end,
        'agent_id', case when agent_id is distinct from agent_was then agent_id end,
        'agent_id_before', case when agent_id is distinct from agent_was then agent_was end,
        'waiting_for', case when released then waiting_for end)) as data
    from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', event, namespace, attempt, p_actor, trace, data from facts
  )
  select id, namespace, version, event, now(), status, agent_id, trace, data from facts;
end $$;

-- Which of these tasks may be deleted: they have ended, and nobody who has not ended depends on them, or has yet to be
-- told of their end, or awaited it and may ask again. `p_keep_keyed` keeps those whose idempotency key is still remembered. Keys are found by their time,
-- which is that of the task or graph they made. With the size of what is stored in them.
create function ledger.tasks_deletable(p_namespace text, p_ids uuid[], p_keep_keyed boolean)
returns table (id uuid, bytes bigint)
language sql stable set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  select t.id, coalesce(octet_length(t.payload::text), 0)::bigint + coalesce(octet_length(t.result::text), 0)
  from tasks t
  where t.id = any (p_ids) and t.namespace = p_namespace and t.status::text in ('completed', 'failed', 'timeout', 'cancelled')
    and (not t.has_dependents or not exists (
      select from task_dependencies d cross join lateral (
        select c.status::text as status from tasks c where c.id = d.child_id offset 0
      ) c
      where d.parent_id = t.id and (not d.resolved or c.status not in ('completed', 'failed', 'timeout', 'cancelled')) offset 0
    ))
    and not exists (select from dependency_frontier f where f.parent_id = t.id offset 0)
    and not (t.awaited is true and ledger.child_needed(t.id))
    and not (p_keep_keyed and exists (
      select from idempotency_keys k
      where k.created_at = t.created_at and (k.resource_id = t.id or k.resource_id = t.graph_id) offset 0
    ))
    and not (p_keep_keyed and (t.unique_key is not null or t.coalesce_key is not null) and exists (
      select from joined_submissions j join idempotency_keys k on k.namespace = j.namespace and k.key = j.idempotency_key
      where j.task_id = t.id and k.resource_id = t.id offset 0
    ))
$$;

-- Deletes those of these tasks that may be: with events, dependencies, acknowledgement and idempotency key, and the graph
-- when its last task goes. Agents' tallies stay; what went is noted, so that counts know what is still there.
create function ledger.tasks_delete(p_namespace text, p_ids uuid[], p_keep_keyed boolean) returns setof uuid
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ids uuid[];
  v_graphs uuid[];
begin
  -- Whoever is about to depend on one of them has done so before, or does not find it any more.
  perform 1 from tasks where id = any (p_ids) and namespace = p_namespace order by id for update;
  select array_agg(d.id) into v_ids from ledger.tasks_deletable(p_namespace, p_ids, p_keep_keyed) d;
  if v_ids is null then return; end if;
  delete from idempotency_keys where ctid = any (array(
    select k.ctid from tasks t cross join lateral (
      select x.ctid from idempotency_keys x where x.created_at = t.created_at and x.resource_id = t.id offset 0
    ) k
    where t.id = any (v_ids)
  ));
  perform ledger.joined_submissions_forget(v_ids);
  delete from task_dependencies where child_id = any (v_ids);
  delete from task_dependencies where parent_id = any (v_ids);
  delete from acknowledgements where task_id = any (v_ids);
  delete from events where aggregate = any (v_ids);
  with gone as (
    delete from tasks t where t.id = any (v_ids) returning t.agent_id, t.status, t.graph_id
  ), noted as (
    insert into task_deletions (namespace, agent_id, completed, failed, timed_out, cancelled)
    select p_namespace, agent_id, count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'),
      count(*) filter (where status = 'timeout'), count(*) filter (where status = 'cancelled')
    from gone group by agent_id
  )
  select array_agg(distinct graph_id) into v_graphs from gone where graph_id is not null;
  if v_graphs is not null then
    delete from idempotency_keys where ctid = any (array(
      select k.ctid from graphs g cross join lateral (
        select x.ctid from idempotency_keys x where x.created_at = g.created_at and x.resource_id = g.id offset 0
      ) k
      where g.id = any (v_graphs) and not exists (select from tasks t where t.graph_id = g.id offset 0)
    ));
    delete from graphs g where g.id = any (v_graphs) and not exists (select from tasks t where t.graph_id = g.id offset 0);
  end if;
  return query select unnest(v_ids);
end $$;

-- Does one thing to these tasks: cancel, delete, move, acknowledge, or nothing (what a retry does is done elsewhere). With
-- `p_step` {operation, from, next, ended, matched, done, failed, errors} it is one step of an operation: nothing
-- happens unless the operation stands at `from`, so a step that is repeated, or taken by two nodes, is taken once; then it
-- stands at `next`, or has ended. Answers the tasks among `p_ids` that were done (`id`) and every change (`change`).
create function ledger.tasks_control(p_namespace text, p_ids uuid[], p_action text, p_parameters json, p_actor text, p_step json)
returns table (id uuid, change json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_changes ledger.task_change[];
  v_done uuid[];
begin
  if p_step is not null then
    perform 1 from operations o
    where o.id = (p_step ->> 'operation')::uuid and o.namespace = p_namespace and o.status = 'running'
      and o.position = (p_step ->> 'from')::uuid
    for update;
    if not found then return; end if;
  end if;
  if p_action = 'cancel' then
    select array_agg(c) into v_changes from ledger.task_cancel(p_namespace, p_ids, p_actor, p_parameters ->> 'reason') as c;
  elsif p_action in ('prioritise', 'reroute') then
    select array_agg(c) into v_changes
    from ledger.tasks_move(p_namespace, p_ids, (p_parameters ->> 'priority')::task_lane, (p_parameters ->> 'agent_id')::uuid, p_actor) as c;
  elsif p_action = 'delete' then
    select array_agg(d) into v_done
    from ledger.tasks_delete(p_namespace, p_ids, coalesce((p_parameters ->> 'keep_keyed')::boolean, false)) as d;
  elsif p_action = 'acknowledge' then
    with dead as (
      select t.id from tasks t
      where t.id = any (p_ids) and t.namespace = p_namespace and t.status::text in ('failed', 'timeout', 'cancelled')
      order by t.id for key share
    ), acknowledged as (
      insert into acknowledgements (task_id, namespace, actor, note)
      select d.id, p_namespace, p_actor, p_parameters ->> 'note' from dead d
      on conflict (task_id) do nothing
      returning task_id
    )
    select array_agg(a.task_id) into v_done from acknowledged a;
  end if;
  v_done := coalesce(v_done, array(select c.id from unnest(coalesce(v_changes, '{}')) as c where c.id = any (p_ids)), '{}');
  if p_step is not null then
    update operations o set
      position = coalesce((p_step ->> 'next')::uuid, o.position),
      matched = o.matched + (p_step ->> 'matched')::int,
      done = o.done + cardinality(v_done) + (p_step ->> 'done')::int,
      failed = o.failed + (p_step ->> 'failed')::int,
      errors = case when jsonb_array_length(o.errors) < 20 then o.errors || (p_step -> 'errors')::jsonb else o.errors end,
      status = case when (p_step ->> 'ended')::boolean then 'completed' else 'running' end,
      ended_at = case when (p_step ->> 'ended')::boolean then now() end,
      updated_at = clock_timestamp()
    where o.id = (p_step ->> 'operation')::uuid;
  end if;
  return query select d, null::json from unnest(v_done) as d;
  return query select null::uuid, row_to_json(c) from unnest(coalesce(v_changes, '{}')) as c;
end $$;

-- Clears results whose time to live is over. What is left says so; the task itself stays. One that another task awaited is kept until that
-- has ended: it is part of the answer that every attempt gets.
create function ledger.results_expire(p_limit int, p_node text) returns setof ledger.task_change
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with due as (
    select id from tasks
    where result_ttl_ms is not null and status = 'completed'
      and ((completed_at at time zone 'UTC') + result_ttl_ms * interval '1 millisecond') <= now() at time zone 'UTC'
      and not (awaited is true and ledger.child_needed(id))
    order by ((completed_at at time zone 'UTC') + result_ttl_ms * interval '1 millisecond')
    limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set
      result = json_build_object('success', true, 'expired_at',
        to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
      result_ttl_ms = null, version = t.version + 1
    from due where t.id = any (array[due.id])
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace)
    select id, version, 'task', 'TaskResultExpired', namespace, attempt, p_node, trace from changed
  )
  select id, namespace, version, 'TaskResultExpired', now(), status, agent_id, trace, null::json from changed
$$;
