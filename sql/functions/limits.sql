-- Limits by key: who may start, and in which order. Everything here that takes or gives back does so under the advisory lock of
-- the namespace and nothing else waits for that one: an accept that does not get it at once leaves its tasks to admission.

create function ledger.limits_lock(p_namespace text) returns bigint
language sql immutable as $$ select hashtextextended('datamcp limits ' || p_namespace, 0) $$;

-- How many more tasks a key's value takes at a moment, and its tokens then. A limit that is gone allows everything.
create function ledger.limits_room(p_limit uuid, p_key text, p_now timestamptz, out room int, out tokens double precision)
language sql stable as $$
  select
    case
      when l.id is null then 1000000
      when l.rate_limit is not null then floor(b.tokens + 1e-6)::int
      when l.concurrency is not null then greatest(l.concurrency - coalesce(k.taken, 0), 0)
      -- Twice what the agent runs at a time: its instances are never idle, and what is in front of them is short.
      else greatest(2 * a.desired_instances * coalesce((a.configuration ->> 'max_concurrent_tasks')::int, 10) - coalesce(k.taken, 0), 0)
    end,
    b.tokens
  from (select p_limit as id) w
    left join limits l on l.id = any (array[w.id])
    left join limit_keys k on k.limit_id = any (array[w.id]) and k.key = p_key
    left join agents a on a.id = any (array[l.agent_id])
    cross join lateral (
      select case when l.rate_limit is not null then least(
        l.rate_burst,
        coalesce(k.tokens, l.rate_burst)
          + greatest(extract(epoch from p_now - k.tokens_at) * 1000, 0) * l.rate_limit / l.rate_window_ms
      ) end as tokens
    ) b
$$;

-- Groups of a key that wait, in the order of their turns: those after the last one served, then from the first again.
create function ledger.limits_groups(p_limit uuid, p_key text, p_served text, p_count int) returns table (fair text, turn bigint)
language sql stable as $$
  with recursive later as (
    (select w.fair, 1 as number from task_limits w
     where w.waits and w.limit_id = p_limit and w.key = p_key and w.fair > p_served order by w.fair limit 1)
    union all
    select n.fair, g.number + 1 from later g cross join lateral (
      select w.fair from task_limits w
      where w.waits and w.limit_id = p_limit and w.key = p_key and w.fair > g.fair order by w.fair limit 1
    ) n where g.number < p_count
  ), earlier as (
    (select w.fair, 1 as number from task_limits w
     where w.waits and w.limit_id = p_limit and w.key = p_key and w.fair <= p_served order by w.fair limit 1)
    union all
    select n.fair, g.number + 1 from earlier g cross join lateral (
      select w.fair from task_limits w
      where w.waits and w.limit_id = p_limit and w.key = p_key and w.fair > g.fair and w.fair <= p_served order by w.fair limit 1
    ) n where g.number < p_count
  )
  select o.fair, row_number() over (order by o.part, o.fair) from (
    select l.fair, 1 as part from later l union all select e.fair, 2 from earlier e
  ) o order by 2 limit p_count
$$;

-- Gives back what ended tasks held, [{l, k}] of each with its namespace: what the trigger on tasks does, for many at once.
create function ledger.limits_leave(p_namespaces text[], p_held json[]) returns void
language sql as $$
  insert into limit_marks (namespace, limit_id, key, freed)
  select a.namespace, h.l, h.k, sum(a.count)
  from (
    -- Many hold the same: it is read once.
    select u.namespace, u.held::text as held, count(*) from unnest(p_namespaces, p_held) as u (namespace, held) group by 1, 2
  ) a cross join lateral json_to_recordset(a.held::json) as h (l uuid, k text)
  group by a.namespace, h.l, h.k
$$;

-- Looks at what was marked in a namespace: gives back what ended, and queues tasks that wait, as many as there is room for, at
-- most `p_limit`. Groups of a key take turns; within a group critical comes first, then the oldest. `due_ms`: when a token comes
-- for somebody who waits. `more`: there is something left to look at.
--
-- A task has room when each of its keys has. One that finds another of its keys full moves into that one's queue, so that the
-- same tasks are not looked at again before something changes for them.
create function ledger.limits_admit(p_namespace text, p_limit int, p_node text, out changes json, out due_ms double precision, out more boolean)
language plpgsql set enable_seqscan = off as $$
declare
  v_now timestamptz;
  v_limits uuid[];
  v_keys text[];
  v_tasks uuid[];
  v_admitted uuid[];
  v_held json[];
  v_moved uuid[];
  v_changed ledger.task_change[];
  v_changes ledger.task_change[] := '{}';
  v_left int := p_limit;
  v_locked int;
  v_unfinished boolean := false;
