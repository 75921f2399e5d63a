-- Finding and controlling many tasks: dead letters, operations on many tasks, retention.
-- Tasks that complete at once, without a retry link or a time to live of their result, enter none of these indexes.

-- Has this ended task been tried again? And the list by `retry_of`. Only retries enter it.
create index tasks_by_retry on tasks (retry_of) where retry_of is not null;
-- What did not complete, by its end: the list in that order. Ends that are rare among many that completed.
create index tasks_not_completed_by_end on tasks (namespace, completed_at desc, id desc)
  where status in ('failed', 'timeout', 'cancelled');
-- Ends that no agent's tally has, because no agent had them: for counts.
create index tasks_ended_without_agent on tasks (namespace, status)
  where agent_id is null and status in ('failed', 'timeout', 'cancelled');
-- All agents of a namespace, terminated ones too, whose tallies are summed for counts.
create index agents_of_namespace on agents (namespace);

-- How long the result of a task is kept after it completed; null: as long as the task. Null again once it was cleared.
alter table tasks add column result_ttl_ms bigint check (result_ttl_ms > 0);
-- When results are to be cleared. Only tasks that said so enter it.
create index tasks_by_result_expiry on tasks (((completed_at at time zone 'UTC') + result_ttl_ms * interval '1 millisecond'))
  where result_ttl_ms is not null and status = 'completed';

-- Dead letters that somebody has dealt with. Beside the task, which is final.
create table acknowledgements (
  task_id uuid primary key,
  namespace text not null,
  at timestamptz not null default now(),
  actor text not null,
  note text
);

-- Ended tasks that were deleted, by the agent they had: with the tallies they give what is still there. Appended by each
-- deletion and folded later, as tallies are.
create table task_deletions (
  namespace text not null,
  agent_id uuid,
  at timestamptz not null default now(),
  completed int not null,
  failed int not null,
  timed_out int not null,
  cancelled int not null
);
create index task_deletions_by_namespace on task_deletions (namespace);

-- One action on all tasks that a filter finds, carried out in steps. `position` is where the walk from new to old tasks
-- stands: it begins at the operation's own id, so that tasks that are accepted later are not touched.
create table operations (
  id uuid primary key,
  namespace text not null,
  action text not null check (action in ('cancel', 'retry', 'delete', 'prioritise', 'reroute', 'acknowledge')),
  filter json not null,
  parameters json not null,
  actor text not null,
  role text not null,
  status text not null default 'running' check (status in ('running', 'completed', 'cancelled', 'failed')),
  position uuid not null,
  matched int not null default 0 check (matched >= 0),
  done int not null default 0 check (done >= 0),
  failed int not null default 0 check (failed >= 0),
  -- The first failures, as evidence.
  errors jsonb not null default '[]',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  check (done + failed <= matched),
  constraint operation_ended_at_a_time check ((status = 'running') = (ended_at is null))
);
create index operations_by_namespace on operations (namespace, id desc);
-- What is still to be carried out, the one that waited longest first.
create index operations_running on operations (updated_at) where status = 'running';

-- Rules of a namespace: after how long ended tasks are deleted. `position` is where the walk from old to new tasks stands.
create table retention (
  namespace text primary key references namespaces (name),
  rules json not null,
  version int not null default 1,
  actor text not null,
  updated_at timestamptz not null default now(),
  position uuid,
  -- When the next step of the walk is due.
  due_at timestamptz not null default now(),
  deleted bigint not null default 0
);

-- What was archived before it was deleted.
create table retention_archives (
  artifact_id uuid primary key,
  namespace text not null,
  at timestamptz not null default now(),
  tasks int not null
);
create index retention_archives_by_namespace on retention_archives (namespace, artifact_id desc);
