/** Acting as somebody: principals for tests of use cases. */
import { Effect } from "effect"
import { Namespace } from "../../protocol/Ids.ts"
import {
  type Permission,
  Principal,
  platformPermissions,
  type Role,
  rolePermissions
} from "../../protocol/Permission.ts"

export const principal = (
  role: Role,
  options: {
    readonly namespace?: string
    readonly permissions?: ReadonlyArray<Permission>
    readonly actor?: string
  } = {}
): Principal["Service"] => {
  const namespace = Namespace.make(options.namespace ?? "default")
  return {
    actor: options.actor ?? `key:${role}`,
    namespace,
    role,
    permissions: new Set(
      (options.permissions ?? rolePermissions[role]).filter(
        (permission) => !platformPermissions.has(permission) || namespace === "default"
      )
    )
  }
}

export const as = (who: Principal["Service"]) => Effect.provideService(Principal, who)

export const admin = principal("admin")
export const stranger = principal("admin", { namespace: "stranger" })
