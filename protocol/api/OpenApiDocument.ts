/**
 * Owns how the generated OpenAPI document reads: components under the names of the contract, and answers left open, as
 * clients must ignore fields that they do not know.
 */

/** Refines a generated document; annotate an API with it as its transform. */
export const refineOpenApi = (document: Record<string, unknown>): Record<string, unknown> => {
  const named: unknown = JSON.parse(
    JSON.stringify(document).replaceAll(/"(#\/components\/schemas\/)?(\w+)Encoded"/gu, '"$1$2"')
  )
  hoist(named)
  return isNode(named) ? open(named) : document
}

type Node = { [key: string]: unknown }

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null

/** Puts what is said of a property beside its schema, where readers look, instead of into an `allOf`. */
const hoist = (value: unknown): void => {
  if (!isNode(value)) return
  const parts = Array.isArray(value["allOf"]) ? value["allOf"] : []
  if (parts.some((part) => isNode(part) && typeof part["description"] === "string")) {
    delete value["allOf"]
    Object.assign(value, ...parts)
  }
  for (const part of Object.values(value)) hoist(part)
}

/** Lets every schema take more fields, but those that a request body is made of. */
const open = (document: Node): Node => {
  const closedNames = new Set<string>()
  const schemas = child(document, "components", "schemas")
  const collect = (value: unknown): void => {
    if (!isNode(value)) return
    const name = typeof value["$ref"] === "string" ? value["$ref"].slice(value["$ref"].lastIndexOf("/") + 1) : undefined
    if (name !== undefined && !closedNames.has(name)) {
      closedNames.add(name)
      collect(child(schemas, name))
    }
    for (const part of Object.values(value)) collect(part)
  }
  const operations = Object.values(child(document, "paths")).flatMap((item) =>
    isNode(item) ? Object.values(item) : []
  )
  for (const operation of operations) collect(child(operation, "requestBody"))
  for (const operation of operations) loosen(child(operation, "responses"))
  for (const [name, schema] of Object.entries(schemas)) if (!closedNames.has(name)) loosen(schema)
  return document
}

const child = (value: unknown, ...path: ReadonlyArray<string>): Node => {
  const found = path.reduce((node: unknown, key) => (isNode(node) ? node[key] : undefined), value)
  return isNode(found) ? found : {}
}

const loosen = (value: unknown): void => {
  if (!isNode(value)) return
  if (value["additionalProperties"] === false) delete value["additionalProperties"]
  for (const part of Object.values(value)) loosen(part)
}
