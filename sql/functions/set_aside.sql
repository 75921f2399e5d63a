-- Queued tasks that ask for a version of a capability that their agent does not offer any more wait for an agent that does.
-- Only as long as the agent's definition is the one that was looked at. Rows that are missing from the answer were not
-- changed: they were claimed, ended, or the agent has changed since.
create function ledger.task_set_aside(p_agent uuid, p_agent_version int, p_ids uuid[], p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  -- One order of locking for all batches.
  perform 1 from tasks where id = any (p_ids) order by id for no key update;
  return query
  with changed as (
    update tasks t set status = 'pending', waiting_for = 'agent', agent_id = null, queued_at = null, version = t.version + 1
    from unnest(p_ids) as u (id)
    where t.id = any (array[u.id]) and t.status::text = 'queued' and t.agent_id = p_agent
      and exists (select from agents a where a.id = p_agent and a.version = p_agent_version offset 0)
    returning t.id, t.namespace, t.version, t.status, t.type, t.trace, t.attempt
  ), facts as (
    select *, json_build_object('waiting_for', 'agent', 'reason', 'capability_gone', 'type', type, 'agent_id', p_agent,
      'agent_version', p_agent_version) as data
    from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace, data from facts
  )
  select id, namespace, version, 'TaskQueued', now(), status, null::uuid, trace, data from facts;
end $$;
