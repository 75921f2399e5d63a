-- How a migration keeps out versions that it has left nothing to work with.

-- The name of the migration that a node must know to use this database since this one was applied; null: every node may. Told by a
-- line `-- Nodes must know: NNNN_name.sql` in the file of a migration that takes away or changes what older versions need.
alter table datamcp_migrations add column nodes_must_know text;
