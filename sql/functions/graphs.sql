-- What becomes of steps (tasks with a condition or a map) once their dependencies are satisfied, and how graphs end before
-- their tasks do. A node looks at a step that is due, decides, and says so here; the step's row in `tasks` is locked first, so
-- of two nodes that decide the same only one is heard, and what is said about a step that has moved on changes nothing.

-- A step without a map: it runs, is skipped, or fails.
create function ledger.step_decide(p_id uuid, p_decision text, p_error json, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_task tasks;
  v_step graph_steps;
begin
  select * into v_task from tasks where id = p_id for no key update;
  select * into v_step from graph_steps where task_id = p_id;
  if v_task.status <> 'pending' or v_task.waiting_for <> 'dependencies' or not v_step.due then return; end if;
  -- A map that is being expanded can still fail: its list may be gone.
  if (v_step.phase is not null or v_task.dependencies_open > 0) and not (p_decision = 'failed' and v_step.phase = 'expanding')
  then return; end if;
  update graph_steps set due = false where task_id = p_id;
  return query
  with changed as (
    update tasks t set
      status = case p_decision
        when 'failed' then 'failed'::task_status
        when 'skipped' then 'cancelled'
        else case when t.run_at > now() or t.agent_id is null or t.limited then 'pending'::task_status else 'queued' end end,
      waiting_for = case when p_decision = 'run' then
        case when t.run_at > now() then 'time'::task_wait when t.agent_id is null then 'agent' when t.limited then 'capacity' end end,
      queued_at = case when p_decision = 'run' and t.agent_id is not null and t.limited is null and (t.run_at is null or t.run_at <= now())
        then now() end,
      result = case when p_decision <> 'run' then json_build_object('success', false, 'error', p_error) end,
      completed_at = case when p_decision <> 'run' then now() end,
      version = t.version + 1
    where t.id = p_id
    returning t.*
  ), facts as (
    select *, case status when 'failed' then 'TaskFailed' when 'cancelled' then 'TaskCancelled' else 'TaskQueued' end as event,
      case status
        when 'queued' then null
        when 'pending' then json_build_object('waiting_for', waiting_for)
        else json_build_object('error', p_error) end as data
    from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', event, namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, (status = 'failed')::int, 0, (status = 'cancelled')::int, 0, 0, 0
    from facts where agent_id is not null and status in ('failed', 'cancelled')
  )
  select id, namespace, version, event, now(), status, agent_id, trace, data from facts;
  if p_decision <> 'run' then return query select * from ledger.dependencies_resolve(array[p_id]); end if;
end $$;

-- Makes a portion of a map's elements: those from `p_from` on, of `p_total` in all. `p_elements` has {index, id, payload},
-- or {index, id, taken} for one that completed in an earlier graph. Each element is a parent of the map, so that its end is
-- counted as that of any other.
create function ledger.map_expand(p_id uuid, p_from int, p_total int, p_elements json, p_node text)
returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_task tasks;
  v_step graph_steps;
  v_changed ledger.task_change[];
  v_new int;
  v_all int;
begin
  select * into v_task from tasks where id = p_id for no key update;
  select * into v_step from graph_steps where task_id = p_id;
  if v_task.status <> 'pending' or v_task.waiting_for <> 'dependencies' or v_step.made <> p_from
    or not coalesce(v_step.phase = 'expanding', v_task.dependencies_open = 0)
    or exists (select from graphs g where g.id = v_task.graph_id and g.ending is not null) then return; end if;
  with elements as (
    select *, case
      when v_step.max_parallel is not null then 'dependencies'::task_wait
      when v_task.run_at > now() then 'time'
      when v_task.agent_id is null then 'agent'
      when v_task.limited then 'capacity' end as waits
    from json_to_recordset(p_elements) as e (index int, id uuid, payload json, taken boolean)
    where e.taken is not true
  ), made as (
    insert into tasks (id, namespace, name, type, description, agent_id, status, waiting_for, lane, max_attempts,
      at_most_once, has_dependents, payload, configuration, labels, metadata, parent_id, graph_id, run_at, deadline, actor,
      trace, queued_at, limited)
    select e.id, v_task.namespace, left(v_task.name, 190) || '[' || e.index || ']', v_task.type, v_task.description,
      v_task.agent_id, case when e.waits is null then 'queued'::task_status else 'pending' end, e.waits, v_task.lane,
      v_task.max_attempts, v_task.at_most_once, true, e.payload, v_task.configuration, v_task.labels, v_task.metadata, p_id,
      v_task.graph_id, v_task.run_at, v_task.deadline, v_task.actor, v_task.trace, case when e.waits is null then now() end,
      v_task.limited
    from elements e
    returning id, namespace, version, status, waiting_for, agent_id, trace, limited
  ), facts as (
    select *, case when waiting_for is not null then json_build_object('waiting_for', waiting_for) end as data from made
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
    select id, version, 'task', 'TaskCreated', namespace, p_node, trace, data from facts
  )
  select array_agg((id, namespace, version, 'TaskCreated', now(), status, agent_id, trace, data)::ledger.task_change), count(*)
  into v_changed, v_new from facts;
  return query select c.* from unnest(v_changed) as c;
  if v_task.limited then
    -- Elements have the limits of their map, and its keys; the map itself never runs.
    with entered as (
      insert into task_limits (task_id, limit_id, key, namespace, fair, lane, waits)
      select c.id, l.limit_id, l.key, l.namespace, l.fair, l.lane, l.place = 1 and c.status = 'pending' and c.data ->> 'waiting_for' = 'capacity'
      from unnest(v_changed) as c
        cross join (select x.*, row_number() over (order by x.limit_id) as place from task_limits x where x.task_id = p_id) l
      returning namespace, limit_id, key, waits
    )
    insert into limit_marks (namespace, limit_id, key, freed)
    select distinct namespace, limit_id, key, 0 from entered where waits;
  end if;

  insert into task_dependencies (child_id, parent_id, on_ended, required, element)
  select p_id, e.id, coalesce(v_step.definition -> 'map' ->> 'on_failure', 'fail') <> 'fail_fast', true, true
  from json_to_recordset(p_elements) as e (id uuid, taken boolean) where e.taken is not true;
  insert into map_elements (map_id, index, task_id, state)
  select p_id, e.index, e.id, case when e.taken then 'done' when v_step.max_parallel is not null then 'held' end
  from json_to_recordset(p_elements) as e (index int, id uuid, taken boolean);
  get diagnostics v_all = row_count;
  update graph_steps s set
    phase = case when p_from + v_all < p_total then 'expanding' else 'expanded' end,
    total = p_total, made = p_from + v_all, due = p_from + v_all < p_total,
    held = s.held + case when s.max_parallel is null then 0 else v_new end
  where s.task_id = p_id;
  if v_step.phase is null then
    return query
    with begun as (
      update tasks t set dependencies_open = v_new, started_at = now(), version = t.version + 1,
        progress = json_build_object('percentage', 0, 'completed_steps', 0, 'total_steps', p_total)
      where t.id = p_id returning t.*
    ), recorded as (
      insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
      select id, version, 'task', 'TaskProgressed', namespace, attempt, p_node, trace, progress from begun
    )
    select id, namespace, version, 'TaskProgressed', now(), status, agent_id, trace, progress from begun;
  else
    update tasks t set dependencies_open = t.dependencies_open + v_new where t.id = p_id;
  end if;
  return query select * from ledger.map_advance(p_id, p_node);
end $$;

-- Lets elements go that were held back, in their order, while fewer than `max_parallel` are under way; and ends the map when
-- all have ended. An element that somebody else has locked is passed over and looked at again.
create function ledger.map_advance(p_id uuid, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_task tasks;
  v_step graph_steps;
  v_free int;
  v_ids uuid[];
begin
  select * into v_task from tasks where id = p_id for no key update;
  select * into v_step from graph_steps where task_id = p_id;
  if v_task.status <> 'pending' or v_step.phase is null then return; end if;
  if v_step.phase = 'expanded' and v_task.dependencies_open = 0 then
    return query select * from ledger.map_finish(p_id, p_node);
    return;
  end if;
  if v_step.held > 0 then
    update map_elements e set state = 'done' from tasks t
    where e.map_id = p_id and e.state = 'live' and t.id = any (array[e.task_id])
      and t.status in ('completed', 'failed', 'timeout', 'cancelled');
    select v_step.max_parallel - count(*) into v_free from map_elements e where e.map_id = p_id and e.state = 'live';
  end if;
  while v_free > 0 and v_step.held > 0 loop
    select array_agg(n.id) into v_ids from (
      select t.id from tasks t
      where t.id = any (array(
        select e.task_id from map_elements e where e.map_id = p_id and e.state = 'held' order by e.index limit v_free))
      for no key update skip locked
    ) n;
    exit when v_ids is null;
    return query
    with changed as (
      update tasks t set
        status = case when t.run_at > now() or t.agent_id is null or t.limited then 'pending'::task_status else 'queued' end,
        waiting_for = case when t.run_at > now() then 'time'::task_wait when t.agent_id is null then 'agent' when t.limited then 'capacity' end,
        queued_at = case when t.agent_id is not null and t.limited is null and (t.run_at is null or t.run_at <= now()) then now() end,
        version = t.version + 1
      where t.id = any (v_ids) and t.status::text = 'pending' and t.waiting_for::text = 'dependencies'
      returning t.*
    ), facts as (
      select *, case when status = 'pending' then json_build_object('waiting_for', waiting_for) end as data from changed
    ), recorded as (
      insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
      select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace, data from facts
    )
    select id, namespace, version, 'TaskQueued', now(), status, agent_id, trace, data from facts;
    -- One that ended while it was held back needs no place.
    update map_elements e set state = case
      when t.status in ('completed', 'failed', 'timeout', 'cancelled') then 'done' else 'live' end
    from tasks t
    where e.map_id = p_id and e.state = 'held' and e.task_id = any (v_ids) and t.id = any (array[e.task_id]);
    v_step.held := v_step.held - cardinality(v_ids);
    select v_step.max_parallel - count(*) into v_free from map_elements e where e.map_id = p_id and e.state = 'live';
  end loop;
  update graph_steps s set held = v_step.held, due = s.phase = 'expanding' or (v_step.held > 0 and v_free > 0)
  where s.task_id = p_id;
end $$;

-- Ends a map whose elements have all ended, with the list of their ends as its result: {task_id, status}, and `data` or
-- `error` as far as these fit into 256 KiB, in order. Results are not even read beyond 256 KiB as they are stored.
create function ledger.map_finish(p_id uuid, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_list json;
  v_total int;
  v_others int;
  v_error json;
begin
  with listed as (
    select e.index, e.task_id, t.status, t.result,
      sum(coalesce(pg_column_size(t.result), 0)) over (order by e.index) <= 262144 as fits
    from map_elements e join tasks t on t.id = any (array[e.task_id])
    where e.map_id = p_id
  ), read as (
    select index, task_id, status, case
      when not fits or strpos(result::text, '\u0000') > 0 then null
      when status = 'completed' then result -> 'data'
      else result -> 'error' end as part
    from listed
  ), sized as (
    select *, part is not null and sum(coalesce(octet_length(part::text), 0)) over (order by index) <= 262144 as fits from read
  )
  select coalesce(json_agg(case
      when not fits then json_build_object('task_id', task_id, 'status', status)
      when status = 'completed' then json_build_object('task_id', task_id, 'status', status, 'data', part)
      else json_build_object('task_id', task_id, 'status', status, 'error', part) end order by index), '[]'),
    count(*), count(*) filter (where status <> 'completed')
  into v_list, v_total, v_others from sized;
  select json_build_object('code', 'map_failed', 'message', v_others || ' of ' || v_total || ' elements did not complete',
    'details', json_build_object('elements', v_total, 'not_completed', v_others))
  into v_error from graph_steps s
  where s.task_id = p_id and v_others > 0 and coalesce(s.definition -> 'map' ->> 'on_failure', 'fail') <> 'continue';
  update graph_steps set due = false where task_id = p_id;
  return query
  with changed as (
    update tasks t set status = case when v_error is null then 'completed'::task_status else 'failed' end,
      waiting_for = null, completed_at = now(), version = t.version + 1,
      progress = json_build_object('percentage', 100, 'completed_steps', v_total, 'total_steps', v_total),
      result = case when v_error is null
        then json_build_object('success', true, 'data', v_list, 'execution_time_ms', m.millis)
        else json_build_object('success', false, 'data', v_list, 'error', v_error, 'execution_time_ms', m.millis) end
    from (
      select extract(epoch from now() - coalesce(x.started_at, now()))::float8 * 1000 as millis from tasks x where x.id = p_id
    ) m
    where t.id = p_id
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt, m.millis
  ), facts as (
    select *, case status when 'completed' then 'TaskCompleted' else 'TaskFailed' end as event,
      case status when 'completed' then json_build_object('execution_time_ms', millis, 'elements', v_total)
        else json_build_object('execution_time_ms', millis, 'error', v_error) end as data
    from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', event, namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    -- An end of its agent like any other, though without an attempt.
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, (status = 'completed')::int, (status = 'failed')::int, 0, 0, 0, 0, 0 from facts where agent_id is not null
  )
  select id, namespace, version, event, now(), status, agent_id, trace, data from facts;
  return query select * from ledger.dependencies_resolve(array[p_id]);
end $$;

-- Cancels elements of a map that has ended before them, at most `p_limit`. Nothing is left when it changes nothing.
create function ledger.map_cancel_rest(p_id uuid, p_limit int, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ids uuid[];
  v_namespace text;
begin
  select array_agg(n.id), min(n.namespace) into v_ids, v_namespace from (
    select t.id, t.namespace from map_elements e join tasks t on t.id = any (array[e.task_id])
    where e.map_id = p_id and t.parent_id = p_id and t.status not in ('completed', 'failed', 'timeout', 'cancelled')
    limit p_limit
  ) n;
  if v_ids is null then
    update graph_steps s set due = false from tasks t
    where s.task_id = p_id and t.id = any (array[s.task_id]) and t.status in ('completed', 'failed', 'timeout', 'cancelled');
  else
    return query select * from ledger.task_cancel(v_namespace, v_ids, p_node, 'its map has ended');
  end if;
end $$;

-- Cancels tasks of a graph that is to end, at most `p_limit`, and says whether any are left. Their dependents are told only
-- when none is left: they are cancelled themselves, not failed by those before them. Tasks that are locked are passed over.
create function ledger.graph_cancel(p_id uuid, p_limit int, out more boolean, out changes json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_graph graphs;
  v_changes ledger.task_change[];
begin
  select * into v_graph from graphs where id = p_id;
  more := false;
  changes := '[]';
  if v_graph.ending is null then return; end if;
  with open as (
    select t.id, t.status as was from tasks t
    where t.graph_id = p_id and t.status not in ('completed', 'failed', 'timeout', 'cancelled')
    order by t.id limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set status = 'cancelled', waiting_for = null, completed_at = now(), version = t.version + 1,
      result = json_build_object('success', false, 'error', json_build_object(
        'code', v_graph.ending ->> 'code', 'message', v_graph.ending ->> 'message'))
    from open where t.id = any (array[open.id])
    returning t.id, t.namespace, t.version, t.agent_id, t.trace, t.attempt, open.was
  ), facts as (
    select *, json_build_object('reason', v_graph.ending ->> 'message') as data from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskCancelled', namespace, attempt, v_graph.ending ->> 'actor', trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, 0, 0, count(*), 0, 0, 0 from changed where agent_id is not null group by agent_id
  )
  select array_agg((id, namespace, version, 'TaskCancelled', now(), 'cancelled', case when was = 'running' then agent_id end,
    trace, data)::ledger.task_change)
  into v_changes from facts;
  changes := coalesce(array_to_json(v_changes), '[]');
  more := exists (
    select from tasks t where t.graph_id = p_id and t.status not in ('completed', 'failed', 'timeout', 'cancelled'));
  if not more then
    delete from pauses where id = p_id;
    insert into dependency_frontier
    select t.id from tasks t where t.graph_id = p_id and t.has_dependents and t.status = 'cancelled'
    on conflict do nothing;
    update graphs set ending = null where id = p_id;
  end if;
end $$;

-- Steps, graphs and pauses that are due, whoever made them so. Without sequential scans: both are looked for every second.
create function ledger.graphs_due(p_limit int) returns table (step uuid, graph uuid, pause uuid)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  return query (select s.task_id, null::uuid, null::uuid from graph_steps s where s.due limit p_limit)
    union all (select null::uuid, g.id, null::uuid from graphs g where g.ending is not null limit p_limit)
    union all (select null::uuid, null::uuid, p.id from pauses p where p.phase <> 'paused' limit p_limit);
end $$;
