-- Graphs and trees of tasks that are set aside as wholes.

create table pauses (
  -- Of the graph, or of the task at the top of the tree.
  id uuid primary key,
  namespace text not null,
  graph_id uuid references graphs (id) on delete cascade,
  root_id uuid references tasks (id) on delete cascade,
  actor text not null,
  reason text,
  -- `pausing` and `resuming` are carried through in portions, and carried on with by whoever finds them.
  phase text not null check (phase in ('pausing', 'paused', 'resuming')),
  constraint pause_of_one_thing check ((graph_id = id and root_id is null) or (root_id = id and graph_id is null))
);
-- When a graph or a task is deleted.
create index pauses_by_graph on pauses (graph_id) where graph_id is not null;
create index pauses_by_root on pauses (root_id) where root_id is not null;
-- What is to be carried on with. Empty but for moments.
create index pauses_unfinished on pauses (id) where phase <> 'paused';

-- The tasks that a pause has reached.
create table paused_tasks (
  pause_id uuid not null references pauses (id) on delete cascade,
  task_id uuid not null references tasks (id) on delete cascade,
  -- Somebody had set it aside by itself before: it stays so when the whole is resumed.
  kept boolean not null,
  primary key (pause_id, task_id)
);
-- Which pauses hold a task.
create index paused_tasks_by_task on paused_tasks (task_id);

-- Whether a task is an element that its map still holds back: asked when it is resumed.
create index map_elements_held_by_task on map_elements (task_id) where state = 'held';
