-- Claims queued tasks for instances of one node. `p_slots` are leases {slot, agent_id, index, epoch}, `p_tasks` what each
-- slot wants {slot, id, behind, version, attempts} (version: the agent's definition, unless it is the first; attempts: those
-- that the order knows of, none when absent). Rows with an id were won; rows without tell a slot that is fenced.
-- The attempts are a fence: a claim that arrives late, when its repetition has won and ended an attempt, wins nothing, for
-- nobody would run it.
create function ledger.task_claim(p_slots json, p_tasks json, p_node text, p_again boolean)
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
      select w.id, w.slot, w.behind, w.version, coalesce(w.attempts, 0) as attempts, s.agent_id, s.index, s.epoch
      from json_to_recordset(p_tasks) as w (id uuid, slot int, behind boolean, version int, attempts int) join slots s on s.slot = w.slot
      order by w.id
    ) u
    where t.id = any (array[u.id]) and t.status::text = 'queued' and t.agent_id = u.agent_id and t.attempt = u.attempts
      and t.attempt < t.max_attempts
    returning u.slot, t.id, t.attempt, t.version, t.namespace, t.trace, case when u.behind then t.payload end as payload,
      u.version as agent_version
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select w.id, w.version, 'task', 'TaskStarted', w.namespace, w.attempt, p_node, w.trace,
      case when w.agent_version is not null then json_build_object('agent_version', w.agent_version) end
    from won w
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
