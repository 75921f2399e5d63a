-- Webhooks, which are told of events; their deliveries; and hooks, by which other systems submit tasks.
--
--   events --trigger, only while somebody wants to be told--> webhook_journal --fan-out--> webhook_deliveries --> endpoint
--
-- docs/adr/0010-webhooks.md says why it is a journal and no cursor over `events`.

create table webhooks (
  id uuid primary key,
  namespace text not null references namespaces (name),
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  url text not null,
  description text,
  -- The filter; null is any.
  events text[] check (cardinality(events) > 0),
  agent_id uuid,
  type text,
  labels jsonb,
  -- The key of signatures. Kept as it is: whoever reads this table can sign.
  secret bytea not null check (length(secret) between 24 and 64),
  -- The key before the last rotation, signed with as well until then.
  previous_secret bytea,
  previous_until timestamptz,
  include_result boolean not null,
  retry json not null,
  attempts_max int not null check (attempts_max > 0),
  timeout_ms int not null check (timeout_ms > 0),
  concurrency int not null check (concurrency > 0),
  -- Deliveries in a row that used up their attempts, and how many of them disable it.
  failures int not null default 0,
  disable_after int not null check (disable_after > 0),
  enabled boolean not null default true,
  disabled_reason text check (disabled_reason in ('asked', 'gone', 'failures', 'backlog')),
  disabled_at timestamptz,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version int not null default 1,
  constraint disabled_for_a_reason check (enabled = (disabled_reason is null) and enabled = (disabled_at is null)),
  constraint rotation_is_whole check ((previous_secret is null) = (previous_until is null))
);
create unique index webhooks_by_name on webhooks (namespace, name);
-- Newest first within a namespace: the list.
create index webhooks_by_namespace on webhooks (namespace, id desc);

-- Which events of a namespace some enabled webhook wants, `*` for all: what the trigger asks, kept with each change.
create table webhook_interest (
  namespace text not null,
  event text not null,
  primary key (namespace, event)
);

-- Events that were committed and not yet fanned out: a row for each statement that recorded some, in its transaction.
create table webhook_journal (
  id bigint generated always as identity primary key,
  namespace text not null,
  aggregates uuid[] not null,
  numbers int[] not null,
  check (cardinality(aggregates) = cardinality(numbers))
);

create table webhook_deliveries (
  -- UUIDv7, so that the order of ids is the order of time; the header `webhook-id`.
  id uuid primary key,
  webhook_id uuid not null references webhooks (id) on delete cascade,
  -- The event; null for a ping.
  aggregate uuid,
  number int,
  event text not null,
  -- As it is sent, so that every attempt sends the same.
  body text not null,
  status text not null default 'pending' check (status in ('pending', 'sending', 'delivered', 'failed')),
  attempt int not null default 0,
  -- The attempt after which it is given up; a replay grants more.
  attempts_until int not null,
  gives_up_at timestamptz not null,
  -- When it is to be sent; while it is being sent, when its sender counts as dead.
  due_at timestamptz not null default now(),
  response_status int,
  duration_ms double precision,
  error text,
  -- The last attempts, oldest first.
  history jsonb not null default '[]',
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  constraint delivery_ended_at_a_time check ((status in ('delivered', 'failed')) = (ended_at is not null))
) with (fillfactor = 80);
-- An event is delivered to a webhook once, however often it is fanned out.
create unique index webhook_deliveries_once on webhook_deliveries (webhook_id, aggregate, number);
-- Newest first within a webhook: the log, what is too old, and ranges of time.
create index webhook_deliveries_by_webhook on webhook_deliveries (webhook_id, id desc);
-- What is to be sent, each webhook's on its own.
create index webhook_deliveries_open on webhook_deliveries (webhook_id, due_at, id) where status in ('pending', 'sending');
-- What is being sent: few rows, counted to keep a webhook's concurrency.
create index webhook_deliveries_sending on webhook_deliveries (webhook_id) where status = 'sending';

create table hooks (
  id uuid primary key,
  namespace text not null references namespaces (name),
  name text not null check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  description text,
  authentication text not null check (authentication in ('secret', 'standard', 'github')),
  -- Of `secret` the SHA-256 of what stands in its URL; of the others the key, which checking a signature needs.
  secret bytea not null check (length(secret) between 16 and 256),
  idempotency_header text not null,
  task json not null,
  per_minute int not null check (per_minute > 0),
  enabled boolean not null default true,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version int not null default 1
);
create unique index hooks_by_name on hooks (namespace, name);
create index hooks_by_namespace on hooks (namespace, id desc);

-- Writes down which of a statement's events some webhook wants, at most 500 to a row. `ledger.webhooks_attend` puts it on
-- `events` when the first webhook is enabled and `ledger.webhooks_rest` takes it away after the last: without webhooks
-- recording an event costs what it did. Not one of the ledger's functions: nodes of every version share the one trigger.
-- A statement's events are of few kinds, so it asks by kind and not by event.
create function webhook_journal_write() returns trigger language plpgsql as $$
begin
  insert into webhook_journal (namespace, aggregates, numbers)
  with kinds as materialized (
    select k.namespace, k.type from (select distinct a.namespace, a.type from added a) k
    where exists (
      select from webhook_interest i where i.namespace = k.namespace and i.event = any (array[k.type, '*'])
    )
  )
  select w.namespace, array_agg(w.aggregate), array_agg(w.number)
  from (
    select a.namespace, a.aggregate, a.number, (row_number() over () - 1) / 500 as part
    from added a join kinds k on k.namespace = a.namespace and k.type = a.type
  ) w
  group by w.namespace, w.part;
  return null;
end $$;
