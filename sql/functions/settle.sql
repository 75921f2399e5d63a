-- Records the ends of attempts {id, attempt, epoch, status, result, delay, millis, slot, version}: completed, failed, timeout,
-- pending (a retry after `delay` ms), queued (given back). With a `slot`, one of the leases `p_slots`, the attempt had
-- not been claimed when it ended: claim and end are recorded at once, both with their event. Rows that are missing from
-- the answer were fenced. Children that changed come with their event.
create function ledger.task_settle(p_slots json, p_ends json, p_node text, p_again boolean)
returns table (id uuid, number int, at timestamptz, child json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_ids uuid[];
  v_numbers int[];
  v_ended uuid[];
  v_left_namespaces text[];
  v_left json[];
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
      -- False: its limits are left below, for all at once.
      limited = case when t.limited then u.status in ('pending', 'queued') end,
      version = t.version + case when u.slot is null then 1 else 2 end
    from (
      -- One order of locking for all batches.
      select e.*, s.agent_id, s.index
      from json_to_recordset(p_ends)
        as e (id uuid, attempt int, epoch int, status task_status, result json, delay float8, millis float8, slot int, version int)
        left join slots s on s.slot = e.slot
      order by e.id
    ) u
    where t.id = any (array[u.id]) and case
      when u.slot is null then t.status::text = 'running' and t.attempt = u.attempt and t.epoch = u.epoch
      else t.status::text = 'queued' and t.attempt = u.attempt - 1 and t.agent_id = u.agent_id
        and u.attempt <= t.max_attempts end
    returning t.id, t.version, t.namespace, t.trace, t.agent_id, t.has_dependents,
      -- Of one that ended and had limits.
      case when not t.limited then t.held_limits end as left_limits, u.attempt, u.status, u.result, u.delay,
      u.millis, u.slot, u.version as agent_version
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select w.id, w.version - 1, 'task', 'TaskStarted', w.namespace, w.attempt, p_node, w.trace,
      case when w.agent_version is not null then json_build_object('agent_version', w.agent_version) end
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
    insert into agent_tallies (agent_id, version, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select w.agent_id, w.agent_version, count(*) filter (where w.status = 'completed'), count(*) filter (where w.status = 'failed'),
      count(*) filter (where w.status = 'timeout'), 0, count(*), sum(w.millis), max(w.millis)
    from won w where w.status <> 'queued' group by w.agent_id, w.agent_version
  )
  select array_agg(w.id), array_agg(w.version),
    array_agg(w.id) filter (where w.has_dependents and w.status not in ('pending', 'queued')),
    array_agg(w.namespace) filter (where w.left_limits is not null), array_agg(w.left_limits) filter (where w.left_limits is not null)
  into v_ids, v_numbers, v_ended, v_left_namespaces, v_left from won w;
  if v_left is not null then
    perform ledger.limits_leave(v_left_namespaces, v_left);
  end if;
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
    return query select c.id, c.number, c.at, row_to_json(c) from ledger.dependencies_resolve(v_ended) as c;
  end if;
end $$;

-- Records progress of running attempts; rows that are missing from the answer were late or fenced.
create function ledger.task_progress(p_reports json, p_node text)
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