begin
  perform pg_advisory_xact_lock(ledger.limits_lock(p_namespace));
  v_now := clock_timestamp();

  with seen as (
    delete from limit_marks m where m.namespace = p_namespace and m.id = any (array(
      select x.id from limit_marks x where x.namespace = p_namespace order by x.id limit 4 * p_limit))
    returning m.limit_id, m.key, m.freed
  ), marked as (
    select limit_id, key, sum(freed)::int as freed from seen group by limit_id, key
  ), given_back as (
    update limit_keys k set taken = k.taken - m.freed from marked m
    where k.limit_id = any (array[m.limit_id]) and k.key = m.key and m.freed > 0
  ), due as (
    select k.limit_id, k.key from limit_keys k where k.namespace = p_namespace and k.due_at <= v_now
    order by k.due_at limit p_limit
  )
  -- Where nobody waits there is nothing more to do: the usual case, and admission is in the way of accepts for as long as it looks.
  select array_agg(w.limit_id), array_agg(w.key) into v_limits, v_keys
  from (select limit_id, key from marked union select limit_id, key from due) w
  where exists (select from task_limits x where x.waits and x.limit_id = w.limit_id and x.key = w.key offset 0)
    or exists (select from limit_keys k where k.limit_id = any (array[w.limit_id]) and k.key = w.key and k.due_at is not null offset 0);

  -- A round takes from the queues of these keys what their own room allows; another, what that left room for.
  for round in 1..20 loop
    exit when v_limits is null or v_left <= 0;
    v_unfinished := false;
    with work as (
      select w.limit_id, w.key, coalesce(k.served, '') as served, least(r.room, v_left) as room
      from unnest(v_limits, v_keys) as w (limit_id, key)
        left join limit_keys k on k.limit_id = any (array[w.limit_id]) and k.key = w.key
        cross join lateral ledger.limits_room(w.limit_id, w.key, v_now) r
      where r.room > 0
    ), groups as (
      select w.*, g.fair, g.turn, count(*) over (partition by w.limit_id, w.key) as among
      from work w cross join lateral ledger.limits_groups(w.limit_id, w.key, w.served, w.room) g
    ), candidates as (
      select g.limit_id, g.key, g.room, g.fair, c.task_id,
        row_number() over (partition by g.limit_id, g.key order by c.place, g.turn) as place
      from groups g cross join lateral (
        select q.task_id, row_number() over (order by q.lane, q.task_id) as place from (
          select x.task_id, x.lane from task_limits x
          where x.waits and x.limit_id = g.limit_id and x.key = g.key and x.fair = g.fair
          order by x.lane, x.task_id limit (g.room + g.among - 1) / g.among
        ) q
      ) c
    ), chosen as (
      select * from candidates c where c.place <= c.room order by c.place, c.limit_id, c.key limit v_left
    ), turned as (
      -- Who was looked at has had its turn.
      insert into limit_keys as k (limit_id, key, namespace, served)
      select distinct on (c.limit_id, c.key) c.limit_id, c.key, p_namespace, c.fair from chosen c
      order by c.limit_id, c.key, c.place desc
      on conflict (limit_id, key) do update set served = excluded.served
    )
    select array_agg(c.task_id order by c.place, c.limit_id, c.key) into v_tasks from chosen c;
    exit when v_tasks is null;

    with locked as (
      select t.id, c.place
      from unnest(v_tasks) with ordinality as c (id, place) cross join lateral (
        select x.id from tasks x where x.id = c.id and x.status::text = 'pending' and x.waiting_for::text = 'capacity'
        for no key update skip locked
      ) t
    ), wanted as (
      select l.id, l.place, e.limit_id, e.key, e.waits
      from locked l cross join lateral (select * from task_limits e where e.task_id = l.id offset 0) e
    ), rooms as (
      select k.limit_id, k.key, r.room, r.tokens
      from (select distinct limit_id, key from wanted) k cross join lateral ledger.limits_room(k.limit_id, k.key, v_now) r
    ), ranked as (
      select w.*, r.room, row_number() over (partition by w.limit_id, w.key order by w.place) as rank
      from wanted w join rooms r on r.limit_id = w.limit_id and r.key = w.key
    ), verdicts as (
      select r.id, bool_and(r.rank <= r.room) as fits,
        (array_agg(r.limit_id order by r.limit_id) filter (where r.room <= 0))[1] as full_limit
      from ranked r group by r.id
    ), held as (
      delete from task_limits e using verdicts v where v.fits and e.task_id = any (array[v.id])
      returning e.limit_id, e.key, e.fair, e.task_id
    ), holding as (
      select h.task_id, json_agg(json_build_object('l', h.limit_id, 'k', h.key, 'f', h.fair) order by h.limit_id) as limits
      from held h group by h.task_id
    ), taken as (
      insert into limit_keys as k (limit_id, key, namespace, taken, tokens, tokens_at)
      select h.limit_id, h.key, p_namespace, count(*), min(r.tokens) - count(*), v_now
      from held h join rooms r on r.limit_id = h.limit_id and r.key = h.key
      group by h.limit_id, h.key
      on conflict (limit_id, key) do update set taken = k.taken + excluded.taken, tokens = excluded.tokens,
        tokens_at = greatest(k.tokens_at, excluded.tokens_at)
    ), moved as (
      update task_limits e set waits = e.limit_id = v.full_limit from verdicts v
      where not v.fits and v.full_limit is not null and e.task_id = any (array[v.id]) and e.waits <> (e.limit_id = v.full_limit)
      returning e.task_id, e.limit_id, e.key, e.waits
    )
    select (select count(*) from locked), (select array_agg(h.task_id order by h.task_id) from holding h),
      (select array_agg(h.limits order by h.task_id) from holding h),
      (select array_agg(m.task_id) from moved m),
      v_limits || coalesce((select array_agg(r.limit_id) from rooms r where not exists (
        select from unnest(v_limits, v_keys) o (l, k) where o.l = r.limit_id and o.k = r.key)), '{}'),
      v_keys || coalesce((select array_agg(r.key) from rooms r where not exists (
        select from unnest(v_limits, v_keys) o (l, k) where o.l = r.limit_id and o.k = r.key)), '{}')
    into v_locked, v_admitted, v_held, v_moved, v_limits, v_keys;
    -- Somebody else is at work on the others: perhaps only for a moment.
    v_unfinished := v_locked < cardinality(v_tasks);
    exit when v_admitted is null and v_moved is null;
    v_unfinished := true;

    with changed as (
      update tasks t set status = 'queued', waiting_for = null, queued_at = now(), held_limits = a.held, version = t.version + 1
      from unnest(v_admitted, v_held) as a (id, held) where t.id = any (array[a.id])
      returning t.id, t.namespace, t.version, t.status, t.agent_id, t.trace, t.attempt
    ), recorded as (
      insert into events (aggregate, number, kind, type, namespace, attempt, actor, trace)
      select id, version, 'task', 'TaskQueued', namespace, attempt, p_node, trace from changed
    )
    select array_agg((id, namespace, version, 'TaskQueued', now(), status, agent_id, trace, null)::ledger.task_change order by id)
    into v_changed from changed;
    v_changes := v_changes || coalesce(v_changed, '{}');
    v_left := v_left - coalesce(cardinality(v_admitted), 0);
  end loop;

  if v_limits is not null then
    insert into limit_keys (limit_id, key, namespace)
    select w.limit_id, w.key, p_namespace from unnest(v_limits, v_keys) as w (limit_id, key)
    where exists (select from task_limits x where x.waits and x.limit_id = w.limit_id and x.key = w.key offset 0)
    on conflict (limit_id, key) do nothing;
    -- Where a bucket is empty and somebody waits, there is a time to look again.
    update limit_keys k set due_at = w.due_at
    from (
      select w.limit_id, w.key, case when l.rate_limit is not null and r.room < 1 and exists (
          select from task_limits x where x.waits and x.limit_id = w.limit_id and x.key = w.key offset 0)
        then v_now + ceil((1 - r.tokens) * l.rate_window_ms / l.rate_limit) * interval '1 millisecond' end as due_at
      from unnest(v_limits, v_keys) as w (limit_id, key)
        left join limits l on l.id = any (array[w.limit_id])
        cross join lateral ledger.limits_room(w.limit_id, w.key, v_now) r
    ) w
    where k.limit_id = any (array[w.limit_id]) and k.key = w.key and k.due_at is distinct from w.due_at;
    -- Where there is room and somebody waits, this was too much for one transaction.
    insert into limit_marks (namespace, limit_id, key, freed)
    select p_namespace, w.limit_id, w.key, 0
    from unnest(v_limits, v_keys) as w (limit_id, key) cross join lateral ledger.limits_room(w.limit_id, w.key, v_now) r
    where v_unfinished and r.room > 0
      and exists (select from task_limits x where x.waits and x.limit_id = w.limit_id and x.key = w.key offset 0);
  end if;
  -- Nobody is told of a look that changed no task: what a crash takes back of it, the next one does again.
  if cardinality(v_changes) = 0 then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  changes := coalesce(array_to_json(v_changes), '[]');
  more := exists (select from limit_marks m where m.namespace = p_namespace);
  select extract(epoch from min(k.due_at) - clock_timestamp()) * 1000 into due_ms
  from limit_keys k where k.namespace = p_namespace and k.due_at is not null;
