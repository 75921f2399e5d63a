/**
 * Owns what is said about API keys.
 */
import { Schema } from "effect"
import { ApiKeyId, Namespace } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { Permission, Role } from "./Permission.ts"
import { Timestamp } from "./Task.ts"

export const CreateApiKey = Schema.Struct({
  name: Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax)),
  role: Role,
  permissions: Schema.optionalKey(Schema.Array(Permission)).annotateKey({
    description: "A subset of the role's permissions; all of them when absent."
  }),
  namespace: Schema.optionalKey(Namespace).annotateKey({
    description:
      "The caller's own when absent. Another one needs an admin of `default`, and is made when it does not exist."
  }),
  expires_at: Schema.optionalKey(Timestamp)
}).annotate({ identifier: "CreateApiKey" })
export type CreateApiKey = typeof CreateApiKey.Type

/** View: a key without its secret. */
export const ApiKey = Schema.Struct({
  id: ApiKeyId,
  namespace: Namespace,
  name: Schema.String,
  role: Role,
  permissions: Schema.Array(Permission),
  created_at: Timestamp,
  expires_at: Schema.NullOr(Timestamp),
  revoked_at: Schema.NullOr(Timestamp)
}).annotate({ identifier: "ApiKey" })
export type ApiKey = typeof ApiKey.Type

export const CreatedApiKey = Schema.Struct({
  ...ApiKey.fields,
  key: Schema.String.annotateKey({ description: "The key: shown in this answer and never again." })
}).annotate({ identifier: "CreatedApiKey" })
export type CreatedApiKey = typeof CreatedApiKey.Type
