-- Counts ends of parents towards their children, and ends children that can no longer run, down the graph: at most 200
-- levels and 5,000 edges per transaction, so that no graph holds up others or runs into the statement timeout. What is left
-- is kept in `dependency_frontier`, from where `ledger.dependencies_resume` carries on.
--
-- A step (a task with a condition or a map) that is released stays pending; that it is due comes back as a change without a
-- status, its event 'step'. The same says, with 'ending', which graph has to end because one of its tasks failed.
create function ledger.dependencies_resolve(p_ended uuid[]) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ended uuid[] := p_ended;
  v_children uuid[];
  v_counts int[];
  v_fails boolean[];
  v_skips boolean[];
  v_causes uuid[];
  v_changed ledger.task_change[];
  v_level int := 0;
  v_edges int := 0;
  v_steps uuid[];
  v_over uuid[];
  v_failing uuid[];
  v_awaited uuid[];
begin
  while cardinality(v_ended) > 0 loop
    if v_level >= 200 or v_edges >= 5000 then
      insert into dependency_frontier select unnest(v_ended) on conflict do nothing;
      exit;
    end if;
    v_level := v_level + 1;
    with ended as (
      select p.id, p.status = 'completed' as done, p.step, p.awaited, p.graph_id,
        p.fails_graph and p.status in ('failed', 'timeout') as fails_graph,
        case when p.status = 'cancelled' then p.result -> 'error' ->> 'code' = 'skipped' else false end as skipped
      from tasks p
      where p.id = any (v_ended) and p.status in ('completed', 'failed', 'timeout', 'cancelled')
    ), picked as (
      select d.ctid as at, e.done, e.skipped from ended e cross join lateral (
        select x.ctid from task_dependencies x where x.parent_id = e.id and not x.resolved
        order by x.child_id limit 5000 - v_edges
      ) d
      limit 5000 - v_edges
    ), counted as (
      update task_dependencies d set resolved = true
      from picked p
      where d.ctid = p.at and not d.resolved
      returning d.child_id, d.parent_id, d.required and not p.skipped as required,
        (p.done or d.on_ended or (p.skipped and d.runs_if_skipped is true)) as satisfied
    ), per_child as (
      select child_id, count(*)::int as counts, bool_or(not satisfied and required) as fails,
        bool_or(not satisfied and not required) as skips,
        min(parent_id::text) filter (where not satisfied)::uuid as cause
      from counted group by child_id
    )
    select array_agg(child_id order by child_id), array_agg(counts order by child_id), array_agg(fails order by child_id),
      array_agg(skips order by child_id), array_agg(cause order by child_id), v_edges + coalesce(sum(counts), 0),
      (select array_agg(e.id) from ended e where e.step),
      (select v_failing || array_agg(e.graph_id) from ended e where e.fails_graph),
      (select v_awaited || array_agg(e.id) from ended e where e.awaited)
    into v_children, v_counts, v_fails, v_skips, v_causes, v_edges, v_over, v_failing, v_awaited
    from per_child;
    if v_over is not null then v_steps := v_steps || v_over; end if;
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
          when t.dependencies_open > c.counts or t.step or t.run_at > now() or t.agent_id is null or t.limited then 'pending'
          else 'queued' end,
        waiting_for = case
          when c.fails or c.skips then null
          when t.dependencies_open > c.counts or t.step then 'dependencies'::task_wait
          when t.run_at > now() then 'time'
          when t.agent_id is null then 'agent'
          when t.limited then 'capacity' end,
        result = case
          when c.fails then json_build_object('success', false, 'error', json_build_object(
            'code', 'dependency_failed', 'message', 'a task that this one depends on did not complete',
            'details', json_build_object('task_id', c.cause)))
          when c.skips then json_build_object('success', false, 'error', json_build_object(
            'code', 'skipped', 'message', 'a task that this one depends on was skipped, or is optional and did not complete',
            'details', json_build_object('task_id', c.cause)))
          end,
        queued_at = case
          when not (c.fails or c.skips) and t.dependencies_open = c.counts and t.step is null and t.agent_id is not null and t.limited is null
            and (t.run_at is null or t.run_at <= now()) then now() end,
        completed_at = case when c.fails or c.skips then now() end,
        version = t.version
          + case when c.fails or c.skips or (t.dependencies_open = c.counts and t.step is null) then 1 else 0 end
      from unnest(v_children, v_counts, v_fails, v_skips, v_causes) as c (id, counts, fails, skips, cause)
      where t.id = any (array[c.id]) and t.status::text = 'pending' and t.waiting_for::text = 'dependencies'
      returning t.id, t.namespace, t.version, t.status, t.waiting_for, t.agent_id, t.trace, t.has_dependents, t.result, t.attempt,
        t.step
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
    select array_agg((id, namespace, version, event, now(), status, agent_id, trace, data)::ledger.task_change),
      array_agg(id) filter (where has_dependents and status in ('failed', 'cancelled')),
      (select array_agg(id) from changed where step and status = 'pending')
    into v_changed, v_ended, v_over
    from facts;
    return query select c.* from unnest(v_changed) as c;
    if v_over is not null then v_steps := v_steps || v_over; end if;
  end loop;
  if v_steps is not null then
    return query select * from ledger.steps_due(v_steps);
  end if;
  if v_awaited is not null then
    return query select * from ledger.children_ended(v_awaited);
  end if;
  if v_failing is not null then
    return query
    update graphs g set ending = json_build_object('code', 'graph_failed', 'message', 'another task of its graph failed')
    where g.id = any (v_failing) and g.on_failure = 'fail_fast' and g.ending is null
    returning g.id, g.namespace, null::int, 'ending'::text, now(), null::task_status, null::uuid, null::text, null::json;
  end if;
end $$;

-- Marks which of these steps have something to be decided or done: all parents have ended, elements are held back, or the
-- step has ended while elements have not.
create function ledger.steps_due(p_steps uuid[]) returns setof ledger.task_change
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  update graph_steps s set due = true
  from tasks t
  where s.task_id = any (p_steps) and t.id = any (array[s.task_id]) and not s.due and case
    when t.status = 'pending' then t.dependencies_open = 0 or s.held > 0
    when t.status = 'paused' then false
    else s.phase is not null and t.dependencies_open > 0 end
  returning t.id, t.namespace, null::int, 'step'::text, now(), null::task_status, null::uuid, null::text, null::json
$$;

-- Carries on where long cascades stopped.
create function ledger.dependencies_resume(p_limit int) returns setof ledger.task_change
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
  if v_ended is not null then return query select * from ledger.dependencies_resolve(v_ended); end if;
end $$;
