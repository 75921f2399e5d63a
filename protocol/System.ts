/**
 * Owns what is said about a node and its parts.
 */
import { Schema } from "effect"
import { Namespace, NodeName } from "./Ids.ts"

export const Readiness = Schema.Struct({
  ready: Schema.Boolean,
  draining: Schema.Boolean.annotateKey({
    description: "It hands over what it hosts, or has nothing left; it still answers what it is sent."
  }),
  parts: Schema.Struct({
    postgres: Schema.Boolean,
    nats: Schema.Boolean.annotateKey({
      description: "Not needed to accept tasks: while it is away, instances take their work from Postgres."
    }),
    started: Schema.Boolean.annotateKey({ description: "Migrated, directory loaded, warmed up." })
  })
}).annotate({ identifier: "Readiness" })
export type Readiness = typeof Readiness.Type

export const Status = Schema.Struct({
  version: Schema.String,
  node: NodeName,
  namespace: Namespace,
  tasks: Schema.Record(Schema.String, Schema.Int).annotateKey({
    description: 'Tasks by status: exact up to 10,000 per status, then "at least".'
  }),
  agents: Schema.Int,
  instances_here: Schema.Int,
  parts: Readiness.fields.parts
}).annotate({ identifier: "Status" })
export type Status = typeof Status.Type
