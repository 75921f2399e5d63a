-- Awaits for the ends of children. Whoever opens or answers one, parks, or tells of an end locks the parent; the last end that is told queues
-- it. A parent that is locked is not waited for, because it may be waiting for the child: the end stays in `dependency_frontier` and is told
-- a moment later.

-- Whether a run of a task would find one of its open awaits for children answered.
create function ledger.children_answered(p_task uuid) returns boolean
language sql stable set enable_seqscan = off as $$
  select exists (
    select from child_awaits w
    where w.task_id = p_task and not w.closed and not exists (
      select from awaited_children a cross join lateral (
        select from tasks c
        where c.id = a.child_id and c.status::text not in ('completed', 'failed', 'timeout', 'cancelled') offset 0
      ) alive
      where a.task_id = w.task_id and a.position = w.position and not a.ended
    )
  )
$$;

-- What an event says of a task that parks for its children.
create function ledger.children_waited(p_task uuid, p_position int) returns json
language sql stable set enable_seqscan = off as $$
  select json_build_object('waiting_for', 'children', 'open', count(*), 'children',
    coalesce((array_agg(a.child_id order by a.place))[1:10], '{}'))
  from awaited_children a where a.task_id = p_task and a.position = p_position and not a.ended
$$;

-- What an await of a running attempt for ends of its children comes to; those of `p_children`, or all that it has when that is null. The
-- first look opens it. Outcomes: ended (a row for each, in order; a result only while the sum stays below `p_bytes`, of an error then code and
-- message; no status for one that is gone), none, waiting (`count` are open), fenced, and where it is not opened: diverged, too_many, unknown
-- and circular (with the child).
create function ledger.children_take(
  p_id uuid, p_attempt int, p_epoch int, p_position int, p_children uuid[], p_max int, p_bytes bigint)
returns table (outcome text, id uuid, status task_status, result json, cut boolean, count int)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_task tasks;
  v_children uuid[];
  v_one uuid;
  v_count int;
begin
  select * into v_task from tasks t
  where t.id = p_id and t.status::text = 'running' and t.attempt = p_attempt and t.epoch = p_epoch for no key update;
  if v_task.id is null then
    return query select 'fenced', null::uuid, null::task_status, null::json, false, 0;
    return;
  end if;
  perform 1 from child_awaits w where w.task_id = p_id and w.position = p_position;
  if found then
    if p_children is not null and p_children is distinct from array(
      select a.child_id from awaited_children a where a.task_id = p_id and a.position = p_position order by a.place)
    then
      return query select 'diverged', null::uuid, null::task_status, null::json, false, 0;
      return;
    end if;
  else
    perform 1 from task_awaits a where a.task_id = p_id and a.position = p_position;
    if found then
      return query select 'diverged', null::uuid, null::task_status, null::json, false, 0;
      return;
    end if;
    v_children := coalesce(p_children, array(
      select c.id from tasks c where c.parent_id = p_id and c.namespace = v_task.namespace order by c.id limit p_max + 1));
    if cardinality(v_children) > p_max then
      return query select 'too_many', null::uuid, null::task_status, null::json, false, p_max;
      return;
    end if;
    select u.id into v_one from unnest(v_children) with ordinality as u (id, place)
    where not exists (
      select from tasks c where c.id = u.id and c.parent_id = p_id and c.namespace = v_task.namespace offset 0)
    order by u.place limit 1;
    if v_one is not null then
      return query select 'unknown', v_one, null::task_status, null::json, false, 0;
      return;
    end if;
    select d.child_id into v_one from task_dependencies d
    where d.child_id = any (v_children) and d.parent_id = p_id and not d.resolved limit 1;
    if v_one is not null then
      return query select 'circular', v_one, null::task_status, null::json, false, 0;
      return;
    end if;
    -- After the parent, in the order of all batches. Whoever ends one of them now does not wait for the parent.
    perform 1 from tasks c where c.id = any (v_children) order by c.id for no key update;
    update tasks c set has_dependents = true, awaited = true where c.id = any (v_children) and c.awaited is null;
    insert into child_awaits (task_id, position) values (p_id, p_position);
    insert into awaited_children (task_id, position, place, child_id, ended)
    select p_id, p_position, u.place, u.id, c.status in ('completed', 'failed', 'timeout', 'cancelled')
    from unnest(v_children) with ordinality as u (id, place) join tasks c on c.id = any (array[u.id]);
  end if;

  select count(*) into v_count from awaited_children a cross join lateral (
    select from tasks c where c.id = a.child_id and c.status::text not in ('completed', 'failed', 'timeout', 'cancelled') offset 0
  ) alive
  where a.task_id = p_id and a.position = p_position and not a.ended;
  if v_count > 0 then
    return query select 'waiting', null::uuid, null::task_status, null::json, false, v_count;
    return;
  end if;
  update child_awaits w set closed = true where w.task_id = p_id and w.position = p_position and not w.closed;
  return query
  with answers as (
    select a.place, a.child_id, c.status, c.result, coalesce(sum(octet_length(c.result::text)) over (order by a.place), 0) > p_bytes as cut
    from awaited_children a left join lateral (select * from tasks x where x.id = a.child_id offset 0) c on true
    where a.task_id = p_id and a.position = p_position
  )
  select 'ended', s.child_id, s.status, case
      when not s.cut then s.result
      -- Postgres cannot take apart a document that holds the escape of a NUL.
      when s.status <> 'completed' and strpos(s.result::text, '\u0000') = 0 then json_build_object('error', json_build_object(
        'code', s.result -> 'error' ->> 'code', 'message', s.result -> 'error' ->> 'message')) end,
    s.cut, 0
  from answers s order by s.place;
  if not found then
    return query select 'none', null::uuid, null::task_status, null::json, false, 0;
  end if;
