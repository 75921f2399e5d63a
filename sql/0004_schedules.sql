-- Work that comes back by the clock.

create table schedules (
  id uuid primary key,
  namespace text not null references namespaces (name),
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  description text,
  cron text,
  every_ms bigint check (every_ms > 0),
  time_zone text not null,
  starts_at timestamptz,
  ends_at timestamptz,
  -- From where an interval without `starts_at` counts.
  anchor_at timestamptz not null,
  jitter_ms int not null check (jitter_ms >= 0),
  catch_up text not null check (catch_up in ('skip', 'one', 'all')),
  overlap text not null check (overlap in ('allow', 'skip', 'cancel_previous')),
  task json,
  graph json,
  labels jsonb not null default '{}',
  -- Part of the idempotency keys of its runs and told to nobody, so that nobody else can use one up.
  run_secret uuid not null default gen_random_uuid(),
  -- Whose rights its runs have.
  owner text not null,
  paused boolean not null default false,
  -- The due time that comes next, and when it starts: later by its jitter. Null when paused, or when none is left.
  due_at timestamptz,
  starts_next_at timestamptz,
  -- Since when that due time has been worked on: from then on it may have been submitted.
  attempted_at timestamptz,
  -- The latest due time whose outcome is recorded. Due times are settled in their order, each once.
  last_due_at timestamptz,
  last_outcome text check (last_outcome in ('fired', 'skipped', 'refused')),
  last_reason text,
  last_task_id uuid,
  last_graph_id uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version int not null default 1,
  -- Number of its last event. Runs are events too, and must not change the version that people compare.
  event_number int not null default 1,
  constraint says_when check (num_nonnulls(cron, every_ms) = 1),
  constraint says_what check (num_nonnulls(task, graph) = 1),
  constraint due_and_start_together check ((due_at is null) = (starts_next_at is null)),
  constraint paused_is_never_due check (not paused or due_at is null)
) with (fillfactor = 80);
create unique index schedules_by_name on schedules (namespace, name);
-- Newest first within a namespace: the list, and the count.
create index schedules_by_namespace on schedules (namespace, id desc);
-- What the sweep takes: those whose time has come.
create index schedules_due on schedules (starts_next_at) where starts_next_at is not null;

-- Which kinds of events there are is said by protocol/Event.ts. A list here had to be replaced by everything that records some.
alter table events drop constraint events_kind_check;
