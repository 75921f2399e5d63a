-- The ledger's statements. Each is one round trip and one transaction, takes a batch, and writes the event of every
-- change it makes. Inside, a later statement sees what a lock was waited for (read committed), which single
-- statements with CTEs would not: that is why these are functions.
--
-- Plans: a session keeps the plan that it made first, perhaps on an empty table, so none may exist here that is wrong when
-- the table is large. Rows are looked up by key for each row of the batch, and nothing else is left to choose:
-- `enable_seqscan` is off; `t.id = any (array[u.id])` rather than `t.id = u.id` gives no hash or merge join; a status that
-- is only checked is compared as text, or a partial index would offer to read all tasks that have it. Measured with
-- 10,000 tasks and no statistics: a cascade down a chain took 188 s before, 3 s since.
--
-- Fences: a claim key-share-locks the instance's lease and needs its present epoch (heartbeats do not wait for that lock,
-- nor it for them; takeovers do); an end needs the task to run under the
-- caller's attempt and epoch. `p_again` marks the repetition of a batch whose first commit is unknown: what that one
-- did is then answered as if it had been done now.
--
-- The files of this folder are one set, written for a schema `ledger`; each version of the set gets a schema of its own
-- (src/ledger/LedgerFunctions.ts), so that nodes of two versions work on one database side by side. Change them as code;
-- what is stored changes by the numbered files above this folder, and by additions that the set before can live with.

-- One recorded fact, as the maintenance functions return it.
create type ledger.task_change as (
  id uuid, namespace text, number int, event text, at timestamptz, status task_status, agent_id uuid, trace text, data json
);
