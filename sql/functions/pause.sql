-- Sets a task aside. One that runs gets one more attempt instead of its number back: its code may still be running, and a
-- number that two runs share would fence neither. Outcomes: paused, already, unknown, ended, at_most_once.
create function ledger.task_pause(p_namespace text, p_id uuid, p_actor text, p_reason text)
returns table (outcome text, number int, at timestamptz, ran_on uuid, trace text, data json)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_task tasks;
begin
  select * into v_task from tasks t where t.id = p_id and t.namespace = p_namespace for no key update;
  outcome := case
    when v_task.id is null then 'unknown'
    when v_task.status in ('completed', 'failed', 'timeout', 'cancelled') then 'ended'
    when v_task.status = 'paused' and v_task.waiting_for is null then 'already'
    when v_task.status = 'running' and v_task.at_most_once then 'at_most_once' end;
  if outcome is not null then
    return query select outcome, v_task.version, now(), null::uuid, null, null::json;
    return;
  end if;
  data := json_strip_nulls(json_build_object('was', v_task.status, 'reason', p_reason));
  update tasks t set status = 'paused', waiting_for = null, version = t.version + 1,
    max_attempts = t.max_attempts + case when v_task.status = 'running' then 1 else 0 end
  where t.id = p_id;
  if v_task.step then update graph_steps s set due = false where s.task_id = p_id; end if;
  insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
  values (p_id, v_task.version + 1, 'task', 'TaskPaused', p_namespace, v_task.attempt, p_actor, v_task.trace, data);
  return query select 'paused', v_task.version + 1, now(), case when v_task.status = 'running' then v_task.agent_id end,
    v_task.trace, data;
end $$;

-- Puts a task that somebody set aside back to what it would be now. Ends of parents were not counted meanwhile: they are
-- counted again from the start. Outcomes in the row without an event: unknown, not_paused, waits, held (its graph or tree is
-- paused); otherwise the changes.
create function ledger.task_unpause(p_namespace text, p_id uuid, p_actor text)
returns table (outcome text, change json)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_task tasks;
  v_waits task_wait;
  v_status task_status;
  v_parents uuid[];
  v_data json;
begin
  -- Edges before the task, as whoever counts them locks: a count under way is waited for.
  perform 1 from task_dependencies d where d.child_id = p_id order by d.parent_id for no key update;
  select * into v_task from tasks t where t.id = p_id and t.namespace = p_namespace for no key update;
  outcome := case
    when v_task.id is null then 'unknown'
    when v_task.status <> 'paused' then 'not_paused'
    when v_task.waiting_for is not null then 'waits'
    when exists (select from paused_tasks h where h.task_id = p_id and not h.kept) then 'held' end;
  if outcome is not null then
    return next;
    return;
  end if;
  v_waits := case
    -- A step is decided, and an element that is held back let go, by what looks after its graph.
    when v_task.dependencies_open > 0 or v_task.step
      or (v_task.parent_id is not null and exists (select from map_elements e where e.task_id = p_id and e.state = 'held'))
      then 'dependencies'::task_wait
    when v_task.run_at > now() then case when v_task.attempt > 0 then 'retry'::task_wait else 'time' end
    when v_task.agent_id is null then 'agent'
    when v_task.parked_attempt = v_task.attempt + 1 and not ledger.awaits_answered(p_id)
      and exists (select from task_awaits a where a.task_id = p_id and a.position = v_task.parked_position and a.outcome is null)
      then 'signal'
    when v_task.parked_attempt = v_task.attempt + 1 and not ledger.awaits_answered(p_id)
      and exists (select from child_awaits w where w.task_id = p_id and w.position = v_task.parked_position and not w.closed)
      then 'children' end;
  v_status := case when v_waits is null then 'queued'::task_status when v_waits::text in ('signal', 'children') then 'paused' else 'pending' end;
  if v_task.dependencies_open > 0 then
    select array_agg(d.parent_id) into v_parents from task_dependencies d where d.child_id = p_id;
    update task_dependencies d set resolved = false where d.child_id = p_id and d.resolved;
  end if;
  v_data := case when v_waits is not null then json_build_object('waiting_for', v_waits) end;
  update tasks t set status = v_status, waiting_for = v_waits, version = t.version + 1,
    dependencies_open = case when v_parents is null then t.dependencies_open else cardinality(v_parents) end,
    queued_at = case when v_waits is null then now() else t.queued_at end
  where t.id = p_id;
  insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
  values (p_id, v_task.version + 1, 'task', 'TaskResumed', p_namespace, v_task.attempt, p_actor, v_task.trace, v_data);
  return query select 'resumed', row_to_json((p_id, p_namespace, v_task.version + 1, 'TaskResumed', now(), v_status,
    v_task.agent_id, v_task.trace, v_data)::ledger.task_change);
  if v_parents is not null then
    return query select 'resumed', row_to_json(c) from ledger.dependencies_resolve(v_parents) as c;
  end if;
  if v_task.step then
    return query select 'resumed', row_to_json(c) from ledger.steps_due(array[p_id]) as c;
  end if;
end $$;
