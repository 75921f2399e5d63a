-- What a task holds of its limits stands in its own row: a task that finds room when it is accepted, and ends, never has a row in `task_limits`,
-- where rows cost four writes per limit. `task_limits` is left for those that hold nothing: they wait for capacity, or for something else first.

-- The limits that a task holds, [{l, k, f}]: limit, key, group. Given back when it ends; what it held stays readable.
alter table tasks add column held_limits json;

update tasks t set held_limits = h.held
from (
  select task_id, json_agg(json_build_object('l', limit_id, 'k', key, 'f', fair) order by limit_id) as held
  from task_limits where held group by task_id
) h
where t.id = h.task_id;
delete from task_limits where held;
alter table task_limits drop column held;

-- Keeps the limits of a task in step with its state, whoever changes that: its end gives back, so does a retry, and nobody is queued
-- who holds nothing.
create or replace function task_limits_follow() returns trigger
language plpgsql as $$
declare
  v_first uuid;
begin
  if new.status in ('completed', 'failed', 'timeout', 'cancelled') then
    with gone as (delete from task_limits where task_id = new.id returning *)
    insert into limit_marks (namespace, limit_id, key, freed)
    select namespace, limit_id, key, 0 from gone where waits
    union all
    select new.namespace, h.l, h.k, 1 from json_to_recordset(new.held_limits) as h (l uuid, k text);
    return null;
  end if;
  if new.status = 'queued' then
    -- Given back by its instance, or taken over: it keeps what it holds.
    if new.held_limits is not null then return null; end if;
    perform 1 from task_limits where task_id = new.id limit 1;
    if not found then return null; end if;
    update tasks set status = 'pending', waiting_for = 'capacity', queued_at = null where id = new.id;
    return null;
  end if;
  if new.waiting_for = 'capacity' then
    select limit_id into v_first from task_limits where task_id = new.id order by limit_id limit 1;
    with queued as (update task_limits set waits = true where task_id = new.id and limit_id = v_first returning *)
    insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 0 from queued;
    return null;
  end if;
  if new.held_limits is null then
    with left_queue as (update task_limits set waits = false where task_id = new.id and waits returning *)
    insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 0 from left_queue;
    return null;
  end if;
  with entered as (
    insert into task_limits (task_id, limit_id, key, namespace, fair, lane)
    select new.id, h.l, h.k, new.namespace, h.f, new.lane
    from json_to_recordset(new.held_limits) as h (l uuid, k text, f text) returning *
  )
  insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 1 from entered;
  update tasks set held_limits = null where id = new.id;
  return null;
end $$;
