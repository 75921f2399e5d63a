/**
 * The namespace of a proof: one of its own with a key that opens nothing else, made in the database, because a proof has no key to the platform.
 *
 * The key is revoked when the scope closes, and good for two days at most in case it never does.
 */
import { randomBytes } from "node:crypto"
import { DateTime, Effect } from "effect"
import type { Namespace } from "../../protocol/Ids.ts"
import { idBytes, keyOf, secretBytes } from "../app/ApiKeyText.ts"
import { ApiKeyStore } from "../ledger/ApiKeyStore.ts"

export const open = Effect.fnUntraced(function* (namespace: Namespace) {
  const store = yield* ApiKeyStore
  const { key, proof } = keyOf(randomBytes(idBytes), randomBytes(secretBytes))
  const expiresAt = DateTime.formatIso(DateTime.add(yield* DateTime.now, { days: 2 }))
  yield* Effect.acquireRelease(
    store.create({
      id: proof.id,
      namespace,
      name: "datamcp prove",
      secretHash: Buffer.from(proof.secretHash, "hex"),
      role: "admin",
      permissions: null,
      expiresAt
    }),
    () => Effect.ignore(Effect.timeoutOption(store.revoke(namespace, proof.id), "3 seconds"))
  )
  return key
})
