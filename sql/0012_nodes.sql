-- Nodes that are there or were lately. Each keeps its own row by a heartbeat; others read it. A node lives by its row in
-- `datamcp_cluster_runners` and its locks, not by this one: this is what operators see, and where they say what they want.

create table nodes (
  name text primary key check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  -- Which process by this name: an earlier one must not say of a later one that it has gone.
  process uuid not null,
  version text not null,
  roles text[] not null check (cardinality(roles) > 0),
  state text not null check (state in ('starting', 'ready', 'draining', 'drained')),
  -- What an operator wants of it. Outlives the process: a drained node that is started again stays drained.
  drain boolean not null default false,
  instances int not null default 0,
  running int not null default 0,
  shards int not null default 0,
  started_at timestamptz not null default now(),
  heartbeat timestamptz not null default now(),
  -- When it ended in order; a node that was killed is known by its silence.
  left_at timestamptz
)
-- Half-empty pages keep each heartbeat on the row's own page and out of the index.
with (fillfactor = 50);
