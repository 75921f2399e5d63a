/**
 * Owns who may do what: one list of permissions, the roles that bundle them, and the principal that carries them.
 *
 * Denied unless listed. The namespace comes from the principal alone, never from what a request says.
 */
import { Context, Schema } from "effect"
import type { Namespace } from "./Ids.ts"

export const permissions = [
  "task:create",
  "task:read",
  "task:cancel",
  "task:retry",
  "task:signal",
  "task:approve",
  "task:pause",
  "task:update",
  "task:delete",
  "agent:create",
  "agent:read",
  "agent:update",
  "agent:delete",
  "agent:scale",
  "agent:supervise",
  "limit:create",
  "limit:read",
  "limit:update",
  "limit:delete",
  "artifact:create",
  "artifact:read",
  "schedule:read",
  "schedule:write",
  "event:read",
  "metrics:read",
  "webhook:read",
  "webhook:write",
  "key:create",
  "key:read",
  "key:revoke",
  "namespace:create",
  "node:read",
  "node:drain",
  "retention:read",
  "retention:update"
] as const
export const Permission = Schema.Literals(permissions)
export type Permission = typeof Permission.Type

export const Role = Schema.Literals(["admin", "operator", "viewer", "agent", "api_user"])
export type Role = typeof Role.Type

const read: ReadonlyArray<Permission> = [
  "task:read",
  "agent:read",
  "limit:read",
  "artifact:read",
  "schedule:read",
  "event:read"
]
const talk: ReadonlyArray<Permission> = ["task:signal", "task:approve", "task:pause"]
const work: ReadonlyArray<Permission> = [
  ...read,
  ...talk,
  "task:create",
  "task:cancel",
  "task:retry",
  "task:update",
  "artifact:create",
  "schedule:write"
]

const limits: ReadonlyArray<Permission> = ["limit:create", "limit:update", "limit:delete"]

/** What concerns the platform as a whole: it counts only for keys of the namespace `default`. */
export const platformPermissions: ReadonlySet<Permission> = new Set(["namespace:create", "node:read", "node:drain"])

/** What each role grants. `platformPermissions` count only for keys of the namespace `default`. */
export const rolePermissions: { readonly [R in Role]: ReadonlyArray<Permission> } = {
  admin: permissions,
  operator: [
    ...work,
    "task:delete",
    "retention:read",
    "agent:create",
    "agent:update",
    "agent:delete",
    "agent:scale",
    "agent:supervise",
    "metrics:read",
    "webhook:read",
    "webhook:write",
    "node:read",
    "node:drain",
    ...limits
  ],
  viewer: [...read, "metrics:read", "webhook:read", "node:read"],
  agent: ["task:create", "task:read", "artifact:create", "artifact:read"],
  api_user: work
}

/** Who is acting. It travels in Effect's context and nowhere else. */
export class Principal extends Context.Service<
  Principal,
  {
    /** `key:<id>` for an API key, `hook:<id>` for a hook, `node:<name>` for a node. */
    readonly actor: string
    readonly namespace: Namespace
    readonly role: Role
    readonly permissions: ReadonlySet<Permission>
  }
>()("datamcp/protocol/Principal") {}
