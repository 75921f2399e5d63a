-- Pending tasks whose time has come: run_at passed, or the delay of a retry.
create function ledger.tasks_queue_due(p_limit int, p_node text) returns setof ledger.task_change
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with due as (
    select id from tasks where status = 'pending' and waiting_for in ('time', 'retry') and run_at <= now()
    order by run_at limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set
      status = case when t.agent_id is null or t.limited then 'pending'::task_status else 'queued' end,
      waiting_for = case when t.agent_id is null then 'agent'::task_wait when t.limited then 'capacity' end,
      queued_at = case when t.agent_id is not null and t.limited is null then now() end,
      version = t.version + 1
    from due where t.id = any (array[due.id])
    returning t.id, t.namespace, t.version, t.status, t.waiting_for, t.agent_id, t.trace, t.attempt
  ), facts as (
    select *, case when status = 'pending' then json_build_object('waiting_for', waiting_for) end as data from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace, data from facts
  )
  select id, namespace, version, 'TaskQueued', now(), status, agent_id, trace, data from facts order by id
$$;

-- Tasks whose deadline has passed end as timeout, whatever they are doing. `agent_id` is set for those that were running.
create function ledger.tasks_expire(p_limit int, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_changed ledger.task_change[];
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
  ), facts as (select *, json_build_object('attempt', nullif(attempt, 0), 'error', result -> 'error') as data from changed),
  recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskTimedOut', namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, 0, count(*), 0, 0, 0, 0 from changed where agent_id is not null group by agent_id
  )
  select array_agg((id, namespace, version, 'TaskTimedOut', now(), 'timeout', case when was = 'running' then agent_id end, trace, data)::ledger.task_change),
    array_agg(id) filter (where has_dependents)
  into v_changed, v_ended from facts;
  return query select c.* from unnest(v_changed) as c;
  if v_ended is not null then return query select * from ledger.dependencies_resolve(v_ended); end if;
end $$;

-- Tasks that wait for an agent of a type get one.
create function ledger.tasks_assign(p_namespace text, p_type text, p_agent uuid, p_limit int, p_node text) returns setof ledger.task_change
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with found as (
    select id from tasks where namespace = p_namespace and type = p_type and status = 'pending' and waiting_for = 'agent'
    order by id limit p_limit for no key update skip locked
  ), changed as (
    update tasks t set agent_id = p_agent, status = case when t.limited then 'pending'::task_status else 'queued' end,
      waiting_for = case when t.limited then 'capacity'::task_wait end,
      queued_at = case when t.limited is null then now() end, version = t.version + 1
    from found where t.id = any (array[found.id])
    returning t.id, t.namespace, t.version, t.status, t.waiting_for, t.agent_id, t.trace, t.attempt
  ), facts as (
    select *, case when status = 'pending' then json_build_object('waiting_for', waiting_for) end as data from changed
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace, data from facts
  )
  select id, namespace, version, 'TaskQueued', now(), status, agent_id, trace, data from facts order by id
$$;

-- Agents that have queued or running tasks, by skipping through the index rather than reading the backlog.
create function ledger.agents_with_work(p_limit int) returns setof uuid
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
create function ledger.types_without_agent(p_namespace text, p_type text, p_limit int) returns table (namespace text, type text)
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
