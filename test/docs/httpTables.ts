/** Tables of README.md and docs/http-api.md, made from the HTTP contract and its limits. */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Schema } from "effect"
import { OpenApi } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import * as TransportProblem from "../../protocol/api/TransportProblem.ts"
import * as Limits from "../../protocol/Limits.ts"
import * as Problem from "../../protocol/Problem.ts"

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

// --- limits

const kibibyte = 1024
const second = 1000
const day = 86_400 * second

const amount = (name: string, value: number): string => {
  if (name.includes("Bytes")) {
    return value % kibibyte ** 2 === 0 ? `${value / kibibyte ** 2} MiB` : `${value / kibibyte} KiB`
  }
  if (name.includes("Millis")) return value > day ? `${value / day} days` : value < day ? `${value / second} s` : "24 h"
  return name.includes("Hours") ? `${value} h` : value.toLocaleString("en")
}

/** Each limit with the first sentence of its own comment, in the order of the file. */
const limits = Array.from(
  readFileSync(fileURLToPath(new URL("../../protocol/Limits.ts", import.meta.url)), "utf8").matchAll(
    /\/\*\* (?<sentence>[^.]+)\.[^\n]*\*\/\nexport const (?<name>\w+) =/gu
  ),
  ({ groups = {} }) => ({ sentence: groups["sentence"] ?? "", name: groups["name"] ?? "" })
)

const limitRows = limits.map(({ name, sentence }) => {
  const value: number = Reflect.get(Limits, name)
  const plain = sentence.replace(/, in (bytes|milliseconds|characters|hours)\b.*$/u, "")
  const unit = name.includes("Characters") ? " characters" : ""
  return [plain, `${amount(name, value)}${unit}`]
})

// --- routes

interface Operation {
  readonly summary?: string
  readonly responses: Readonly<Record<string, unknown>>
}

const operations = Object.entries(OpenApi.fromApi(Api).paths).flatMap(([path, methods]) =>
  Object.entries(methods as Readonly<Record<string, Operation>>).map(([method, { responses, summary }]) => {
    const answers = Object.keys(responses).filter((status) => status < "300")
    return [`\`${method.toUpperCase()} ${path}\``, summary ?? "", answers.join(", ")]
  })
)

// --- problems

/** What a caller does about each; a problem that is missing here has no row, and the test says so. */
const remedies: Readonly<Record<string, string>> = {
  "malformed-request": "Send JSON in UTF-8. The detail says where it breaks.",
  unauthenticated: "Send `Authorization: Bearer <API key>`. The same for a key that is wrong, expired or revoked.",
  forbidden: "`permission` says what the key lacks. Use a key that has it.",
  "route-not-found": "Look at `/docs` or `/openapi.json`.",
  "task-not-found": "The id is wrong, or belongs to another namespace.",
  "graph-not-found": "The id is wrong, or belongs to another namespace.",
  "agent-not-found": "The name or id is wrong, or the agent has terminated, or it belongs to another namespace.",
  "schedule-not-found": "The name or id is wrong, or belongs to another namespace.",
  "limit-not-found": "The name or id is wrong, or belongs to another namespace.",
  "artifact-not-found": "The id is wrong, or belongs to another namespace.",
  "key-not-found": "The id is wrong, or belongs to another namespace.",
  "webhook-not-found": "The id is wrong, or belongs to another namespace.",
  "delivery-not-found": "The id is wrong, belongs to another webhook, or is older than what is kept.",
  "hook-not-found":
    "The id is wrong, or belongs to another namespace. For calls also: the secret or signature is wrong, or the hook is disabled.",
  "operation-not-found": "The id is wrong, or belongs to another namespace.",
  "method-not-allowed": "`allow` and the header `Allow` say what is.",
  "request-timeout": "Send the body faster.",
  conflict:
    "`reason` says why: `name-taken`, `version` (read it again; see If-Match), or `state` (it has ended, is being deleted).",
  "unique-key-held":
    "`task_id` is the task that has the key. Wait for its end, or ask for it with `on_conflict: existing`. Nothing was stored.",
  "coalesce-mismatch":
    "`task_id` waits under this key, and `field` says what differs. Take another key. Nothing was stored.",
  "too-large": "`field`, `limit` and `unit` say what. Upload larger data as an artifact.",
  "unsupported-media-type": "`accept` says what is taken. Bodies are never compressed.",
  "invalid-input":
    "`errors` has each refused field with its message and, where there is one, its limit. Nothing was stored.",
  "idempotency-mismatch": "The key was used with another command within 72 h. Take a fresh key, or send what you sent.",
  overloaded: "Nothing was stored. Wait as `Retry-After` says and send again.",
  "header-too-large": "Send fewer or shorter headers.",
  "internal-error": "A defect. Report it with the `request_id`; the log has the rest.",
  unavailable:
    "Postgres is away. Wait as `Retry-After` says. A submission may have been stored: send it again with its idempotency key."
}

const isSchema = (value: unknown): value is Schema.Top => typeof value === "function" && "ast" in value

/** Status, slug of the type and title of a problem's class; nothing of another schema. */
const described = (schema: Schema.Top) => {
  const { definitions, schema: root }: any = Schema.toJsonSchemaDocument(schema)
  const properties = definitions[root.$ref?.split("/").at(-1)]?.properties ?? {}
  if (!("status" in properties && "title" in properties)) return []
  const constant = (field: string): string => String(properties[field].const ?? properties[field].enum[0])
  return [{ status: constant("status"), slug: constant("type").split(":").at(-1) ?? "", title: constant("title") }]
}

const problemRows = [...Object.values<unknown>(Problem), ...Object.values<unknown>(TransportProblem)]
  .filter(isSchema)
  .flatMap(described)
  .toSorted((a, b) => `${a.status} ${a.slug}`.localeCompare(`${b.status} ${b.slug}`))
  .map(({ slug, status, title }) => [status, `\`${slug}\``, title, remedies[slug] ?? "(missing)"])

export const httpTables = {
  limits: table(["limit", "value"], limitRows),
  routes: table(["route", "what it does", "answers"], operations),
  problems: table(["status", "type", "title", "what to do"], problemRows)
}
