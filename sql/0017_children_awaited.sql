-- Running tasks wait for the tasks that they have submitted, without a slot. The new word is compared as text here and in SQL functions:
-- Postgres does not let a transaction use a value of an enum that it has added itself.

alter type task_wait add value if not exists 'children';

-- True: a task waits for its end, or waited for it. Null for most, so that ends of others look nothing up.
alter table tasks add column awaited boolean;

-- Awaits of a task for ends of its children, numbered with its awaits for signals: the same await gets the same answer in every attempt.
create table child_awaits (
  task_id uuid not null references tasks (id) on delete cascade,
  position int not null check (position > 0),
  opened_at timestamptz not null default now(),
  -- Its answer was given, or its task has ended.
  closed boolean not null default false,
  primary key (task_id, position)
);
-- What the sweep looks through for ends that nobody was told of.
create index child_awaits_open on child_awaits (task_id) where not closed;

-- Whose end it waits for, in the order of the answer. What an end was stands in the child, which is kept until the parent has ended.
create table awaited_children (
  task_id uuid not null,
  position int not null,
  place int not null check (place > 0),
  child_id uuid not null,
  -- Its end has been told.
  ended boolean not null,
  primary key (task_id, position, place),
  foreign key (task_id, position) references child_awaits (task_id, position) on delete cascade
);
-- A child's end looks up who waits for it; so does its deletion.
create index awaited_children_by_child on awaited_children (child_id);
-- What is still waited for: the last end finds that there is nothing left without reading those that came before.
create index awaited_children_open on awaited_children (task_id, position) where not ended;

-- As before; and a task that waits for its children lets go of its places, which they may need. What it took of a rate is spent and is
-- kept, or going on would take it again.
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
  if new.status = 'paused' and new.waiting_for::text = 'children' then
    if new.held_limits is null then return null; end if;
    with entered as (
      insert into task_limits (task_id, limit_id, key, namespace, fair, lane)
      select new.id, h.l, h.k, new.namespace, h.f, new.lane
      from json_to_recordset(new.held_limits) as h (l uuid, k text, f text) left join limits m on m.id = h.l
      where m.rate_limit is null returning *
    )
    insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 1 from entered;
    update tasks set held_limits = (
      select json_agg(json_build_object('l', h.l, 'k', h.k, 'f', h.f) order by h.l)
      from json_to_recordset(new.held_limits) as h (l uuid, k text, f text) join limits m on m.id = h.l
      where m.rate_limit is not null)
    where id = new.id;
    return null;
  end if;
  if new.status = 'queued' then
    -- Given back by its instance, or taken over: it keeps what it holds. A row here is a place that it has not.
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
  with left_queue as (update task_limits set waits = false where task_id = new.id and waits returning *)
  insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 0 from left_queue;
  if new.held_limits is null then return null; end if;
  with entered as (
    insert into task_limits (task_id, limit_id, key, namespace, fair, lane)
    select new.id, h.l, h.k, new.namespace, h.f, new.lane
    from json_to_recordset(new.held_limits) as h (l uuid, k text, f text) returning *
  )
  insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 1 from entered;
  update tasks set held_limits = null where id = new.id;
  return null;
end $$;

-- Claims, pauses of what runs, and admission change nothing about what a task holds.
create or replace trigger task_limits_follow after update on tasks for each row
when (
  old.limited and new.limited and case
    when old.waiting_for = 'capacity' then new.status <> 'queued' and new.waiting_for is distinct from 'capacity'
    else (old.status, old.waiting_for) is distinct from (new.status, new.waiting_for) and new.status <> 'running'
      and not (old.status = 'running' and new.status = 'paused' and new.waiting_for::text is distinct from 'children') end
)
execute function task_limits_follow();
