-- Appends chunks of running attempts {o, id, name, attempt, epoch, run, sequence, bytes, chunks}: `sequence` chunks of the run
-- came before these in their stream. What of them is in already, from a commit whose answer was lost, is left out. At most
-- one append per stream. Outcomes: written, full, too_many; rows that are missing from the answer were fenced.
create function ledger.stream_append(p_appends json, p_bytes_max bigint, p_streams_max int)
returns table (o int, outcome text, first int, at timestamptz)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
begin
  -- Ends and takeovers wait for this, or this for them: no chunk comes after its attempt's end.
  perform 1 from tasks t where t.id = any (array(select a.id from json_to_recordset(p_appends) as a (id uuid)))
  order by t.id for no key update;
  return query
  with asked as (
    select a.*, json_array_length(a.chunks) as count, coalesce(s.last, 0) as base, s.task_id is not null as known,
      case when s.run = a.run then greatest(0, least(json_array_length(a.chunks), s.written - a.sequence)) else 0 end as skip
    from json_to_recordset(p_appends) as a (o int, id uuid, name text, attempt int, epoch int, run int, sequence int, bytes bigint, chunks json)
      join tasks t on t.id = any (array[a.id]) and t.status::text = 'running' and t.attempt = a.attempt and t.epoch = a.epoch
      left join task_streams s on s.task_id = any (array[a.id]) and s.name = a.name
  ), judged as (
    select a.*, case
        when a.skip = a.count then 'written'
        when u.bytes + a.bytes > p_bytes_max then 'full'
        when not a.known and u.streams >= p_streams_max then 'too_many'
        else 'written' end as outcome
    from asked a cross join lateral (
      select coalesce(sum(x.bytes), 0) as bytes, count(*) as streams from task_streams x where x.task_id = any (array[a.id]) offset 0
    ) u
  ), kept as (
    insert into task_streams as s (task_id, name, last, bytes, run, written)
    select j.id, j.name, j.count - j.skip, j.bytes, j.run, j.sequence + j.count from judged j
    where j.outcome = 'written' and j.skip < j.count
    on conflict (task_id, name) do update set last = s.last + excluded.last, bytes = s.bytes + excluded.bytes,
      run = excluded.run, written = excluded.written
  ), stored as (
    insert into stream_chunks (task_id, name, number, attempt, run, data)
    select j.id, j.name, j.base - j.skip + e.ordinality, j.attempt, j.run, e.value
    from judged j cross join lateral json_array_elements(j.chunks) with ordinality e
    where j.outcome = 'written' and e.ordinality > j.skip
  )
  select j.o, j.outcome, j.base - j.skip + 1, now() from judged j;
end $$;