end $$;

-- Enters the limits of new tasks that are stored as pending; those that wait for capacity get into a queue. Rows of `p_tasks`
-- as `task_accept` takes them, with `limits` [{l, k, f}].
create function ledger.limits_enter(p_tasks json, p_new uuid[]) returns void
language sql set enable_seqscan = off as $$
  with entered as (
    insert into task_limits (task_id, limit_id, key, namespace, fair, lane, waits)
    select n.id, e.l, e.k, n.namespace, e.f, n.lane, t.waiting_for::text is not distinct from 'capacity' and e.place = 1
    from json_to_recordset(p_tasks) as n (id uuid, namespace text, lane task_lane, limits json)
      join unnest(p_new) as w (id) on w.id = n.id
      join tasks t on t.id = any (array[n.id])
      cross join lateral rows from (json_to_recordset(n.limits) as (l uuid, k text, f text)) with ordinality as e (l, k, f, place)
    where n.limits is not null
    returning namespace, limit_id, key, waits
  )
  insert into limit_marks (namespace, limit_id, key, freed) select distinct namespace, limit_id, key, 0 from entered where waits
$$;

-- Accepts tasks as `task_accept_simple` does, of which some have limits. Where nobody waits before them and there is room, they
-- are queued at once; the others wait for capacity. A row that is there already refuses the call.
-- `p_wanted` {n, l, k, c}: how many of them want each key of a namespace at once, those with an agent and without a time.
-- Where all of that has room, which is usual, no task is looked at by itself.
create function ledger.task_accept_limited(p_tasks json, p_wanted json)
returns table (id uuid, status task_status, waiting_for task_wait, at timestamptz)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_patience text := current_setting('lock_timeout');
  v_namespace text;
  v_namespaces text[];
  v_all boolean := true;
  v_admitted uuid[];
