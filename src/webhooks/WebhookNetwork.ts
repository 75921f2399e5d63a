/**
 * Decides where webhooks may be sent: public addresses, and those private ones that the operator of this node names
 * (`DATAMCP_WEBHOOKS_ALLOW_PRIVATE`), in the grammar of an agent's `allow_private`.
 */
import { isIP } from "node:net"
import { Context, Result } from "effect"
import { admitted, type NetworkPolicy, networkPolicy, parseUrl } from "../../actors/behaviours/AddressGuard.ts"

export const WebhookNetwork = Context.Reference<NetworkPolicy>("datamcp/webhooks/WebhookNetwork", {
  defaultValue: () => networkPolicy({})
})

/** What the sender of a refused delivery is told, and the definer of a refused URL. */
export const refusedAddress =
  "leads to an address that is not on the public internet; the operator can permit it with DATAMCP_WEBHOOKS_ALLOW_PRIVATE"

/**
 * Why a URL is refused, undefined when it is not. A name is judged by what it resolves to when a delivery opens its socket,
 * not here.
 */
export const refusalOfUrl = (policy: NetworkPolicy, text: string): string | undefined => {
  const url = parseUrl(text)
  if (Result.isFailure(url)) return url.failure
  const hostname = url.success.hostname.replace(/^\[|\]$/gu, "")
  const family = isIP(hostname)
  if (family === 0) return undefined
  const port = Number(url.success.port) || (url.success.protocol === "https:" ? 443 : 80)
  return Result.isFailure(admitted(policy, { hostname, port }, [{ address: hostname, family }]))
    ? refusedAddress
    : undefined
}
