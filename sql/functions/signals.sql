-- Signals: stored when they come, taken by awaits. Both lock the task first, so that a signal and an await of one task
-- see each other, whichever comes first; a parked task is queued by exactly one of what it waits for. Awaits for children are numbered with
-- those for signals, and stand in children.sql.

-- The first kept signal that an open await takes. One with terms on who may send takes only what was held against them.
create function ledger.await_signal(p_task uuid, p_position int) returns int
language sql stable set enable_seqscan = off as $$
  select s.number from task_awaits a join task_signals s on s.task_id = a.task_id and s.name = a.name and s.position is null
  where a.task_id = p_task and a.position = p_position and (a.until is null or s.at <= a.until)
    and (a.terms -> 'from' is null or s.checked = a.position)
  order by s.number limit 1
$$;

-- Whether a run of a task would find one of its open awaits answered, or over.
create function ledger.awaits_answered(p_task uuid) returns boolean
language sql stable set enable_seqscan = off as $$
  select exists (
    select from task_awaits a where a.task_id = p_task and a.outcome is null
      and (a.until <= now() or ledger.await_signal(p_task, a.position) is not null)
  ) or ledger.children_answered(p_task)
$$;

-- Stores a signal. `p_checked` is the open await whose terms the caller held it against, null for none; when that is no
-- longer so nothing is stored (`changed`). With `p_answer` it must be awaited and the only one. Outcomes: stored, existing
-- (`same` whether it is the same), unknown, ended, changed, not_awaited, expired, answered, full.
create function ledger.task_signal(
  p_namespace text, p_id uuid, p_name text, p_payload json, p_actor text, p_request text, p_fingerprint text,
  p_checked int, p_answer boolean, p_max int)
returns table (
  outcome text, number int, at timestamptz, same boolean, version int, status task_status, ran_on uuid, woken boolean, trace text)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_task tasks;
  v_await task_awaits;
  v_known task_signals;
  v_number int;
  v_wakes boolean;
  v_data json;
begin
  select * into v_task from tasks t where t.id = p_id and t.namespace = p_namespace for no key update;
  if v_task.id is null then
    return query select 'unknown', null::int, null::timestamptz, null::boolean, null::int, null::task_status, null::uuid, false, null;
    return;
  end if;
  select * into v_known from task_signals s where s.task_id = p_id and s.request = p_request;
  select * into v_await from task_awaits a
  where a.task_id = p_id and a.name = p_name and a.outcome is null order by a.position limit 1;
  select coalesce(max(s.number), 0) + 1 into v_number from task_signals s where s.task_id = p_id;
  outcome := case
    when v_known.number is not null then 'existing'
    when v_task.status in ('completed', 'failed', 'timeout', 'cancelled') then 'ended'
    when v_await.position is distinct from p_checked then 'changed'
    when p_answer and v_await.position is null then 'not_awaited'
    when p_answer and v_await.until <= now() then 'expired'
    when p_answer and ledger.await_signal(p_id, v_await.position) is not null then 'answered'
    when v_number > p_max then 'full' end;
  if outcome is not null then
    return query select outcome, v_known.number, v_known.at, v_known.fingerprint = decode(p_fingerprint, 'hex'), v_task.version,
      v_task.status, null::uuid, false, v_task.trace;
    return;
  end if;
  v_wakes := v_task.status = 'paused' and v_task.waiting_for::text in ('signal', 'children') and v_await.position is not null;
  v_data := json_strip_nulls(json_build_object('signal', p_name, 'signal_number', v_number,
    'decision', case when p_answer then p_payload -> 'decision' end));
  insert into task_signals (task_id, number, name, payload, actor, request, fingerprint, checked)
  values (p_id, v_number, p_name, p_payload, p_actor, p_request, decode(p_fingerprint, 'hex'), p_checked);
  insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
  values (p_id, v_task.version + 1, 'task', 'TaskSignalled', p_namespace, v_task.attempt, p_actor, v_task.trace, v_data);
  if v_wakes then
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    values (p_id, v_task.version + 2, 'task', 'TaskResumed', p_namespace, v_task.attempt, p_actor, v_task.trace, v_data);
    update tasks t set status = 'queued', waiting_for = null, queued_at = now(), version = t.version + 2 where t.id = p_id;
  else
    update tasks t set version = t.version + 1 where t.id = p_id;
  end if;
  return query select 'stored', v_number, now(), true, v_task.version + 1, v_task.status,
    case when v_task.status = 'running' then v_task.agent_id end, v_wakes, v_task.trace;
end $$;

-- What an await of a running attempt comes to: signal, timeout, waiting, diverged (an earlier attempt awaited another name
-- here), fenced. The first look of the first attempt opens it.
create function ledger.signal_take(
  p_id uuid, p_attempt int, p_epoch int, p_position int, p_name text, p_timeout float8, p_terms json)
returns table (
  outcome text, left_ms float8, awaited text, number int, payload json, actor text, at timestamptz)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_task tasks;
  v_await task_awaits;
  v_number int;