begin
  -- Admission and accepts of others are short. A task that does not wait for them costs a row, an update and an event more.
  perform set_config('lock_timeout', '100ms', true);
  for v_namespace in select distinct w.n from json_to_recordset(p_wanted) as w (n text) order by 1 loop
    begin
      perform pg_advisory_xact_lock(ledger.limits_lock(v_namespace));
      v_namespaces := v_namespaces || v_namespace;
    exception when lock_not_available then v_all := false;
    end;
  end loop;
  perform set_config('lock_timeout', v_patience, true);
  if v_namespaces is null then
    v_all := false;
  else
    v_now := clock_timestamp();
    if v_all then
      with wanted as (
        select w.*, r.room, r.tokens from json_to_recordset(p_wanted) as w (n text, l uuid, k text, c int)
          cross join lateral ledger.limits_room(w.l, w.k, v_now) r
      ), fitting as (
        -- Those who wait come first.
        select w.* from wanted w
        where w.c <= w.room
          and not exists (select from task_limits x where x.waits and x.limit_id = w.l and x.key = w.k offset 0)
      ), taken as (
        insert into limit_keys as k (limit_id, key, namespace, taken, tokens, tokens_at)
        select f.l, f.k, f.n, f.c, f.tokens - f.c, v_now from fitting f
        where (select count(*) from fitting) = (select count(*) from wanted)
        order by f.l, f.k
        on conflict (limit_id, key) do update set taken = k.taken + excluded.taken, tokens = excluded.tokens,
          tokens_at = greatest(k.tokens_at, excluded.tokens_at)
      )
      select (select count(*) from fitting) = (select count(*) from wanted) into v_all;
    end if;
    if not v_all then
      with wanted as (
        select n.id, n.place, n.namespace, e.l as limit_id, e.k as key
        from rows from (json_to_recordset(p_tasks) as (id uuid, namespace text, agent_id uuid, run_at timestamptz, limits json))
            with ordinality as n (id, namespace, agent_id, run_at, limits, place)
          cross join lateral json_to_recordset(n.limits) as e (l uuid, k text)
        where n.limits is not null and n.namespace = any (v_namespaces) and n.agent_id is not null and n.run_at is null
      ), rooms as (
        -- Those who wait come first: what is left after them is given.
        select k.limit_id, k.key, r.tokens, (
            select case when count(*) < least(r.room, 2000) then r.room - count(*) else 0 end from (
              select from task_limits x where x.waits and x.limit_id = k.limit_id and x.key = k.key limit least(r.room, 2000)
            ) earlier) as room
        from (select distinct limit_id, key from wanted) k cross join lateral ledger.limits_room(k.limit_id, k.key, v_now) r
      ), ranked as (
        select w.*, r.room, row_number() over (partition by w.limit_id, w.key order by w.place) as rank
        from wanted w join rooms r on r.limit_id = w.limit_id and r.key = w.key
      ), fitting as (
        select r.id from ranked r group by r.id having bool_and(r.rank <= r.room)
      ), taken as (
        insert into limit_keys as k (limit_id, key, namespace, taken, tokens, tokens_at)
        select w.limit_id, w.key, w.namespace, count(*), min(r.tokens) - count(*), v_now
        from fitting f join wanted w on w.id = f.id join rooms r on r.limit_id = w.limit_id and r.key = w.key
        group by w.limit_id, w.key, w.namespace order by w.limit_id, w.key
        on conflict (limit_id, key) do update set taken = k.taken + excluded.taken, tokens = excluded.tokens,
          tokens_at = greatest(k.tokens_at, excluded.tokens_at)
      )
      select array_agg(f.id) into v_admitted from fitting f;
    end if;
  end if;

  return query
  with batch as (
    select n.*, case
        when n.run_at > now() then 'time'::task_wait
        when n.agent_id is null then 'agent'
        when n.limits is not null and a.id is null and (not v_all or n.run_at is not null) then 'capacity' end as waits
    from json_to_recordset(p_tasks) as n (
      id uuid, namespace text, name text, type text, description text, agent_id uuid, lane task_lane, max_attempts int,
      at_most_once boolean, payload json, configuration json, labels jsonb, metadata json, retry_of uuid,
      run_at timestamptz, deadline timestamptz, actor text, trace text, limits json
    ) left join unnest(v_admitted) as a (id) on a.id = n.id
  ), inserted as (
    insert into tasks (id, namespace, name, type, description, agent_id, status, waiting_for, lane, max_attempts,
      at_most_once, payload, configuration, labels, metadata, retry_of, run_at, deadline, actor, trace, queued_at, limited,
      held_limits, result_ttl_ms)
    select id, namespace, name, type, description, agent_id,
      case when waits is null then 'queued'::task_status else 'pending' end, waits, lane, max_attempts,
      coalesce(at_most_once, false), payload, configuration, labels, metadata, retry_of, run_at, deadline, actor, trace,
      case when waits is null then now() end, case when limits is not null then true end,
      case when waits is null then limits end, (configuration ->> 'result_ttl_ms')::bigint
    from batch
    returning tasks.id, tasks.namespace, tasks.status, tasks.waiting_for, tasks.actor, tasks.trace
  ), recorded as (
    insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
    select i.id, 1, 'task', 'TaskCreated', i.namespace, i.actor, i.trace,
      case when i.waiting_for is not null then json_build_object('waiting_for', i.waiting_for) end
    from inserted i
  ), entered as (
    insert into task_limits (task_id, limit_id, key, namespace, fair, lane, waits)
    select b.id, e.l, e.k, b.namespace, e.f, b.lane, b.waits = 'capacity' and e.place = 1
    from batch b
      cross join lateral rows from (json_to_recordset(b.limits) as (l uuid, k text, f text)) with ordinality as e (l, k, f, place)
    where b.limits is not null and b.waits is not null
    returning namespace, limit_id, key, waits
  ), marked as (
    insert into limit_marks (namespace, limit_id, key, freed) select distinct namespace, limit_id, key, 0 from entered where waits
  )
  select i.id, i.status, i.waiting_for, now() from inserted i;
