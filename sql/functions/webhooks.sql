-- A UUIDv7 (RFC 9562): Postgres 16 and 17 cannot make one themselves.
create function ledger.uuid_v7() returns uuid language sql volatile as $$
  select encode(
    set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
      placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1),
    'hex')::uuid
$$;

-- The least UUIDv7 of a moment: ids from then on are not below it.
create function ledger.uuid_floor(p_at timestamptz) returns uuid language sql stable as $$
  select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Renews what the trigger asks, after a change of a namespace's webhooks. The caller's transaction has begun with
-- `lock table events in share row exclusive mode`: no event is in the making, so each that is committed after the change
-- was judged by it.
create function ledger.webhooks_attend(p_namespace text) returns void
language plpgsql as $$
begin
  delete from webhook_interest i where i.namespace = p_namespace;
  insert into webhook_interest (namespace, event)
  select distinct w.namespace, unnest(coalesce(w.events, '{*}')) from webhooks w where w.namespace = p_namespace and w.enabled;
  if exists (select from webhook_interest) and not exists (
    select from pg_trigger t where t.tgrelid = 'events'::regclass and t.tgname = 'events_to_webhooks'
  ) then
    create trigger events_to_webhooks after insert on events referencing new table as added
      for each statement execute function webhook_journal_write();
  end if;
end $$;

