-- Tasks that are accepted under a condition: a key that no other live task may have, a key under which submissions join a
-- task that waits, or a start in time. What they share with other tasks is done by `task_accept`.
--
-- Order of locks: who takes keys first locks the share of all keys that each of them falls into, so that two never wait for each other's
-- keys with something in their hands; then keys; then tasks by their id. A key is waited for besides only while its holder ends,
-- and an end waits for nobody who takes keys.

-- How a row was answered. `field` is what another submission of its key says otherwise.
create type ledger.task_answer as (
  ordinal int, outcome text, id uuid, status task_status, waiting_for task_wait, at timestamptz, same boolean,
  name text, type text, agent_id uuid, field text, change json
);

-- The lock that stands for a key of a kind among those who take keys: one of 256, so that no call needs more than Postgres has.
create function ledger.key_share(p_kind text, p_namespace text, p_key text) returns bigint
language sql immutable as $$
  select hashtextextended('datamcp keys ' || p_kind || (hashtextextended(p_namespace || ' ' || p_key, 0) & 255)::text, 0)
$$;

-- An answer with a task as it stands.
create function ledger.task_answer_with(p_ordinal int, p_outcome text, p_task uuid) returns ledger.task_answer
language sql stable as $$
  select (p_ordinal, p_outcome, p_task, t.status, t.waiting_for, coalesce(t.created_at, now()), true, t.name, t.type,
    t.agent_id, null, null)::ledger.task_answer
  from (select p_task as id) w left join tasks t on t.id = any (array[w.id])
$$;

-- Keeps the idempotency key of a submission that another one's task answers. Null: kept, or there is none. Otherwise the
-- answer that the key gave before.
create function ledger.submission_joins(p_ordinal int, p_submission uuid, p_namespace text, p_key text, p_fingerprint text, p_task uuid)
returns ledger.task_answer
language plpgsql as $$
begin
  if p_key is not null then
    insert into idempotency_keys as k (namespace, key, fingerprint, resource_id)
    values (p_namespace, p_key, decode(p_fingerprint, 'hex'), p_task)
    on conflict (namespace, key) do update
      set fingerprint = excluded.fingerprint, resource_id = excluded.resource_id, created_at = now()
      where k.created_at < now() - interval '72 hours';
    if not found then
      return ledger.submission_known(p_ordinal, p_namespace, p_key, p_fingerprint);
    end if;
  end if;
  insert into joined_submissions (id, task_id, namespace, idempotency_key) values (p_submission, p_task, p_namespace, p_key);
  return null;
end $$;

-- What an idempotency key gave before; nothing when there is none, or none that is remembered.
create function ledger.submission_known(p_ordinal int, p_namespace text, p_key text, p_fingerprint text) returns ledger.task_answer
language sql stable as $$
  select (p_ordinal, 'existing', k.resource_id, t.status, t.waiting_for, coalesce(t.created_at, k.created_at),
    k.fingerprint = decode(p_fingerprint, 'hex'), t.name, t.type, t.agent_id, null, null)::ledger.task_answer
  from idempotency_keys k left join tasks t on t.id = any (array[k.resource_id])
  where k.namespace = p_namespace and k.key = p_key and k.created_at >= now() - interval '72 hours'
$$;

-- Records that submissions joined a task: its new payload and time, and one event for all of one call.
create function ledger.task_joined(p_task uuid, p_keep text, p_count int, p_total int, p_payload text, p_run_at timestamptz, p_actor text)
returns json
language plpgsql as $$
declare
  v_change json;