end $$;

-- Marks every key of a limit at which somebody waits, after the limit has changed or gone: at most `p_count` after a key, the last of which is
-- the answer; null when these were all.
create function ledger.limits_mark(p_limit uuid, p_after text, p_count int) returns text
language sql set enable_seqscan = off as $$
  with recursive found as (
    (select w.namespace, w.key, 1 as number from task_limits w
     where w.waits and w.limit_id = p_limit and (p_after is null or w.key > p_after) order by w.key limit 1)
    union all
    select n.namespace, n.key, f.number + 1 from found f cross join lateral (
      select w.namespace, w.key from task_limits w
      where w.waits and w.limit_id = p_limit and w.key > f.key order by w.key limit 1
    ) n where f.number < p_count
  ), marked as (
    insert into limit_marks (namespace, limit_id, key, freed) select namespace, p_limit, key, 0 from found
  )
  select max(key) from found having count(*) >= p_count
$$;

-- Namespaces where admission has something to look at.
create function ledger.limits_open(p_count int) returns setof text
language sql stable set enable_seqscan = off as $$
  with recursive marked as (
    (select m.namespace from limit_marks m order by m.namespace limit 1)
    union all
    select n.namespace from marked k cross join lateral (
      select m.namespace from limit_marks m where m.namespace > k.namespace order by m.namespace limit 1
    ) n
  ), due as (
    (select k.namespace from limit_keys k where k.due_at is not null order by k.namespace limit 1)
    union all
    select n.namespace from due d cross join lateral (
      select k.namespace from limit_keys k where k.due_at is not null and k.namespace > d.namespace order by k.namespace limit 1
    ) n
  )
  select namespace from marked
  union
  select d.namespace from due d where exists (
    select from limit_keys k where k.namespace = d.namespace and k.due_at <= clock_timestamp())
  limit p_count
