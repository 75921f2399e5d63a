-- Steps of graphs: tasks with a condition or a map, graphs that end at their first failure, graphs that retry others.
-- Ordinary tasks have null in the two columns of `tasks`, which costs them no byte.

-- True for a task with a row in `graph_steps`: when its dependencies are satisfied it waits for what is decided there.
alter table tasks add column step boolean;
-- True when the failure of this task ends its graph.
alter table tasks add column fails_graph boolean;

-- True: a parent that was skipped counts as satisfied. Null: it skips the child too.
alter table task_dependencies add column runs_if_skipped boolean;
-- True: the parent is an element of the child, which is a map.
alter table task_dependencies add column element boolean;

create table graph_steps (
  task_id uuid primary key references tasks (id) on delete cascade,
  -- {when, map}, as in the command, with ids of tasks for keys.
  definition json not null,
  -- What the map has become: its elements are being made, or all are there. Null before.
  phase text check (phase in ('expanding', 'expanded')),
  total int check (total >= 0),
  made int not null default 0 check (made >= 0),
  -- Elements that wait until fewer than `max_parallel` are under way.
  held int not null default 0 check (held >= 0),
  max_parallel int check (max_parallel > 0),
  -- Something is to be decided or done now.
  due boolean not null default false
);
-- What is due and was not taken up at once: looked for by the reconciler. Empty but for moments.
create index graph_steps_due on graph_steps (task_id) where due;

-- The elements of a map, in order. One that was taken over from an earlier graph is a task of that graph.
create table map_elements (
  map_id uuid not null references graph_steps (task_id) on delete cascade,
  index int not null check (index >= 0),
  task_id uuid not null,
  -- Null in a map that does not limit how many run: all are let go at once.
  state text check (state in ('held', 'live', 'done')),
  primary key (map_id, index)
);
-- The next to be let go, and those under way: few of many, for a map that limits how many run.
create index map_elements_held on map_elements (map_id, index) where state = 'held';
create index map_elements_live on map_elements (map_id, index) where state = 'live';

alter table graphs add column on_failure text not null default 'continue' check (on_failure in ('continue', 'fail_fast'));
alter table graphs add column retry_of uuid;
-- Why all that has not ended is being cancelled: {code, message, actor}. Null when nothing is.
alter table graphs add column ending json;
-- The list: newest first within a namespace.
create index graphs_by_namespace on graphs (namespace, id desc);
-- What is being cancelled and was not finished at once. Empty but for moments.
create index graphs_ending on graphs (id) where ending is not null;

-- Tasks of an earlier graph that completed there and stand for tasks of this one.
create table graph_references (
  graph_id uuid not null references graphs (id) on delete cascade,
  key text not null,
  task_id uuid not null,
  primary key (graph_id, key)
);
