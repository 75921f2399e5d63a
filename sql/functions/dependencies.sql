-- Counts ends of parents towards their children, and ends children that can no longer run, down the graph: at most 200
-- levels and 5,000 edges per transaction, so that no graph holds up others or runs into the statement timeout. What is left
-- is kept in `dependency_frontier`, from where `ledger.dependencies_resume` carries on.
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
          when t.dependencies_open > c.counts or t.run_at > now() or t.agent_id is null or t.limited then 'pending'
          else 'queued' end,
        waiting_for = case
          when c.fails or c.skips then null
          when t.dependencies_open > c.counts then 'dependencies'::task_wait
          when t.run_at > now() then 'time'
          when t.agent_id is null then 'agent'
          when t.limited then 'capacity' end,
        result = case
          when c.fails then json_build_object('success', false, 'error', json_build_object(
            'code', 'dependency_failed', 'message', 'a task that this one depends on did not complete',
            'details', json_build_object('task_id', c.cause)))
          when c.skips then json_build_object('success', false, 'error', json_build_object(
            'code', 'skipped', 'message', 'an optional dependency did not complete',
            'details', json_build_object('task_id', c.cause)))
          end,
        queued_at = case
          when not (c.fails or c.skips) and t.dependencies_open = c.counts and t.agent_id is not null and t.limited is null
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
    select array_agg((id, namespace, version, event, now(), status, agent_id, trace, data)::ledger.task_change),
      array_agg(id) filter (where has_dependents and status in ('failed', 'cancelled'))
    into v_changed, v_ended
    from facts;
    return query select c.* from unnest(v_changed) as c;
  end loop;
end $$;

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
