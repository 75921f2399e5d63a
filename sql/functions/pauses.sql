-- Sets graphs and trees of tasks aside as wholes, and resumes them. What is wanted stands in `pauses` first; then it is
-- carried through in portions, each a transaction, by whoever asked or by the sweep. A task is resumed when the last pause
-- that holds it is over.

-- Records that a graph (or, without one, the tree under a task) is to be set aside. Outcomes: begun, unknown, ended.
create function ledger.pause_begin(p_namespace text, p_graph uuid, p_root uuid, p_actor text, p_reason text) returns text
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_open boolean;
begin
  if p_graph is not null then
    select g.ending is null and exists (
      select from tasks t where t.graph_id = g.id and t.status in ('pending', 'queued', 'running', 'paused'))
    into v_open from graphs g where g.id = p_graph and g.namespace = p_namespace for no key update;
  else
    select exists (
      with recursive tree as (
        select t.id, t.status from tasks t where t.id = p_root and t.namespace = p_namespace
        union all
        -- `offset 0`: looked up for each, or else the plan may read every task that has a parent.
        select c.id, c.status from tree cross join lateral (
          select t.id, t.status from tasks t where t.parent_id = tree.id and t.namespace = p_namespace offset 0) c
      )
      select from tree where status in ('pending', 'queued', 'running', 'paused'))
    into v_open from tasks t where t.id = p_root and t.namespace = p_namespace;
  end if;
  if v_open is null then return 'unknown'; end if;
  if not v_open then return 'ended'; end if;
  insert into pauses as p (id, namespace, graph_id, root_id, actor, reason, phase)
  values (coalesce(p_graph, p_root), p_namespace, p_graph, p_root, p_actor, p_reason, 'pausing')
  on conflict (id) do update set phase = 'pausing',
    actor = case when p.phase = 'resuming' then excluded.actor else p.actor end,
    reason = case when p.phase = 'resuming' then excluded.reason else p.reason end;
  return 'begun';
end $$;

-- Records that it is to be resumed. False when it is not paused.
create function ledger.pause_end(p_namespace text, p_id uuid, p_actor text) returns boolean
language sql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
  with resumed as (
    update pauses p set phase = 'resuming', actor = case when p.phase = 'resuming' then p.actor else p_actor end
    where p.id = p_id and p.namespace = p_namespace returning p.id
  )
  select exists (select from resumed)
$$;

-- Carries a pause on by a portion. `agent_id` of a TaskPaused is that of a run to be interrupted. Tasks that are locked are
-- passed over and found again: this waits for no task, so that it can hold many.
create function ledger.pause_step(p_id uuid, p_limit int, out more boolean, out changes json, out actor text)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_pause pauses;
  v_left uuid[];
  v_ids uuid[];
  v_id uuid;
  v_changes json[];
  v_all json[] := '{}';
