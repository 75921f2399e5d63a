/**
 * Makes the AsyncAPI 3.0 document of the NATS micro service from its table of endpoints. Pure: the same table gives the
 * same document. Requests are closed (an unknown field is refused); answers may gain fields.
 */
import { Schema } from "effect"
import * as Subjects from "../Subjects.ts"
import { answerHeaders, commonProblems, type Endpoint, endpoints, requestHeaders } from "./Endpoints.ts"

type Json = Schema.Json

interface Schemas {
  readonly [name: string]: Json
}

/** Names within the document: definitions of requests and answers differ in whether they are closed. */
type Side = "request" | "answer" | "problem"

export const asyncApi = (version: string): Json => {
  const schemas: Record<string, Json> = {}
  const schema = (side: Side, of: Schema.Top): Json => {
    const document = Schema.toJsonSchemaDocument(of, {
      onExcessProperty: side === "request" ? "error" : "ignore",
      generateDescriptions: true
    })
    const definitions: Schemas = JSON.parse(JSON.stringify(document.definitions))
    for (const [name, definition] of Object.entries(definitions))
      schemas[`${side}.${name}`] = relinked(definition, side)
    return relinked(JSON.parse(JSON.stringify(document.schema)), side)
  }

  const all: ReadonlyArray<Endpoint> = Object.values(endpoints)
  const named = all.map((endpoint) => [nameOf(endpoint), endpoint] as const)
  const messages = Object.fromEntries(
    named.flatMap(
      ([name, endpoint]): ReadonlyArray<readonly [string, Json]> => [
        [
          `${name}.request`,
          {
            name: `${name}.request`,
            summary: endpoint.summary,
            headers: headersOf(requestHeaders, endpoint.takesKey ? [] : ["Idempotency-Key"], ["Authorization"]),
            payload: schema("request", endpoint.request)
          }
        ],
        [
          `${name}.answer`,
          {
            name: `${name}.answer`,
            headers: headersOf(answerHeaders, ["Nats-Service-Error", "Nats-Service-Error-Code", "Retry-After"], []),
            payload: schema("answer", endpoint.answer)
          }
        ],
        [
          `${name}.problem`,
          {
            name: `${name}.problem`,
            contentType: "application/problem+json",
            headers: headersOf(answerHeaders, [], ["Nats-Service-Error", "Nats-Service-Error-Code"]),
            payload: { oneOf: [...commonProblems, ...endpoint.problems].map((problem) => schema("problem", problem)) }
          }
        ]
      ]
    )
  )
  return {
    asyncapi: "3.0.0",
    info: {
      title: "datamcp",
      version,
      description: "The NATS micro service of datamcp: request and reply. docs/nats-protocol.md has the text."
    },
    defaultContentType: "application/json",
    channels: Object.fromEntries(
      named.flatMap(
        ([name, endpoint]): ReadonlyArray<readonly [string, Json]> => [
          [
            name,
            {
              address: Subjects.service("{namespace}", endpoint.group, endpoint.verb),
              parameters: { namespace: { description: "That of the API key.", examples: ["default"] } },
              messages: { request: { $ref: `#/components/messages/${name}.request` } }
            }
          ],
          [
            `${name}.reply`,
            {
              address: null,
              description: "The inbox that the request names as its reply subject.",
              messages: {
                answer: { $ref: `#/components/messages/${name}.answer` },
                problem: { $ref: `#/components/messages/${name}.problem` }
              }
            }
          ]
        ]
      )
    ),
    operations: Object.fromEntries(
      named.map(([name, { summary }]) => [
        name,
        {
          action: "receive",
          summary,
          channel: { $ref: `#/channels/${name}` },
          messages: [{ $ref: `#/channels/${name}/messages/request` }],
          reply: {
            channel: { $ref: `#/channels/${name}.reply` },
            messages: [
              { $ref: `#/channels/${name}.reply/messages/answer` },
              { $ref: `#/channels/${name}.reply/messages/problem` }
            ]
          }
        }
      ])
    ),
    components: { messages, schemas }
  }
}

const nameOf = ({ group, verb }: Endpoint) => `${group}.${verb}`

const headersOf = (
  headers: Readonly<Record<string, string>>,
  without: ReadonlyArray<string>,
  required: ReadonlyArray<string>
): Json => ({
  type: "object",
  properties: Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => !without.includes(name))
      .map(([name, description]) => [name, { type: "string", description }])
  ),
  ...(required.length === 0 ? {} : { required: [...required] })
})

/** The same value, with its references pointing to where the document keeps definitions. */
const relinked = (value: Json, side: Side): Json => {
  if (Array.isArray(value)) return value.map((item) => relinked(item, side))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) =>
      key === "$ref" && typeof child === "string"
        ? [key, child.replace("#/$defs/", `#/components/schemas/${side}.`)]
        : [key, relinked(child, side)]
    )
  )
}
