/**
 * The one place where it is decided whether a principal may do something. Denied unless its permissions list it.
 */
import { Effect } from "effect"
import { type Permission, Principal } from "../../protocol/Permission.ts"
import { Forbidden } from "../../protocol/Problem.ts"

/** The principal, if it has all of these permissions; else `Forbidden` with the first that is missing. */
export const authorize = (...needed: ReadonlyArray<Permission>) =>
  // Every command comes through here, the hot ones too: no generator.
  Principal.use((principal) => {
    const missing = needed.find((permission) => !principal.permissions.has(permission))
    return missing === undefined ? Effect.succeed(principal) : Effect.fail(forbidden(missing))
  })

export const forbidden = (permission: Permission) =>
  new Forbidden({ permission, detail: `This needs the permission ${permission}, which the key does not have.` })
