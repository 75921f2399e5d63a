-- What is stored. Invariants stand here as constraints; the functions that change tasks are in functions/.
-- Times are the database's own. Ids are UUIDv7, made by the node that accepts.

create type task_status as enum
  ('pending', 'queued', 'running', 'paused', 'completed', 'failed', 'timeout', 'cancelled');
create type task_wait as enum ('dependencies', 'time', 'capacity', 'agent', 'retry');
-- In the order of service, so that `order by lane` serves critical first.
create type task_lane as enum ('critical', 'high', 'normal', 'low');

create table namespaces (
  name text primary key check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  created_at timestamptz not null default now()
);
insert into namespaces (name) values ('default');

create table api_keys (
  id text primary key,
  namespace text not null references namespaces (name),
  name text not null,
  -- SHA-256 of the secret part, which has 256 random bits; the key itself is shown once and never stored.
  secret_hash bytea not null check (length(secret_hash) = 32),
  role text not null check (role in ('admin', 'operator', 'viewer', 'agent', 'api_user')),
  -- Null: those of the role. Otherwise a subset of them.
  permissions text[],
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz
);
create index api_keys_by_namespace on api_keys (namespace, created_at desc);

create table agents (
  id uuid primary key,
  namespace text not null references namespaces (name),
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  type text not null,
  description text,
  capabilities json not null,
  configuration json not null,
  status text not null default 'active' check (status in ('active', 'maintenance', 'error', 'terminated')),
  status_reason text,
  draining boolean not null default false,
  desired_instances int not null default 1 check (desired_instances between 1 and 100),
  labels jsonb not null default '{}',
  metadata json not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version int not null default 1
);
-- A name is free again once its agent has terminated.
create unique index agents_by_name on agents (namespace, name) where status <> 'terminated';
-- Newest first within a namespace: the list.
create index agents_by_namespace on agents (namespace, id desc) where status <> 'terminated';
-- Nodes ask what changed since they last looked.
create index agents_by_change on agents (updated_at);

-- The lease of an instance. `epoch` grows at every takeover; claims key-share-lock the row, takeovers lock it for update.
create table agent_instances (
  agent_id uuid not null references agents (id),
  index int not null check (index >= 0),
  epoch int not null check (epoch > 0),
  node text not null,
  status text not null default 'active' check (status in ('active', 'hibernating', 'error')),
  taken_at timestamptz not null default now(),
  heartbeat timestamptz not null default now(),
  primary key (agent_id, index)
);

-- Recorded ends per agent, appended by each commit and folded by the reconciler: a counter row would make commits queue.
create table agent_tallies (
  agent_id uuid not null,
  at timestamptz not null default now(),
  completed int not null,
  failed int not null,
  timed_out int not null,
  cancelled int not null,
  attempts int not null,
  millis_sum double precision not null,
  millis_max double precision not null
);
create index agent_tallies_by_agent on agent_tallies (agent_id);

create table graphs (
  id uuid primary key,
  namespace text not null,
  name text,
  created_at timestamptz not null default now()
);

create table tasks (
  id uuid primary key,
  namespace text not null,
  name text not null,
  type text not null,
  description text,
  agent_id uuid,
  status task_status not null,
  waiting_for task_wait,
  lane task_lane not null,
  attempt int not null default 0,
  epoch int not null default 0,
  instance int,
  max_attempts int not null check (max_attempts > 0),
  at_most_once boolean not null default false,
  dependencies_open int not null default 0 check (dependencies_open >= 0),
  has_dependents boolean not null default false,
  version int not null default 1,
  -- Kept as text of the submitter: numbers and key order come back as they went in.
  payload json,
  configuration json,
  progress json,
  result json,
  labels jsonb,
  metadata json,
  parent_id uuid,
  graph_id uuid,
  graph_key text,
  retry_of uuid,
  run_at timestamptz,
  deadline timestamptz,
  actor text,
  trace text,
  created_at timestamptz not null default now(),
  queued_at timestamptz,
  started_at timestamptz,
  completed_at timestamptz,
  constraint waits_for_something check ((status = 'pending') = (waiting_for is not null)),
  constraint queued_for_an_agent check (status not in ('queued', 'running') or agent_id is not null),
  constraint ended_at_a_time check ((status in ('completed', 'failed', 'timeout', 'cancelled')) = (completed_at is not null)),
  constraint attempts_within_bound check (attempt <= max_attempts)
) with (fillfactor = 80);

