-- Ends tasks from outside, whatever they are doing. `agent_id` of a change is set for those that were running.
create function ledger.task_cancel(p_namespace text, p_ids uuid[], p_actor text, p_reason text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_changed ledger.task_change[];
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
  select array_agg((id, namespace, version, 'TaskCancelled', now(), 'cancelled', case when was = 'running' then agent_id end, trace, data)::ledger.task_change),
    array_agg(id) filter (where has_dependents)
  into v_changed, v_ended from facts;
  return query select c.* from unnest(v_changed) as c;
  if v_ended is not null then return query select * from ledger.dependencies_resolve(v_ended); end if;
end $$;
