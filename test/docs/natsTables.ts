/** Tables of docs/nats-protocol.md, made from the contract of the micro service. */
import { Schema } from "effect"
import {
  answerHeaders,
  commonProblems,
  endpoints,
  requestHeaders,
  unknownEndpoint
} from "../../protocol/service/Endpoints.ts"

const all = Object.values(endpoints)

const headerTable = (headers: Readonly<Record<string, string>>) =>
  [
    "| header | meaning |",
    "|---|---|",
    ...Object.entries(headers).map(([name, text]) => `| \`${name}\` | ${text} |`)
  ].join("\n")

/** Fields of a request by name; a schema of the HTTP interface by its name. */
const requestOf = (schema: Schema.Top): string => {
  const { definitions, schema: root }: any = Schema.toJsonSchemaDocument(schema)
  const name: string = root.$ref?.split("/").at(-1) ?? ""
  const object = definitions[name] ?? root
  if (/^(Submit|Create)/u.test(name)) return `\`${name}\``
  const required = new Set<string>(object.required)
  const fields = Object.keys(object.properties ?? {})
  return fields.map((field) => `\`${field}\`${required.has(field) ? "" : "?"}`).join(", ")
}

const answerOf = (schema: Schema.Top): string => {
  const { schema: root }: any = Schema.toJsonSchemaDocument(schema)
  return root.$ref.split("/").at(-1)
}

const statusOf = (problem: { readonly ast: unknown }) => {
  const made: any = Schema.toJsonSchemaDocument(problem as Schema.Top)
  const { properties } = made.definitions[made.schema.$ref.split("/").at(-1)]
  const constant = (field: string) => properties[field].const ?? properties[field].enum[0]
  return { status: constant("status"), type: constant("type"), title: constant("title") }
}

const beside = new Map(all.flatMap(({ problems }) => problems.map((problem) => [statusOf(problem).type, problem])))
const problemList = [...commonProblems, unknownEndpoint, ...beside.values()].map(statusOf)

export const natsTables = {
  requestHeaders: headerTable(requestHeaders),
  answerHeaders: headerTable(answerHeaders),
  endpoints: [
    "| group.verb | what it does | request | answer | problems beside the common ones |",
    "|---|---|---|---|---|",
    ...all.map(({ answer, group, problems, request, summary, verb }) => {
      const own = problems.map((problem) => statusOf(problem).status).toSorted((a, b) => a - b)
      return `| \`${group}.${verb}\` | ${summary} | ${requestOf(request)} | \`${answerOf(answer)}\` | ${[...new Set(own)].join(", ")} |`
    })
  ].join("\n"),
  problems: [
    "| status | type | title |",
    "|---|---|---|",
    ...problemList
      .toSorted((a, b) => a.status - b.status)
      .map(({ status, title, type }) => `| ${status} | \`${type}\` | ${title} |`)
  ].join("\n")
}
