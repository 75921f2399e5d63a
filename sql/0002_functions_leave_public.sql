-- The ledger's functions live in schemas of their own (sql/functions); those of the first version were here.
drop function if exists dependencies_resume(int);
drop function if exists task_accept(json, json, json, boolean, boolean);
drop function if exists task_claim(json, json, text, boolean);
drop function if exists task_settle(json, json, text, boolean);
drop function if exists task_progress(json, text);
drop function if exists task_cancel(text, uuid[], text, text);
drop function if exists instance_take_over(uuid, int, text);
drop function if exists tasks_queue_due(int, text);
drop function if exists tasks_expire(int, text);
drop function if exists tasks_assign(text, text, uuid, int, text);
drop function if exists agents_with_work(int);
drop function if exists types_without_agent(text, text, int);
drop function if exists dependencies_resolve(uuid[]);
drop type if exists task_change;
drop type if exists accept_refusal;
