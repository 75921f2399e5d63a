-- Takes an instance over: a new epoch, and what ran under the old one is queued again, or fails when it has no attempt
-- left or may run once only. The lease is locked first, so that a claim under the old epoch has committed or never will.
create function ledger.instance_take_over(p_agent uuid, p_index int, p_node text, out epoch int, out changes json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ended uuid[];
  v_changes ledger.task_change[];
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
          'code', 'unknown_outcome', 'message', 'its instance was lost while it ran, and it may run at most once', 'final', 'at_most_once'))
        when t.attempt >= t.max_attempts then json_build_object('success', false, 'error', json_build_object(
          'code', 'instance_lost', 'message', 'its instance was lost during the last attempt allowed', 'final', 'attempts')) end,
      completed_at = case when t.at_most_once or t.attempt >= t.max_attempts then now() end,
      version = t.version + 1
    where t.agent_id = p_agent and t.instance = p_index and t.status = 'running'
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt, t.has_dependents, t.result
  ), facts as (
    select *, case status when 'failed' then 'TaskFailed' else 'TaskQueued' end as event,
      case status when 'failed' then json_build_object('attempt', attempt, 'error', result -> 'error')
      else json_build_object('attempt', attempt, 'instance_lost', true) end as data
    from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', event, namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, count(*), 0, 0, 0, 0, 0 from changed where status = 'failed' group by agent_id
  )
  select array_agg((id, namespace, version, event, now(), status, agent_id, trace, data)::ledger.task_change),
    array_agg(id) filter (where has_dependents and status = 'failed')
  into v_changes, v_ended from facts;
  if v_ended is not null then
    select v_changes || coalesce(array_agg(c), '{}') into v_changes from ledger.dependencies_resolve(v_ended) as c;
  end if;
  changes := coalesce(array_to_json(v_changes), '[]');
end $$;

-- Keeps leases {agent_id, index, epoch} alive. They are locked first, in one order for all: nodes that believe to hold the same
-- leases would else wait for each other. The change is a statement of its own, whose snapshot has the rows as they were locked: where it
-- had to follow one that was changed meanwhile, three at a time have waited in a circle.
create function ledger.instances_heartbeat(p_slots json) returns void
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  perform 1 from json_to_recordset(p_slots) as s (agent_id uuid, index int, epoch int)
    join agent_instances i on i.agent_id = any (array[s.agent_id]) and i.index = s.index and i.epoch = s.epoch
  order by i.agent_id, i.index for no key update of i;
  update agent_instances i set heartbeat = now()
  from json_to_recordset(p_slots) as s (agent_id uuid, index int, epoch int)
  where i.agent_id = any (array[s.agent_id]) and i.index = s.index and i.epoch = s.epoch;
end $$;
