-- Definitions of agents by version: what was in force before can be looked at, brought back, and shared with a newer one.

-- The version of the agent from which its present definition is; a version counts every change, a definition few of them.
alter table agents add column definition_version int not null default 1;
-- A roll-out under way: {percent, base: {version, configuration}}. The agent's own configuration is the new one.
alter table agents add column rollout json;

-- Definitions never change. Lists and looks go by the key.
create table agent_versions (
  agent_id uuid not null references agents (id) on delete cascade,
  version int not null check (version > 0),
  definition json not null,
  -- The version that it brought back.
  restores int,
  actor text,
  created_at timestamptz not null default now(),
  primary key (agent_id, version)
);

-- What is there already begins with the definition that is in force.
update agents set definition_version = version;
insert into agent_versions (agent_id, version, definition, created_at)
select id, definition_version, json_build_object('description', description, 'capabilities', capabilities,
  'configuration', configuration, 'labels', labels, 'metadata', metadata), updated_at
from agents;

-- Ends by definition, to compare two of them. Null: of an agent's first one, or, without an attempt, from outside.
alter table agent_tallies add column version int;

-- The task whose payload or result an artifact is: it goes when that is gone. No reference: tasks go without asking.
alter table artifacts add column task_id uuid;
-- Looked through in turn for those whose task is gone; other artifacts are not in it.
create index artifacts_of_tasks on artifacts (id) where task_id is not null;

-- Where the bytes of an artifact are: in `artifact_pieces`, or in the folder that ARTIFACTS_DIR names.
alter table artifacts add column place text not null default 'postgres' check (place in ('postgres', 'folder'));

-- What this database calls itself, so that a folder of artifacts can say whose it is.
create table platform (
  id uuid not null default gen_random_uuid(),
  only_one boolean primary key default true check (only_one)
);
insert into platform default values;
