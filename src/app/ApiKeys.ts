/**
 * API keys: made, listed, revoked, and turned into principals. The first part of identity; users and tokens will
 * stand beside it and give the same `Principal`.
 *
 * A key reads `dma_<id>_<secret><check>`: the id names it, the secret has 256 random bits of which only the SHA-256
 * is stored, the check (CRC-32) tells a mistyped key from a wrong one without a query.
 */
import { Context, type Effect, type Redacted } from "effect"
import type { ApiKey, CreateApiKey, CreatedApiKey } from "../../protocol/ApiKey.ts"
import type { ApiKeyId } from "../../protocol/Ids.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import type { Forbidden, InvalidInput, KeyNotFound, Unauthenticated, Unavailable } from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"

export class ApiKeys extends Context.Service<
  ApiKeys,
  {
    /**
     * The principal behind a key. Verified keys are remembered for at most 5 s, so that a revoked key is refused within
     * that time on every node. Fails closed: when Postgres cannot be asked, nobody gets in.
     */
    readonly authenticate: (
      key: Redacted.Redacted
    ) => Effect.Effect<Principal["Service"], Unauthenticated | Unavailable>
    /** The key itself is in this answer and never again. A key cannot grant more than its maker has. */
    readonly create: (
      command: CreateApiKey
    ) => Effect.Effect<CreatedApiKey, InvalidInput | Forbidden | Unavailable, Principal>
    readonly list: (query: PageQuery) => Effect.Effect<Page<ApiKey>, InvalidInput | Forbidden | Unavailable, Principal>
    readonly revoke: (id: ApiKeyId) => Effect.Effect<void, KeyNotFound | Forbidden | Unavailable, Principal>
    /**
     * The first admin key of a database that has none; undefined when there is one. Two nodes that ask at once get one
     * key between them.
     */
    readonly bootstrap: Effect.Effect<CreatedApiKey | undefined, Unavailable>
  }
>()("datamcp/app/ApiKeys") {}