end $$;

-- Queues those of these tasks, locked by the caller, that are parked and find an await answered. One that let go of its places waits for
-- them again.
create function ledger.children_resume(p_parents uuid[]) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  return query
  with ready as (
    select t.id, coalesce(t.limited, false) and exists (select from task_limits l where l.task_id = t.id offset 0) as waits
    from unnest(p_parents) as u (id) join tasks t on t.id = any (array[u.id])
    where t.status::text = 'paused' and t.waiting_for::text in ('signal', 'children') and ledger.children_answered(t.id)
  ), changed as (
    update tasks t set
      status = case when r.waits then 'pending'::task_status else 'queued' end,
      waiting_for = case when r.waits then 'capacity'::task_wait end,
      queued_at = case when not r.waits then now() end,
      version = t.version + 1
    from ready r where t.id = any (array[r.id])
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt,
      json_strip_nulls(json_build_object('children', 'ended', 'waiting_for', t.waiting_for)) as data
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, trace, data)
    select id, version, 'task', 'TaskResumed', namespace, attempt, trace, data from changed
  )
  select id, namespace, version, 'TaskResumed', now(), status, agent_id, trace, data from changed;
end $$;

-- Tells parents that await them of the ends of these children.
create function ledger.children_ended(p_children uuid[]) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_parents uuid[];
begin
  select array_agg(l.id) into v_parents from (
    select t.id from tasks t
    where t.id = any (array(select a.task_id from awaited_children a where a.child_id = any (p_children) and not a.ended))
    order by t.id for no key update skip locked
  ) l;
  insert into dependency_frontier
  select distinct a.child_id from awaited_children a
  where a.child_id = any (p_children) and not a.ended and not a.task_id = any (coalesce(v_parents, '{}'))
  on conflict do nothing;
  if v_parents is null then return; end if;
  update awaited_children a set ended = true where a.child_id = any (p_children) and a.task_id = any (v_parents) and not a.ended;
  -- A statement of its own: its snapshot has what others committed before the lock was free.
  return query select * from ledger.children_resume(v_parents);
end $$;

-- Looks at `p_limit` open awaits after a parent and queues parents whose children have all ended without a word: ended by a node of
-- an older version, or deleted by one. `next` of the first row is where the next look begins, null when this was the last part.
create function ledger.children_heal(p_after uuid, p_limit int) returns table (next uuid, change json)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_seen uuid[];
  v_parents uuid[];
begin
  select array_agg(s.task_id order by s.task_id) into v_seen from (
    select w.task_id from child_awaits w
    where not w.closed and w.task_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000'::uuid)
    order by w.task_id limit p_limit
  ) s;
  if v_seen is null then return; end if;
  update child_awaits w set closed = true
  from unnest(v_seen) as u (id) join tasks t on t.id = any (array[u.id])
  where w.task_id = t.id and not w.closed and t.status::text in ('completed', 'failed', 'timeout', 'cancelled');
  select array_agg(l.id) into v_parents from (
    select t.id from tasks t
    where t.id = any (v_seen) and t.status::text = 'paused' and t.waiting_for::text in ('signal', 'children')
      and ledger.children_answered(t.id)
    order by t.id for no key update skip locked
  ) l;
  return query select case when cardinality(v_seen) = p_limit then v_seen[p_limit] end, null::json;
  if v_parents is not null then
    return query select null::uuid, row_to_json(c) from ledger.children_resume(v_parents) as c;
  end if;
end $$;

-- Whether a task that has ended is needed by another one that awaited its end and may yet ask again.
create function ledger.child_needed(p_id uuid) returns boolean
language sql stable set enable_seqscan = off as $$
  select exists (
    select from awaited_children a cross join lateral (
      select from tasks p where p.id = a.task_id and p.status::text not in ('completed', 'failed', 'timeout', 'cancelled') offset 0
    ) alive
    where a.child_id = p_id
  )
$$;

-- Whether an idempotency key is remembered beyond its time: a task that submitted another one, and has not ended, may have been parked
-- for longer, and must get the same one when it runs again.
create function ledger.key_kept(p_key text, p_resource uuid) returns boolean
language sql stable set enable_seqscan = off as $$
  select p_key like 'task:%' and exists (
    select from tasks c cross join lateral (
      select from tasks p where p.id = c.parent_id and p.status::text not in ('completed', 'failed', 'timeout', 'cancelled') offset 0
    ) alive
    where c.id = p_resource
  )
$$;