$$;

-- Forgets keys of which nothing is taken, no bucket is less than full, and for which nobody waits; also those of limits that are
-- gone. Only where nobody is at work.
create function ledger.limits_tidy(p_count int) returns int
language plpgsql set enable_seqscan = off as $$
declare
  v_namespace text := '';
  v_gone int;
  v_all int := 0;
begin
  loop
    select k.namespace into v_namespace from limit_keys k
    where k.taken = 0 and k.due_at is null and k.namespace > v_namespace order by k.namespace limit 1;
    exit when not found or v_all >= p_count;
    continue when not pg_try_advisory_xact_lock(ledger.limits_lock(v_namespace));
    delete from limit_keys g using (
      select k.limit_id, k.key from limit_keys k left join limits l on l.id = any (array[k.limit_id])
      where k.namespace = v_namespace and k.taken = 0 and k.due_at is null
        and (l.rate_limit is null or k.tokens_at is null
          or k.tokens_at < clock_timestamp() - l.rate_burst * l.rate_window_ms / l.rate_limit::float8 * interval '1 millisecond')
        and not exists (select from task_limits x where x.waits and x.limit_id = k.limit_id and x.key = k.key offset 0)
      limit p_count
    ) idle
    where g.limit_id = any (array[idle.limit_id]) and g.key = idle.key;
    get diagnostics v_gone = row_count;
    v_all := v_all + v_gone;
  end loop;
  return v_all;
end $$;

-- Keys whose count is not that of the tasks that hold them and what is still to be given back: always none.
create function ledger.limits_verify() returns table (limit_id uuid, key text, taken int, expected int)
language sql stable as $$
  with holders as (
    select h.l as limit_id, h.k as key, count(*) as held
    from tasks t cross join lateral json_to_recordset(t.held_limits) as h (l uuid, k text)
    where t.limited and t.status in ('queued', 'running', 'paused') group by 1, 2
  ), freed as (select m.limit_id, m.key, sum(m.freed) as freed from limit_marks m group by 1, 2)
  select coalesce(k.limit_id, h.limit_id), coalesce(k.key, h.key), coalesce(k.taken, 0), (coalesce(h.held, 0) + coalesce(f.freed, 0))::int
  from limit_keys k
    full join holders h on h.limit_id = k.limit_id and h.key = k.key
    left join freed f on f.limit_id = coalesce(k.limit_id, h.limit_id) and f.key = coalesce(k.key, h.key)
  where coalesce(k.taken, 0) <> coalesce(h.held, 0) + coalesce(f.freed, 0)
$$;
