-- What a schedule submitted: its tasks, and those of its graphs. Written with the record of the run, and gone with the task.
create table schedule_tasks (
  schedule_id uuid not null,
  task_id uuid not null references tasks (id) on delete cascade,
  -- The list of a schedule's tasks, newest first.
  primary key (schedule_id, task_id)
);
-- Deleting a task finds its row.
create index schedule_tasks_by_task on schedule_tasks (task_id);

insert into schedule_tasks (schedule_id, task_id)
select e.aggregate, t.id
from schedules s join events e on e.aggregate = s.id and e.type = 'ScheduleFired'
  join tasks t on t.id = (e.data ->> 'task_id')::uuid and t.namespace = s.namespace
union
select e.aggregate, t.id
from schedules s join events e on e.aggregate = s.id and e.type = 'ScheduleFired'
  join tasks t on t.graph_id = (e.data ->> 'graph_id')::uuid and t.namespace = s.namespace and t.graph_key is not null;