-- What an endpoint is sent of an event.
create function ledger.webhook_body(f events, t tasks, p_result boolean) returns text language sql stable as $$
  select json_build_object(
    'type', (f).type,
    'timestamp', to_char((f).at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'data', json_build_object(
      'event', json_build_object('type', (f).type, 'kind', (f).kind, 'aggregate', (f).aggregate, 'number', (f).number,
        'at', to_char((f).at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'namespace', (f).namespace,
        'actor', (f).actor, 'trace', (f).trace, 'data', (f).data),
      'task', case
        when (t).id is null then null
        -- `json` all the way: results keep the order of their keys and their numbers as they were written.
        when p_result and (f).number = (t).version and (t).completed_at is not null then json_build_object(
          'id', (t).id, 'name', (t).name, 'type', (t).type, 'agent_id', (t).agent_id,
          'labels', coalesce((t).labels, '{}'), 'result', (t).result)
        else json_build_object(
          'id', (t).id, 'name', (t).name, 'type', (t).type, 'agent_id', (t).agent_id,
          'labels', coalesce((t).labels, '{}'))
      end
    )
  )::text
$$;

-- Turns journal rows into deliveries, those of about `p_events` events. Answers how many rows it took. Rows that another
-- node is at are left to it. The deliveries and the end of the journal's rows are one transaction: nothing is lost, and
-- what was fanned out is not again.
create function ledger.webhooks_fan_out(p_events int) returns int
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_rows int;
begin
  with locked as (
    select j.id, cardinality(j.aggregates) as size from webhook_journal j order by j.id limit 500 for update skip locked
  ), counted as (
    select l.id, sum(l.size) over (order by l.id) - l.size as before from locked l
  ), taken as (
    delete from webhook_journal j using counted c where j.id = any (array[c.id]) and c.before < p_events
    returning j.aggregates, j.numbers
  ), made as (
    insert into webhook_deliveries (id, webhook_id, aggregate, number, event, body, attempts_until, gives_up_at)
    select ledger.uuid_v7(), w.id, f.aggregate, f.number, f.type,
      ledger.webhook_body(f, t, w.include_result), w.attempts_max, now() + interval '72 hours'
    from taken j cross join lateral unnest(j.aggregates, j.numbers) as u (aggregate, number)
      join events f on f.aggregate = any (array[u.aggregate]) and f.number = u.number
      join webhooks w on w.namespace = any (array[f.namespace]) and w.enabled and (w.events is null or f.type = any (w.events))
      left join tasks t on f.kind = 'task' and t.id = any (array[f.aggregate])
    where (w.agent_id is null or w.agent_id = case when f.kind = 'agent' then f.aggregate else t.agent_id end)
      and (w.type is null or w.type = t.type)
      and (w.labels is null or coalesce(t.labels, '{}') @> w.labels)
    order by f.at, f.aggregate, f.number
    on conflict do nothing
  )
  select count(*) into v_rows from taken;
  return v_rows;
end $$;

-- Claims deliveries whose time has come, each webhook's within its concurrency: at most `p_limit`, for `p_lease` ms, after
-- which whoever claimed them counts as dead and they are sent again. A webhook that another node is at is left to it.
create function ledger.webhooks_claim(p_limit int, p_lease double precision)
returns table (id uuid, webhook_id uuid, namespace text, event text, body text, attempt int, attempts_until int,
  remaining_ms double precision, url text, secret bytea, previous_secret bytea, retry json, timeout_ms int)
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_webhooks uuid[];
begin
  with recursive waiting as (
    (select d.webhook_id from webhook_deliveries d where d.status in ('pending', 'sending') order by d.webhook_id limit 1)
    union all
    select (select d.webhook_id from webhook_deliveries d
      where d.status in ('pending', 'sending') and d.webhook_id > k.webhook_id order by d.webhook_id limit 1)
    from waiting k where k.webhook_id is not null
  ), locked as (
    select w.id from webhooks w
    where w.id = any (array(select k.webhook_id from waiting k where k.webhook_id is not null)) and w.enabled
    order by random() limit p_limit for no key update skip locked
  )
  select array_agg(l.id) into v_webhooks from locked l;
  if v_webhooks is null then return; end if;
  -- A statement of its own: its snapshot has what those claimed who held the webhooks before.
  return query
  with picked as materialized (
    select d.id from unnest(v_webhooks) as l (id) join webhooks w on w.id = any (array[l.id]) cross join lateral (
      select d.id from webhook_deliveries d
      where d.webhook_id = w.id and d.status in ('pending', 'sending') and d.due_at <= now()
      order by d.due_at, d.id
      limit greatest(0, w.concurrency - (
        select count(*) from webhook_deliveries s where s.webhook_id = w.id and s.status = 'sending' and s.due_at > now()))
      for update skip locked
    ) d
    limit p_limit
  ), claimed as (
    update webhook_deliveries d set status = 'sending', attempt = d.attempt + 1,
      due_at = now() + p_lease * interval '1 millisecond'
    from picked where d.id = any (array[picked.id])
    returning d.*
  )
  select d.id, d.webhook_id, w.namespace, d.event, d.body, d.attempt, d.attempts_until,
    (extract(epoch from d.gives_up_at - now()) * 1000)::float8, w.url, w.secret,
    case when w.previous_until > now() then w.previous_secret end, w.retry, w.timeout_ms
  from claimed d join webhooks w on w.id = any (array[d.webhook_id]);
end $$;

-- Records the end of an attempt: `delivered`, `pending` (again after `p_delay` ms) or `failed`. Answers the version of a
-- webhook that this has disabled. An attempt that is not the latest any more changes nothing.
create function ledger.webhook_settle(p_id uuid, p_attempt int, p_status text, p_delay double precision, p_response int,
  p_duration double precision, p_error text, p_gone boolean, p_node text)
returns table (webhook_id uuid, namespace text, version int, data json)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_webhook uuid;
begin
  update webhook_deliveries d set status = p_status,
    due_at = now() + p_delay * interval '1 millisecond',
    response_status = p_response, duration_ms = p_duration, error = p_error,
    history = (case when jsonb_array_length(d.history) < 20 then d.history else d.history - 0 end) || jsonb_build_object(
      'attempt', d.attempt, 'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'response_status', p_response, 'duration_ms', p_duration, 'error', p_error),
    ended_at = case when p_status in ('delivered', 'failed') then now() end
  where d.id = p_id and d.status = 'sending' and d.attempt = p_attempt
  returning case when d.aggregate is not null then d.webhook_id end into v_webhook;
  if v_webhook is null then return; end if;
  if p_status = 'delivered' then
    update webhooks w set failures = 0 where w.id = v_webhook and w.failures <> 0;
  elsif p_status = 'failed' then
    update webhooks w set failures = w.failures + 1 where w.id = v_webhook;
    if p_gone then
      return query select * from ledger.webhook_disable(v_webhook, 'gone', p_node);
    elsif exists (select from webhooks w where w.id = v_webhook and w.failures >= w.disable_after) then
      return query select * from ledger.webhook_disable(v_webhook, 'failures', p_node);
    end if;
  end if;
end $$;

-- Disables an enabled webhook, with its event.
create function ledger.webhook_disable(p_webhook uuid, p_reason text, p_node text)
returns table (webhook_id uuid, namespace text, version int, data json)
language sql as $$
  with changed as (
    update webhooks w set enabled = false, disabled_reason = p_reason, disabled_at = now(), updated_at = now(),
      version = w.version + 1
    where w.id = p_webhook and w.enabled
    returning w.id, w.namespace, w.version,
      json_build_object('name', w.name, 'reason', p_reason, 'failures', w.failures) as data
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, actor, data)
    select id, version, 'webhook', 'WebhookDisabled', namespace, p_node, data from changed
  )
  select id, namespace, version, data from changed
$$;

-- Keeps the log within its bounds: ended deliveries older than 7 days or beyond the newest `p_kept` go, of disabled
-- webhooks also those that wait; a webhook with more than `p_open` that wait is disabled. Answers those.
create function ledger.webhooks_tidy(p_kept int, p_open int, p_node text)
returns table (webhook_id uuid, namespace text, version int, data json)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_webhook record;
  v_rows int;
  v_deleted int := 0;
begin
  -- In no order, so that what one call leaves is not always the same.
  for v_webhook in select w.id, w.enabled from webhooks w order by random() loop
    delete from webhook_deliveries d where d.id in (
      select o.id from webhook_deliveries o
      where o.webhook_id = v_webhook.id and o.id < greatest(
          ledger.uuid_floor(now() - interval '7 days'),
          coalesce((select n.id from webhook_deliveries n where n.webhook_id = v_webhook.id
            order by n.id desc offset p_kept limit 1), ledger.uuid_floor('epoch')))
        and (o.status in ('delivered', 'failed')
          or (o.status = 'pending' and not v_webhook.enabled and o.id < ledger.uuid_floor(now() - interval '7 days')))
      order by o.id limit 1000
    );
    get diagnostics v_rows = row_count;
    v_deleted := v_deleted + v_rows;
    exit when v_deleted > 10000;
    if v_webhook.enabled and (
      select count(*) from (select from webhook_deliveries o
        where o.webhook_id = v_webhook.id and o.status in ('pending', 'sending') limit p_open + 1) counted
    ) > p_open then
      return query select * from ledger.webhook_disable(v_webhook.id, 'backlog', p_node);
    end if;
  end loop;
end $$;

-- Takes the trigger away when no webhook is enabled. Waits for the table at most a second: it comes again.
create function ledger.webhooks_rest() returns boolean
language plpgsql set lock_timeout = '1s' as $$
begin
  if exists (select from webhooks w where w.enabled) or not exists (
    select from pg_trigger t where t.tgrelid = 'events'::regclass and t.tgname = 'events_to_webhooks'
  ) then return false; end if;
  lock table events in access exclusive mode;
  if exists (select from webhooks w where w.enabled) then return false; end if;
  drop trigger if exists events_to_webhooks on events;
  delete from webhook_interest;
  return true;
end $$;