-- Newest first within a namespace: the list.
create index tasks_by_namespace on tasks (namespace, id desc);
-- What an agent has to do or is doing: takeover, backlog, the reconciler's wake. By status first, so that finding the few
-- that run does not read the many that are queued.
create index tasks_live on tasks (agent_id, status, lane, id) where status in ('queued', 'running');
-- What waits, newest first: the list by that status, and its count. Tasks that are queued at once never enter it.
create index tasks_waiting on tasks (namespace, id desc) where status in ('pending', 'paused');
-- The same by agent: whether a draining agent is done, and what deleting it cancels.
create index tasks_waiting_by_agent on tasks (agent_id) where status in ('pending', 'paused') and agent_id is not null;
-- Ends that people look for among many that completed: lists by failure, and their counts.
create index tasks_not_completed on tasks (namespace, id desc) where status in ('failed', 'timeout', 'cancelled');
-- What becomes due by the clock: run_at and retries.
create index tasks_due on tasks (run_at) where status = 'pending' and waiting_for in ('time', 'retry');
-- What must end by the clock.
create index tasks_by_deadline on tasks (deadline)
  where deadline is not null and status in ('pending', 'queued', 'running', 'paused');
-- What waits for an agent that can do it.
create index tasks_without_agent on tasks (namespace, type) where status = 'pending' and waiting_for = 'agent';
create index tasks_by_parent on tasks (parent_id) where parent_id is not null;
create index tasks_by_graph on tasks (graph_id) where graph_id is not null;

create table task_dependencies (
  child_id uuid not null references tasks (id),
  parent_id uuid not null,
  on_ended boolean not null,
  required boolean not null,
  -- Set when the parent's end has been counted, so that it is counted once.
  resolved boolean not null default false,
  primary key (child_id, parent_id),
  check (child_id <> parent_id)
) with (fillfactor = 90);
-- A parent's end looks up those who wait for it. Of all, resolved or not: so no index changes when they are resolved.
create index task_dependencies_by_parent on task_dependencies (parent_id);

-- Ended tasks whose children are still to be told: what a long cascade of failures left for the next transaction.
create table dependency_frontier (
  parent_id uuid primary key
);

create table idempotency_keys (
  namespace text not null,
  key text not null,
  -- SHA-256 of the canonical command: the same key with another body is refused.
  fingerprint bytea not null,
  -- The task or graph that the key made.
  resource_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (namespace, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);

-- Facts, written with the change they record. `number` has no gaps per aggregate: it is the aggregate's version.
create table events (
  aggregate uuid not null,
  number int not null check (number > 0),
  kind text not null check (kind in ('task', 'agent')),
  type text not null,
  namespace text not null,
  at timestamptz not null default now(),
  attempt int,
  actor text,
  trace text,
  data json,
  primary key (aggregate, number)
);

create table artifacts (
  id uuid primary key,
  namespace text not null,
  name text not null,
  content_type text not null,
  size_bytes bigint not null check (size_bytes >= 0),
  sha256 bytea not null check (length(sha256) = 32),
  created_at timestamptz not null default now()
);
create index artifacts_by_namespace on artifacts (namespace, id desc);

-- Content in pieces of at most 1 MiB, so that neither side holds a whole artifact in memory.
create table artifact_pieces (
  artifact_id uuid not null references artifacts (id) on delete cascade,
  number int not null check (number >= 0),
  content bytea not null,
  primary key (artifact_id, number)
);
alter table artifact_pieces alter column content set storage external;
