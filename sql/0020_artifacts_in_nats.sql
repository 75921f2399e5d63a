-- Bytes of artifacts may be in a bucket of NATS.
alter table artifacts drop constraint artifacts_place_check;
alter table artifacts add constraint artifacts_place_check check (place in ('postgres', 'folder', 'nats'));
