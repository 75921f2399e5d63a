-- What supervisors and operators leave behind for the instances of agents.

-- By index of an instance: {restarts, quarantine: {at, by, reason}}. How often it was ordered to start anew, and whether it may take
-- work. On the agent, because nodes hear of every change of one, and by its version in order. Null: nothing was ever ordered.
alter table agents add column instance_orders jsonb;

-- What is known of the crashes of an instance after its node is gone. Written after a crash and never by the hot path.
alter table agent_instances add column restarts int not null default 0;
alter table agent_instances add column task_crashes int not null default 0;
alter table agent_instances add column last_crash json;
