-- Keys by which submissions meet: a key that one live task may have at a time, a key under which submissions join a task that waits; and
-- tasks that must start in time. A task that uses none of it has no row here and nulls in its own.

-- Which live task has a key. Taken by the statement that accepts it, given up by the trigger below at its end.
create table unique_keys (
  namespace text not null,
  key text not null,
  task_id uuid not null,
  primary key (namespace, key)
);

-- Under which key a task waits for more submissions. Whoever joins locks the task's row first, so a task that starts is
-- either joined before, payload and all, or not at all.
create table coalescing (
  namespace text not null,
  key text not null,
  task_id uuid not null,
  -- As the first submission said: later ones must ask for the same.
  type text not null,
  agent_id uuid,
  keep text not null check (keep in ('latest', 'all')),
  -- The task waits no longer than this, whoever joins.
  closes_at timestamptz not null,
  submissions int not null check (submissions > 0),
  items_max int,
  bytes int not null default 0,
  primary key (namespace, key)
);

-- Payloads of those that joined a task that keeps all, until they become its payload, in this order.
create table coalesced_items (
  task_id uuid not null,
  number int not null check (number > 0),
  payload json not null,
  primary key (task_id, number)
);

-- Submissions that were answered with a task that another one had made: what a repeated statement finds of its first
-- commit, and which idempotency keys go with the task. Ids count the time, so the oldest are found by the key.
create table joined_submissions (
  id uuid primary key,
  task_id uuid not null,
  namespace text not null,
  idempotency_key text
);
-- What goes with a deleted task.
create index joined_submissions_by_task on joined_submissions (task_id);

-- Tasks that end unless their first attempt starts in time. A row is looked at when it is due, and goes then when its task
-- has started or ended meanwhile: starting costs nothing.
create table start_deadlines (
  task_id uuid primary key,
  at timestamptz not null,
  timeout_ms bigint not null check (timeout_ms > 0)
);
-- What is due by the clock.
create index start_deadlines_due on start_deadlines (at);

alter table tasks
  -- The key that it has while it lives; null for most.
  add column unique_key text,
  -- The key under which it gathered submissions; null for most.
  add column coalesce_key text;

-- Gives up a task's key at its end, and closes it to further submissions when it no longer waits for its time, whoever changes that.
create function task_keys_follow() returns trigger
language plpgsql as $$
declare
  v_list text;
begin
  if new.completed_at is not null and new.unique_key is not null then
    delete from unique_keys where namespace = new.namespace and key = new.unique_key and task_id = new.id;
  end if;
  if old.waiting_for = 'time' and new.waiting_for is distinct from 'time' and new.coalesce_key is not null then
    delete from coalescing where namespace = new.namespace and key = new.coalesce_key and task_id = new.id;
    with gone as (delete from coalesced_items where task_id = new.id returning number, payload)
    select '[' || string_agg(payload::text, ',' order by number) || ']' into v_list from gone;
    if v_list is not null then
      update tasks set payload = v_list::json where id = new.id;
    end if;
  end if;
  return null;
end $$;

create trigger task_keys_follow after update on tasks for each row
when (
  (old.unique_key is not null or old.coalesce_key is not null)
  and ((old.completed_at is null and new.completed_at is not null) or (old.waiting_for = 'time' and new.waiting_for is distinct from 'time'))
)
execute function task_keys_follow();
