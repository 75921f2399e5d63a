-- What is said to tasks (signals), what they wait for (awaits), and what they say while they run (streams of chunks). All of
-- it goes with its task.

alter type task_wait add value if not exists 'signal';

-- A paused task waits for a signal, or was set aside by somebody and waits for nothing. Not validated: every row that the
-- old constraint let in passes this one.
alter table tasks drop constraint waits_for_something;
alter table tasks add constraint waits_for_something check (
  case status when 'pending' then waiting_for is not null when 'paused' then true else waiting_for is null end
) not valid;

-- Where the last attempt that gave its slot back waited; null for all others. What it says again up to there was said.
alter table tasks add column parked_attempt int;
alter table tasks add column parked_position int;

create table task_signals (
  task_id uuid not null references tasks (id) on delete cascade,
  number int not null check (number > 0),
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  payload json,
  actor text not null,
  at timestamptz not null default now(),
  -- The caller's idempotency key, or one made up for the request, so that a repeated commit is known.
  request text not null,
  fingerprint bytea not null,
  -- The open await whose terms it was held against when it came; null when there was none.
  checked int,
  -- The await that took it; null while it is kept.
  position int,
  primary key (task_id, number)
);
-- A repeated request finds the first one.
create unique index task_signals_by_request on task_signals (task_id, request);
-- The next one of a name that nothing has taken.
create index task_signals_kept on task_signals (task_id, name, number) where position is null;

-- The journal of a task's awaits, by the order in which its behaviour makes them: the same await gets the same answer in
-- every attempt.
create table task_awaits (
  task_id uuid not null references tasks (id) on delete cascade,
  position int not null check (position > 0),
  namespace text not null,
  name text not null,
  -- {message, shape, from}: what people are told, what the payload must look like, who may send it.
  terms json not null,
  opened_at timestamptz not null default now(),
  -- When the wait is over; counts from the first attempt that came to it.
  until timestamptz,
  -- Null while it waits.
  outcome text check (outcome in ('signal', 'timeout')),
  signal int,
  primary key (task_id, position),
  check ((outcome is not distinct from 'signal') = (signal is not null))
);
-- What of a namespace waits for a signal of a name, newest first.
create index task_awaits_open on task_awaits (namespace, name, task_id desc) where outcome is null;
-- Waits that are over by the clock.
create index task_awaits_due on task_awaits (until) where outcome is null and until is not null;

create table task_streams (
  task_id uuid not null references tasks (id) on delete cascade,
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  -- Number of its last chunk.
  last int not null check (last > 0),
  bytes bigint not null check (bytes >= 0),
  -- The run that wrote last, and how many chunks of it are in: what a repeated commit must leave out.
  run int not null,
  written int not null,
  primary key (task_id, name)
);

-- `number` counts a stream's chunks from 1 without gaps.
create table stream_chunks (
  task_id uuid not null,
  name text not null,
  number int not null check (number > 0),
  attempt int not null,
  -- Number of the event that began the run: attempts that were given back have the same number as the next.
  run int not null,
  at timestamptz not null default now(),
  data json not null,
  primary key (task_id, name, number),
  foreign key (task_id, name) references task_streams (task_id, name) on delete cascade
);