begin
  more := false;
  changes := '[]';
  select * into v_pause from pauses where id = p_id for no key update;
  if v_pause.id is null or v_pause.phase = 'paused' then return; end if;
  actor := v_pause.actor;

  if v_pause.phase = 'pausing' then
    if v_pause.graph_id is not null then
      select array_agg(n.id) into v_left from (
        select t.id from tasks t
        where t.graph_id = p_id and t.status in ('pending', 'queued', 'running', 'paused')
          and not exists (select from paused_tasks h where h.pause_id = p_id and h.task_id = t.id)
        limit p_limit
      ) n;
    else
      select array_agg(n.id) into v_left from (
        with recursive tree as (
          select t.id, t.status from tasks t where t.id = p_id
          union all
          select c.id, c.status from tree cross join lateral (
            select t.id, t.status from tasks t where t.parent_id = tree.id and t.namespace = v_pause.namespace offset 0) c
        )
        select tree.id from tree
        where tree.status in ('pending', 'queued', 'running', 'paused')
          and not exists (select from paused_tasks h where h.pause_id = p_id and h.task_id = tree.id)
        limit p_limit
      ) n;
    end if;
    if v_left is null then
      update pauses set phase = 'paused' where id = p_id;
      return;
    end if;
    more := true;
    select coalesce(json_agg(c), '[]') into changes from ledger.tasks_hold(p_id, v_left) as c;
    return;
  end if;

  select array_agg(n.task_id) into v_left from (
    select h.task_id from paused_tasks h where h.pause_id = p_id limit p_limit
  ) n;
  if v_left is null then
    -- Whoever adds a task has a share of this row: after the lock all of them are seen.
    perform 1 from pauses where id = p_id for update;
    more := exists (select from paused_tasks h where h.pause_id = p_id);
    if not more then delete from pauses where id = p_id; end if;
    return;
  end if;
  more := true;
  -- Edges before tasks, as whoever counts them locks.
  perform 1 from task_dependencies d where d.child_id = any (v_left) order by d.parent_id, d.child_id for no key update;
  select array_agg(n.id) into v_ids from (
    select t.id from tasks t where t.id = any (v_left) for no key update skip locked
  ) n;
  if v_ids is null then return; end if;
  with gone as (
    delete from paused_tasks h where h.pause_id = p_id and h.task_id = any (v_ids) returning h.task_id, h.kept
  )
  select array_agg(g.task_id) into v_ids from gone g where not g.kept
    and not exists (select from paused_tasks o where o.task_id = g.task_id and o.pause_id <> p_id);
  foreach v_id in array coalesce(v_ids, '{}') loop
    select array_agg(u.change) into v_changes from ledger.task_unpause(v_pause.namespace, v_id, v_pause.actor) u
    where u.change is not null;
    v_all := v_all || v_changes;
  end loop;
  changes := array_to_json(v_all);
end $$;

-- Has a pause hold these tasks: they are set aside unless they are, or run and may run at most once: those end by themselves.
create function ledger.tasks_hold(p_pause uuid, p_ids uuid[]) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  return query
  with pause as (
    select * from pauses p where p.id = p_pause
  ), open as (
    select t.id, t.status as was, t.status = 'paused' and t.waiting_for is null as aside, t.at_most_once
    from tasks t
    where t.id = any (p_ids) and t.status::text in ('pending', 'queued', 'running', 'paused')
    for no key update skip locked
  ), held as (
    insert into paused_tasks (pause_id, task_id, kept)
    select p_pause, o.id, o.aside and not exists (select from paused_tasks h where h.task_id = o.id and not h.kept)
    from open o on conflict do nothing
  ), changed as (
    update tasks t set status = 'paused', waiting_for = null, version = t.version + 1,
      max_attempts = t.max_attempts + case when o.was = 'running' then 1 else 0 end
    from open o
    where t.id = any (array[o.id]) and not o.aside and not (o.was = 'running' and o.at_most_once)
    returning t.id, t.namespace, t.version, t.agent_id, t.trace, t.attempt, t.step, o.was
  ), undue as (
    update graph_steps s set due = false from changed c where c.step and s.task_id = any (array[c.id]) and s.due
  ), facts as (
    select c.*, p.actor, json_strip_nulls(json_build_object(
      'was', c.was, 'reason', p.reason, 'graph', p.graph_id, 'tree', p.root_id)) as data
    from changed c cross join pause p
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskPaused', namespace, attempt, actor, trace, data from facts
  )
  select id, namespace, version, 'TaskPaused', now(), 'paused'::task_status, case when was = 'running' then agent_id end,
    trace, data from facts;
end $$;

-- Tasks that were just accepted below one of a paused tree are set aside with it.
create function ledger.tasks_hold_new(p_ids uuid[]) returns void
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_pause uuid;
  v_ids uuid[];
begin
  for v_pause, v_ids in
    select h.pause_id, array_agg(t.id) from tasks t join paused_tasks h on h.task_id = any (array[t.parent_id])
    where t.id = any (p_ids) group by h.pause_id order by h.pause_id
  loop
    perform 1 from pauses p where p.id = v_pause and p.root_id is not null for key share;
    if found then perform 1 from ledger.tasks_hold(v_pause, v_ids); end if;
  end loop;
end $$;
