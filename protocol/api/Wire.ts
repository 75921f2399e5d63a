/**
 * Owns what several groups of the HTTP contract share: the prefix, parameters and headers with their string forms, and
 * how an endpoint is documented.
 */
import { Duration, Schema, SchemaTransformation } from "effect"
import { OpenApi } from "effect/http-api"
import * as Limits from "../Limits.ts"
import { IdempotencyKey } from "../Task.ts"

/** Every path of the versioned interface begins so. */
export const prefix = "/api/v1"

const waitSeconds = Limits.waitMillisMax / 1000

/** A wait in a query string: `30s` or `1500ms`, at most `Limits.waitMillisMax`. */
export const Wait = Schema.String.check(
  Schema.isPattern(/^[0-9]{1,9}(ms|s)$/u, { expected: "a wait such as 30s or 1500ms" })
)
  .annotate({ description: `How long to wait for the end, such as 30s or 1500ms; at most ${waitSeconds}s.` })
  .pipe(
    Schema.decodeTo(
      Schema.Duration.check(
        Schema.makeFilter((wait: Duration.Duration) => Duration.toMillis(wait) <= Limits.waitMillisMax, {
          expected: `a wait of at most ${waitSeconds}s`
        })
      ),
      SchemaTransformation.transform({
        decode: (text) =>
          text.endsWith("ms")
            ? Duration.millis(Number(text.slice(0, -2)))
            : Duration.seconds(Number(text.slice(0, -1))),
        encode: (wait) => `${Math.round(Duration.toMillis(wait))}ms`
      })
    )
  )

/** The ETag of a version. */
export const etag = (version: number) => `"${version}"`

/** `If-Match`: the version that a change expects, as the ETag of an earlier answer. */
export const IfMatch = Schema.String.check(
  Schema.isPattern(/^"[0-9]{1,15}"$/u, { expected: 'a version as an ETag, such as "7"' })
)
  .annotate({ description: 'Change this version only, e.g. "7"; another one answers 409.' })
  .pipe(
    Schema.decodeTo(
      Schema.Int,
      SchemaTransformation.transform({ decode: (tag) => Number(tag.slice(1, -1)), encode: etag })
    )
  )

/** Headers of a submission. */
export const SubmitHeaders = Schema.Struct({
  "idempotency-key": Schema.optionalKey(
    IdempotencyKey.annotate({
      description: `Makes a repeat safe: for ${Limits.idempotencyKeyHours} h the same key gives the same answer.`
    })
  )
})

/** A flag in a query string. */
export const Flag = Schema.Boolean.annotate({ description: "true or false" })

/**
 * Annotations of an endpoint. `answers` documents headers of its answers by status: they are not part of the typed
 * answer, because what they say stands in the body too.
 */
export const documented = (document: {
  readonly summary: string
  readonly description?: string
  readonly answers?: { readonly [status: number]: { readonly [header: string]: string } }
}) =>
  OpenApi.annotations({
    summary: document.summary,
    description: document.description,
    transform: (operation) => {
      for (const [status, headers] of Object.entries(document.answers ?? {})) {
        const answer = operation["responses"]?.[status]
        if (answer === undefined) continue
        answer.headers = Object.fromEntries(
          Object.entries(headers).map(([name, description]) => [name, { description, schema: { type: "string" } }])
        )
      }
      return operation
    }
  })