begin
  with changed as (
    update tasks t set run_at = p_run_at, version = t.version + 1,
      payload = case when p_keep = 'latest' then p_payload::json else t.payload end
    where t.id = p_task
    returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt,
      json_build_object('keep', p_keep, 'joined', p_count, 'submissions', p_total,
        'run_at', to_char(p_run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) as data
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskUpdated', namespace, attempt, p_actor, trace, data from changed
  )
  select json_build_object('id', id, 'namespace', namespace, 'number', version, 'event', 'TaskUpdated', 'at', now(), 'status', status,
    'agent_id', agent_id, 'trace', trace, 'data', data, 'actor', p_actor)
  into v_change from changed;
  return v_change;
end $$;

-- Accepts tasks of which some have a key that no other live task may have; `p_rows` are rows of `task_accept`. A key that was taken by a row that
-- is then refused goes to the next one that wants it: hence the rounds.
create function ledger.task_accept_unique(p_rows json, p_dependencies json) returns setof ledger.task_answer
language plpgsql set enable_seqscan = off as $$
declare
  v_left int[];
  v_ready int[];
  v_held ledger.task_answer[];
  v_joined ledger.task_answer;
  v_answers ledger.task_answer[];
  v_row record;
  v_rounds int := 0;
begin
  select array_agg(n.o) into v_left from json_to_recordset(p_rows) as n (o int);
  perform pg_advisory_xact_lock(s.share) from (
    select distinct ledger.key_share('unique', n.namespace, n.unique_key) as share
    from json_to_recordset(p_rows) as n (namespace text, unique_key text) where n.unique_key is not null order by 1
  ) s;
  while cardinality(v_left) > 0 loop
    v_rounds := v_rounds + 1;
    insert into unique_keys (namespace, key, task_id)
    select distinct on (n.namespace, n.unique_key) n.namespace, n.unique_key, n.id
    from json_to_recordset(p_rows) as n (o int, id uuid, namespace text, unique_key text)
    where n.o = any (v_left) and n.unique_key is not null
      -- Stored by an unknown commit: it has its key, or has ended since.
      and not exists (select from tasks t where t.id = n.id offset 0)
    order by n.namespace, n.unique_key, n.o
    on conflict do nothing;

    v_held := '{}';
    v_ready := '{}';
    for v_row in
      select n.*, u.task_id as holder, h.id as living,
        exists (select from tasks t where t.id = n.id offset 0) as stored,
        n.key is not null and exists (
          select from idempotency_keys k
          where k.namespace = n.namespace and k.key = n.key and k.created_at >= now() - interval '72 hours' offset 0
        ) as known
      from json_to_recordset(p_rows) as n (o int, id uuid, namespace text, unique_key text, key text, fingerprint text, refuse boolean)
        left join lateral (
          select x.task_id from unique_keys x where x.namespace = n.namespace and x.key = n.unique_key offset 0
        ) u on true
        left join lateral (select t.id from tasks t where t.id = u.task_id offset 0) h on true
      where n.o = any (v_left) order by n.o
    loop
      if v_row.unique_key is null or v_row.stored or v_row.known or v_row.holder = v_row.id then
        v_ready := v_ready || v_row.o;
      elsif v_row.living is not null or v_rounds > 1000 then
        if v_row.refuse is null and v_row.key is not null then
          v_joined := ledger.submission_joins(v_row.o, v_row.id, v_row.namespace, v_row.key, v_row.fingerprint, v_row.holder);
        else
          v_joined := null;
        end if;
        if v_joined.outcome is null then
          v_joined := ledger.task_answer_with(v_row.o, 'held', v_row.holder);
        end if;
        v_held := v_held || v_joined;
      end if;
    end loop;

    v_answers := '{}';
    if cardinality(v_ready) > 0 then
      select array_agg((a.ordinal, a.outcome, a.id, a.status, a.waiting_for, a.at, a.same, a.name, a.type, a.agent_id, null, null)::ledger.task_answer)
      into v_answers
      from ledger.task_accept(ledger.rows_among(p_rows, v_ready), p_dependencies, null, false) as a;
      -- Whoever was not accepted has no key, nor has one that an unknown commit stored and that has ended since.
      delete from unique_keys u
      using json_to_recordset(p_rows) as n (o int, id uuid, namespace text, unique_key text)
        cross join lateral unnest(v_answers) as a
      where n.o = any (v_ready) and u.namespace = n.namespace and u.key = n.unique_key and u.task_id = n.id and a.ordinal = n.o
        and (a.outcome <> 'accepted' or a.status in ('completed', 'failed', 'timeout', 'cancelled'));
    end if;
    return query select * from unnest(v_answers);
    return query select * from unnest(v_held);
    select coalesce(array_agg(l), '{}') into v_left from unnest(v_left) as l
    where not l = any (v_ready) and not exists (select from unnest(v_held) as h where h.ordinal = l);
  end loop;
end $$;

-- Those of these rows, with their text as it was.
create function ledger.rows_among(p_rows json, p_ordinals int[]) returns json
language sql immutable as $$
  select coalesce('[' || string_agg(r.value::text, ',') || ']', '[]')::json
  from json_array_elements(p_rows) as r (value) where (r.value ->> 'o')::int = any (p_ordinals)
$$;

-- Accepts submissions that coalesce by a key: the first makes a task that waits, those after it join that task for as long
-- as it does. One whose payload does not fit any more lets it start and begins the next.
create function ledger.task_accept_coalescing(p_rows json, p_bytes_max int) returns setof ledger.task_answer
language plpgsql set enable_seqscan = off as $$
declare
  v_left int[];
  v_row record;
  v_window coalescing;
  v_task record;
  v_joining coalescing;
  v_count int := 0;
  v_payload text;
  v_run_at timestamptz;
  v_actor text;
  v_answer ledger.task_answer;
  v_full boolean;
  v_rounds int := 0;
begin
  select array_agg(n.o) into v_left from json_to_recordset(p_rows) as n (o int);
  -- Without it, eight at once on two keys under which tasks start met deadlocks, a second each.
  perform pg_advisory_xact_lock(s.share) from (
    select distinct ledger.key_share('coalesce', n.namespace, n.coalesce_key) as share
    from json_to_recordset(p_rows) as n (namespace text, coalesce_key text) order by 1
  ) s;
  while cardinality(v_left) > 0 loop
    v_rounds := v_rounds + 1;
    if v_rounds > 100 then
      raise exception 'other submissions of the same keys were always faster' using errcode = 'serialization_failure';
    end if;
    -- Keys before tasks: see above.
    insert into coalescing (namespace, key, task_id, type, agent_id, keep, closes_at, submissions, items_max)
    select distinct on (n.namespace, n.coalesce_key) n.namespace, n.coalesce_key, n.id, n.type, c.agent, c.keep,
      clock_timestamp() + c.max_wait * interval '1 millisecond', 1, c.items_max
    from json_to_recordset(p_rows) as n (o int, id uuid, namespace text, coalesce_key text, type text, joins json)
      cross join lateral json_to_record(n.joins) as c (agent uuid, keep text, max_wait bigint, items_max int)
    where n.o = any (v_left)
      and not exists (select from tasks t where t.id = n.id offset 0)
      and not exists (select from joined_submissions j where j.id = n.id offset 0)
    order by n.namespace, n.coalesce_key, n.o
    on conflict do nothing;
    -- From here on none of these tasks starts before this has committed.
    perform 1 from tasks t
    where t.id = any (array(
      select c.task_id from json_to_recordset(p_rows) as n (o int, namespace text, coalesce_key text) cross join lateral (
        select x.task_id from coalescing x where x.namespace = n.namespace and x.key = n.coalesce_key offset 0
      ) c
      where n.o = any (v_left)
    ))
    order by t.id for no key update;

    for v_row in
      select n.*, c.*, r.value::text as text, coalesce(n.item, 'null')::text as item_text
      from json_array_elements(p_rows) as r (value)
        cross join lateral json_to_record(r.value) as n (
          o int, id uuid, namespace text, coalesce_key text, type text, key text, fingerprint text, actor text, payload json, item json, joins json)
        cross join lateral json_to_record(n.joins) as c (agent uuid, keep text, quiet bigint, max_wait bigint, items_max int)
      where n.o = any (v_left) order by n.namespace, n.coalesce_key, n.o
    loop
      if v_count > 0 and (v_joining.namespace, v_joining.key) is distinct from (v_row.namespace, v_row.coalesce_key) then
        return next ledger.task_joined_answer(v_joining, v_count, v_payload, v_run_at, v_actor);
        v_count := 0;
      end if;
      select * into v_window from coalescing c where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
      if v_window.task_id <> v_row.id then
        -- Another one's key may have changed hands before its task was locked: it is looked at again under the lock.
        perform 1 from tasks t where t.id = v_window.task_id for no key update;
        select * into v_window from coalescing c where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
      end if;

      -- Answered by an unknown commit, or to an earlier submission with its idempotency key.
      v_answer := coalesce(
        (select ledger.task_answer_with(v_row.o, 'accepted', t.id) from tasks t where t.id = v_row.id),
        (select ledger.task_answer_with(v_row.o, 'coalesced', j.task_id) from joined_submissions j where j.id = v_row.id),
        ledger.submission_known(v_row.o, v_row.namespace, v_row.key, v_row.fingerprint));
      if v_answer.outcome is not null then
        if v_window.task_id = v_row.id and v_answer.outcome <> 'accepted' then
          delete from coalescing c where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
        end if;
        return next v_answer;
        v_left := array_remove(v_left, v_row.o);
        continue;
      end if;

      if v_window.task_id <> v_row.id then
        select t.id, t.waiting_for into v_task from tasks t where t.id = v_window.task_id for no key update;
        -- It changed hands once more: the next round locks it first.
        continue when v_task.id is null or v_task.waiting_for is distinct from 'time';
        v_answer := ledger.task_answer_with(v_row.o, 'unlike', v_window.task_id);
        v_answer.field := case
          when v_window.type <> v_row.type then 'type'
          when v_window.agent_id is distinct from v_row.agent then 'agent'
          when v_window.keep <> v_row.keep then 'coalesce.keep' end;
        if v_answer.field is not null then
          return next v_answer;
          v_left := array_remove(v_left, v_row.o);
          continue;
        end if;
        if v_row.keep = 'latest' or v_window.bytes + octet_length(v_row.item_text) + 1 <= p_bytes_max then
          v_answer := ledger.submission_joins(v_row.o, v_row.id, v_row.namespace, v_row.key, v_row.fingerprint, v_window.task_id);
          if v_answer.outcome is null then
            v_answer := ledger.task_answer_with(v_row.o, 'coalesced', v_window.task_id);
            v_window.submissions := v_window.submissions + 1;
            v_full := v_row.keep = 'all' and v_window.submissions >= v_window.items_max;
            v_run_at := case when v_full then clock_timestamp()
              else least(clock_timestamp() + v_row.quiet * interval '1 millisecond', v_window.closes_at) end;
            v_payload := v_row.payload::text;
            v_actor := v_row.actor;
            if v_row.keep = 'all' then
              insert into coalesced_items (task_id, number, payload)
              values (v_window.task_id, v_window.submissions, v_row.item_text::json);
              v_window.bytes := v_window.bytes + octet_length(v_row.item_text) + 1;
            end if;
            v_joining := v_window;
            v_count := v_count + 1;
            if v_full then
              delete from coalescing c where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
              return next ledger.task_joined_answer(v_joining, v_count, v_payload, v_run_at, v_actor);
              v_count := 0;
            else
              update coalescing c set submissions = v_window.submissions, bytes = v_window.bytes
              where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
            end if;
          end if;
          return next v_answer;
          v_left := array_remove(v_left, v_row.o);
          continue;
        end if;
        -- No room: it starts with what it has, and another one begins.
        delete from coalescing c where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
        return next ledger.task_joined_answer(v_window, v_count, v_payload, clock_timestamp(), v_row.actor);
        v_count := 0;
        v_window := null;
      end if;

      if v_window.task_id is null then
        insert into coalescing (namespace, key, task_id, type, agent_id, keep, closes_at, submissions, items_max)
        values (v_row.namespace, v_row.coalesce_key, v_row.id, v_row.type, v_row.agent, v_row.keep,
          clock_timestamp() + v_row.max_wait * interval '1 millisecond', 1, v_row.items_max)
        on conflict do nothing returning * into v_window;
        -- Somebody else was faster: the next round joins theirs.
        continue when not found;
      end if;
      v_run_at := least(clock_timestamp() + v_row.quiet * interval '1 millisecond', v_window.closes_at);
      v_answer := (
        select (a.ordinal, a.outcome, a.id, a.status, a.waiting_for, a.at, a.same, a.name, a.type, a.agent_id, null, null)::ledger.task_answer
        -- The row as it came, with the time that the task waits for: its payload stays the text that it was.
        from ledger.task_accept(('[' || left(v_row.text, -1) || ',"run_at":' || to_json(v_run_at)::text || '}]')::json, '[]', null, false) as a);
      if v_answer.outcome is distinct from 'accepted' then
        delete from coalescing c where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
      elsif v_row.keep = 'all' then
        insert into coalesced_items (task_id, number, payload) values (v_row.id, 1, v_row.item_text::json);
        update coalescing c set bytes = octet_length(v_row.item_text) + 2
        where c.namespace = v_row.namespace and c.key = v_row.coalesce_key;
      end if;
      return next v_answer;
      v_left := array_remove(v_left, v_row.o);
    end loop;
    if v_count > 0 then
      return next ledger.task_joined_answer(v_joining, v_count, v_payload, v_run_at, v_actor);
      v_count := 0;
    end if;
  end loop;
end $$;

-- What joined a task, written down; the answer carries its event and is for nobody's row.
create function ledger.task_joined_answer(p_window coalescing, p_count int, p_payload text, p_run_at timestamptz, p_actor text)
returns ledger.task_answer
language sql as $$
  select (-2, 'changed', p_window.task_id, null, null, now(), null, null, null, null, null,
    ledger.task_joined(p_window.task_id, p_window.keep, p_count, p_window.submissions, p_payload, p_run_at, p_actor))::ledger.task_answer
$$;

-- Accepts tasks as `task_accept` does, of which some have a condition. With `p_atomic` what was done is taken back when one
-- is refused; the answers then are of those at fault. Outcomes beside those of `task_accept`: held (`id` is the live task that has the key),
-- coalesced (`id` is the task that waits), unlike (it waits for something else: `field`), changed (an event, of no row).
create function ledger.task_accept_conditional(p_tasks json, p_dependencies json, p_graph json, p_atomic boolean, p_bytes_max int)
returns setof ledger.task_answer
language plpgsql set enable_seqscan = off as $$
declare
  v_joining int[];
  v_others int[];
  v_answers ledger.task_answer[] := '{}';
  v_refused int[];
begin
  begin
    select array_agg(n.o) filter (where n.joins is not null), array_agg(n.o) filter (where n.joins is null)
    into v_joining, v_others from json_to_recordset(p_tasks) as n (o int, joins json);
    if p_graph is not null then
      v_answers := array(
        select (a.ordinal, a.outcome, a.id, a.status, a.waiting_for, a.at, a.same, a.name, a.type, a.agent_id, null, null)::ledger.task_answer
        from ledger.task_accept(p_tasks, p_dependencies, p_graph, true) as a);
    else
      if v_others is not null then
        v_answers := array(select a from ledger.task_accept_unique(
          case when v_joining is null then p_tasks else ledger.rows_among(p_tasks, v_others) end, p_dependencies) as a);
      end if;
      if v_joining is not null then
        v_answers := v_answers || array(select a from ledger.task_accept_coalescing(
          case when v_others is null then p_tasks else ledger.rows_among(p_tasks, v_joining) end, p_bytes_max) as a);
      end if;
      if p_atomic then
        select array_agg(a.ordinal) into v_refused
        from unnest(v_answers) as a join json_to_recordset(p_tasks) as n (o int, refuse boolean) on n.o = a.ordinal
        where case a.outcome when 'accepted' then false when 'coalesced' then false when 'existing' then not a.same
          when 'held' then n.refuse is true else true end;
        if v_refused is not null then
          raise exception 'undone' using errcode = 'DMUND';
        end if;
      end if;
    end if;
    insert into start_deadlines (task_id, at, timeout_ms)
    select n.id, greatest(now(), t.run_at) + n.queue_timeout * interval '1 millisecond', n.queue_timeout
    from json_to_recordset(p_tasks) as n (o int, id uuid, queue_timeout bigint)
      join unnest(v_answers) as a on a.ordinal = n.o
      cross join lateral (select x.run_at from tasks x where x.id = n.id and x.completed_at is null offset 0) t
    where n.queue_timeout is not null and a.outcome = 'accepted'
    on conflict do nothing;
  exception when sqlstate 'DMUND' then
    v_answers := array(
      select a from unnest(v_answers) as a where a.ordinal = any (v_refused) or a.outcome = 'existing');
  end;
  return query select * from unnest(v_answers);
end $$;

-- Tasks that did not start in time end as timeout. The time counts from when a task had nothing to wait for but an agent, a
-- limit or its turn: after its dependencies, its `run_at`, or a pause. One that still waits for those is looked at again before it can be
-- late; one that has started or ended is not looked at any more.
create function ledger.tasks_start_expire(p_limit int, p_node text) returns setof ledger.task_change
language plpgsql set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_changed ledger.task_change[];
  v_ended uuid[];
  v_late uuid[];
begin
  with due as (
    select s.task_id, s.timeout_ms from start_deadlines s where s.at <= now()
    order by s.at limit p_limit for update skip locked
  ), seen as (
    select d.task_id, d.timeout_ms, t.id, t.status, t.waiting_for, t.started_at, t.created_at,
      exists (select from tasks x where x.id = d.task_id offset 0) as stored
    from due d left join lateral (
      -- One that is being claimed is left for the next look.
      select * from tasks x where x.id = d.task_id for no key update skip locked
    ) t on true
  ), judged as (
    select s.*, case
        when s.id is null or s.started_at is not null or s.status in ('completed', 'failed', 'timeout', 'cancelled') then null
        when s.status = 'paused' or s.waiting_for::text in ('dependencies', 'time') then now()
        else coalesce((
          select min(e.at) from events e
          where e.aggregate = s.id and e.type in ('TaskCreated', 'TaskQueued', 'TaskResumed') and e.number > coalesce((
            select max(w.number) from events w
            where w.aggregate = s.id and case
              when w.type = 'TaskPaused' then true
              when w.type in ('TaskCreated', 'TaskQueued', 'TaskResumed') then w.data ->> 'waiting_for' in ('dependencies', 'time') end
          ), 0)
        ), s.created_at) end + s.timeout_ms * interval '1 millisecond' as at
    from seen s
  ), gone as (
    delete from start_deadlines d using judged j
    where d.task_id = j.task_id and (j.id is not null or not j.stored) and (j.at is null or j.at <= now())
  ), later as (
    update start_deadlines d set at = j.at from judged j where d.task_id = j.task_id and j.at > now()
  )
  select array_agg(j.id order by j.id) into v_late from judged j where j.at <= now();
  if v_late is null then return; end if;
  with changed as (
    update tasks t set status = 'timeout', waiting_for = null, completed_at = now(), version = t.version + 1,
      result = json_build_object('success', false, 'error', json_build_object(
        'code', 'queue_timeout', 'message', 'it was not started in time'))
    where t.id = any (v_late)
    returning t.id, t.namespace, t.version, t.agent_id, t.trace, t.attempt, t.has_dependents, t.result
  ), facts as (select *, json_build_object('error', result -> 'error') as data from changed),
  recorded as (
    insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace, data)
    select id, version, 'task', 'TaskTimedOut', namespace, attempt, p_node, trace, data from facts
  ), tallied as (
    insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
    select agent_id, 0, 0, count(*), 0, 0, 0, 0 from changed where agent_id is not null group by agent_id
  )
  select array_agg((id, namespace, version, 'TaskTimedOut', now(), 'timeout', null, trace, data)::ledger.task_change),
    array_agg(id) filter (where has_dependents)
  into v_changed, v_ended from facts;
  return query select c.* from unnest(v_changed) as c;
  if v_ended is not null then return query select * from ledger.dependencies_resolve(v_ended); end if;
end $$;

-- Forgets submissions whose idempotency keys are forgotten too: none can be asked for again.
create function ledger.joined_submissions_tidy(p_limit int) returns int
language sql set enable_seqscan = off as $$
  with gone as (
    delete from joined_submissions where id = any (array(
      select j.id from joined_submissions j
      where j.id < (lpad(to_hex((extract(epoch from now() - interval '73 hours') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
      order by j.id limit p_limit))
    returning 1
  )
  select count(*)::int from gone
$$;

-- What goes with deleted tasks: the submissions that they answered, with their idempotency keys.
create function ledger.joined_submissions_forget(p_tasks uuid[]) returns void
language plpgsql set enable_seqscan = off as $$
begin
  perform 1 from tasks t where t.id = any (p_tasks) and (t.unique_key is not null or t.coalesce_key is not null) limit 1;
  if not found then return; end if;
  with gone as (delete from joined_submissions where task_id = any (p_tasks) returning *)
  delete from idempotency_keys k using gone g
  where g.idempotency_key is not null and k.namespace = any (array[g.namespace]) and k.key = g.idempotency_key and k.resource_id = g.task_id;
end $$;
