-- Limits by key: how many tasks that share a key may be in the queue or run at a time, or start in a time, and in which order those that wait
-- get their turn. A task without a limit has no row here, and `limited` of it is null.

create table limits (
  id uuid primary key,
  namespace text not null references namespaces (name),
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  description text,
  -- Null: tasks of any agent, or of any type.
  agent_id uuid,
  task_type text,
  -- Expressions over a task: `labels.<name>`, `payload.<JSON Pointer>`; `*` is one key for all.
  key text not null,
  fair_by text,
  -- What a key's value allows: so many at a time, or a token bucket. None of both: as many as the agent's slots need.
  concurrency int check (concurrency >= 0),
  rate_limit int check (rate_limit > 0),
  rate_window_ms int check (rate_window_ms > 0),
  rate_burst int check (rate_burst > 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version int not null default 1,
  constraint one_measure check (concurrency is null or rate_limit is null),
  constraint whole_rate check ((rate_limit is null) = (rate_window_ms is null) and (rate_limit is null) = (rate_burst is null)),
  constraint measured_or_fair check (num_nonnulls(concurrency, rate_limit) = 1 or (agent_id is not null and fair_by is not null))
);
create unique index limits_by_name on limits (namespace, name);
-- Newest first within a namespace: the list.
create index limits_by_namespace on limits (namespace, id desc);

-- What is taken of a key. Written only under the advisory lock of its namespace, so that nobody waits for another in a circle.
-- Invariant: `taken` = tasks that hold the key + what `limit_marks` gives back.
create table limit_keys (
  limit_id uuid not null,
  key text not null,
  namespace text not null,
  taken int not null default 0 check (taken >= 0),
  -- The token bucket, as it was at `tokens_at`.
  tokens double precision,
  tokens_at timestamptz,
  -- The last of the groups that share the key fairly to get a turn: the next one in order follows.
  served text not null default '',
  -- When there will be a token for those that wait.
  due_at timestamptz,
  primary key (limit_id, key)
) with (fillfactor = 50);
create index limit_keys_due on limit_keys (namespace, due_at) where due_at is not null;
-- Idle keys are forgotten.
create index limit_keys_idle on limit_keys (namespace, limit_id) where taken = 0 and due_at is null;

-- The limits of each task that has not ended. A task that waits for capacity stands in the queue of one of its keys: one that is full.
create table task_limits (
  task_id uuid not null,
  limit_id uuid not null,
  key text not null,
  namespace text not null,
  -- Group within the key: groups take turns.
  fair text not null default '',
  lane task_lane not null,
  -- It counts in `limit_keys.taken`.
  held boolean not null default false,
  waits boolean not null default false,
  primary key (task_id, limit_id),
  constraint waits_or_holds check (not (held and waits))
);
-- The queue of a key, by group: the next of each group is one look-up.
create index task_limits_waiting on task_limits (limit_id, key, fair, lane, task_id) where waits;

-- What happened at a key since admission last looked: something to give back, or somebody who waits. Only appended to, so that ends of tasks
-- wait for nobody.
create table limit_marks (
  namespace text not null,
  id bigint generated always as identity,
  limit_id uuid not null,
  key text not null,
  freed int not null check (freed >= 0),
  primary key (namespace, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- True: it has rows in `task_limits`, and the trigger below keeps them. False: it had some, and whoever ended it gave them back.
-- Null for all others.
alter table tasks add column limited boolean;

-- Keeps the limits of a task in step with its state, whoever changes that: its end gives back and forgets, a retry gives
-- back, and nobody is queued who holds nothing.
create function task_limits_follow() returns trigger
language plpgsql as $$
declare
  v_first uuid;
begin
  if new.status in ('completed', 'failed', 'timeout', 'cancelled') then
    with gone as (delete from task_limits where task_id = new.id returning *)
    insert into limit_marks (namespace, limit_id, key, freed)
    select namespace, limit_id, key, held::int from gone where held or waits;
    return null;
  end if;
  if new.status = 'queued' then
    -- Given back by its instance, or taken over: it keeps what it holds.
    perform 1 from task_limits where task_id = new.id and not held limit 1;
    if not found then return null; end if;
    update tasks set status = 'pending', waiting_for = 'capacity', queued_at = null where id = new.id;
    return null;
  end if;
  if new.waiting_for = 'capacity' then
    select limit_id into v_first from task_limits where task_id = new.id order by limit_id limit 1;
    with queued as (
      update task_limits set waits = true where task_id = new.id and limit_id = v_first and not held returning *
    )
    insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, 0 from queued;
    return null;
  end if;
  with freed as (
    update task_limits l set held = false, waits = false
    from (select task_id, limit_id, held from task_limits where task_id = new.id and (held or waits) for update) before
    where l.task_id = before.task_id and l.limit_id = before.limit_id
    returning l.namespace, l.limit_id, l.key, before.held
  )
  insert into limit_marks (namespace, limit_id, key, freed) select namespace, limit_id, key, held::int from freed;
  return null;
end $$;

-- Claims, pauses of what runs, and admission change nothing about what a task holds.
create trigger task_limits_follow after update on tasks for each row
when (
  old.limited and new.limited and case
    when old.waiting_for = 'capacity' then new.status <> 'queued' and new.waiting_for is distinct from 'capacity'
    else (old.status, old.waiting_for) is distinct from (new.status, new.waiting_for) and new.status <> 'running'
      and not (old.status = 'running' and new.status = 'paused') end
)
execute function task_limits_follow();