begin
  select * into v_task from tasks t
  where t.id = p_id and t.status::text = 'running' and t.attempt = p_attempt and t.epoch = p_epoch for no key update;
  if v_task.id is null then
    return query select 'fenced', null::float8, null, null::int, null::json, null, null::timestamptz;
    return;
  end if;
  perform 1 from child_awaits w where w.task_id = p_id and w.position = p_position;
  if found then
    return query select 'diverged', null::float8, 'children', null::int, null::json, null, null::timestamptz;
    return;
  end if;
  insert into task_awaits (task_id, position, namespace, name, terms, until)
  values (p_id, p_position, v_task.namespace, p_name, p_terms, now() + p_timeout * interval '1 millisecond')
  on conflict (task_id, position) do nothing;
  select * into v_await from task_awaits a where a.task_id = p_id and a.position = p_position;
  if v_await.name <> p_name then
    return query select 'diverged', null::float8, v_await.name, null::int, null::json, null, null::timestamptz;
    return;
  end if;
  if v_await.outcome is null then
    v_number := ledger.await_signal(p_id, p_position);
    if v_number is not null then
      update task_signals s set position = p_position where s.task_id = p_id and s.number = v_number;
    end if;
    update task_awaits a set outcome = case when v_number is not null then 'signal' else 'timeout' end, signal = v_number
    where a.task_id = p_id and a.position = p_position and (v_number is not null or a.until <= now())
    returning * into v_await;
    if not found then
      return query select 'waiting', extract(epoch from (select a.until from task_awaits a where a.task_id = p_id and a.position = p_position) - now())::float8 * 1000, p_name, null::int, null::json, null, null::timestamptz;
      return;
    end if;
  end if;
  return query select v_await.outcome, null::float8, p_name, s.number, s.payload, s.actor, s.at
  from (select 1) one left join task_signals s on s.task_id = p_id and s.number = v_await.signal;
end $$;

-- Attempts {id, attempt, epoch, position} give their slot back until one of their awaits is answered; they do not count.
-- Where an answer has come meanwhile the task is queued at once. Rows that are missing from the answer were fenced.
create function ledger.task_park(p_parks json, p_node text)
returns table (id uuid, number int, at timestamptz, status task_status, data json)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
begin
  perform 1 from tasks t where t.id = any (array(select u.id from json_to_recordset(p_parks) as u (id uuid)))
  order by t.id for no key update;
  return query
  with parked as (
    select t.id, u.attempt, u.position, ledger.awaits_answered(t.id) as answered,
      a.task_id is null as for_children,
      case when a.task_id is null then ledger.children_waited(t.id, u.position) else json_strip_nulls(json_build_object(
        'waiting_for', 'signal', 'signal', a.name, 'until', a.until, 'message', a.terms -> 'message')) end as waits
    from json_to_recordset(p_parks) as u (id uuid, attempt int, epoch int, position int)
      join tasks t on t.id = any (array[u.id]) and t.status::text = 'running' and t.attempt = u.attempt and t.epoch = u.epoch
      left join task_awaits a on a.task_id = any (array[u.id]) and a.position = u.position
    where a.task_id is not null or exists (select from child_awaits w where w.task_id = u.id and w.position = u.position offset 0)
  ), changed as (
    update tasks t set status = case when p.answered then 'queued'::task_status else 'paused' end,
      waiting_for = case when p.answered then null when p.for_children then 'children'::task_wait else 'signal' end,
      queued_at = case when p.answered then now() else t.queued_at end,
      attempt = t.attempt - 1, parked_attempt = p.attempt, parked_position = p.position, version = t.version + 1
    from parked p where t.id = any (array[p.id])
    returning t.id, t.namespace, t.version, t.status, t.trace, p.attempt,
      case when p.answered then json_build_object('released', true) else p.waits end as data
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select c.id, c.version, 'task', case c.status when 'queued' then 'TaskQueued' else 'TaskPaused' end, c.namespace, c.attempt,
      p_node, c.trace, c.data
    from changed c
  )
  select c.id, c.version, now(), c.status, c.data from changed c;
end $$;

-- Closes awaits whose time is over and queues the tasks that were parked for them.
create function ledger.awaits_expire(p_limit int, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off as $$
declare
  v_due record;
  v_task tasks;
  v_number int;
begin
  for v_due in
    select a.task_id, a.position, a.name from task_awaits a where a.outcome is null and a.until <= now() order by a.until limit p_limit
  loop
    -- One that is locked is being dealt with; waiting for it could be waiting in a circle.
    select * into v_task from tasks t where t.id = v_due.task_id for no key update skip locked;
    continue when v_task.id is null;
    v_number := ledger.await_signal(v_due.task_id, v_due.position);
    update task_awaits a set outcome = case when v_number is null then 'timeout' else 'signal' end, signal = v_number
    where a.task_id = v_due.task_id and a.position = v_due.position and a.outcome is null;
    continue when not found;
    update task_signals s set position = v_due.position where s.task_id = v_due.task_id and s.number = v_number;
    continue when v_task.status <> 'paused' or v_task.waiting_for is null;
    update tasks t set status = 'queued', waiting_for = null, queued_at = now(), version = t.version + 1 where t.id = v_task.id;
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    values (v_task.id, v_task.version + 1, 'task', 'TaskResumed', v_task.namespace, v_task.attempt, p_node, v_task.trace,
      json_build_object('signal', v_due.name, 'expired', true));
    return next (v_task.id, v_task.namespace, v_task.version + 1, 'TaskResumed', now(), 'queued', v_task.agent_id, v_task.trace,
      json_build_object('signal', v_due.name, 'expired', true))::ledger.task_change;
  end loop;
end $$;
