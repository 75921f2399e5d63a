/**
 * Owns how NATS tools find the service and its figures: the micro service protocol (NATS ADR-32), asked on
 * `$SRV.PING|INFO|STATS[.datamcp[.<id>]]`. Every node answers for itself.
 *
 * Written here and not taken from `@nats-io/services` for two reasons: that one times a handler only until it returns, so
 * it would report no errors and no processing time of ours; and it answers on any reply subject (see `replySubject.ts`).
 */

import * as Subjects from "../../protocol/Subjects.ts"
import { endpoints } from "../../protocol/service/Endpoints.ts"
import type { EndpointStats } from "./EndpointStats.ts"

export const serviceName = "datamcp"
/** Nodes share requests through this queue group. */
export const queueGroup = "datamcp"

export interface ServiceIdentity {
  readonly id: string
  readonly version: string
  readonly node: string
  /** RFC 3339. */
  readonly started: string
}

type Verb = "PING" | "INFO" | "STATS"

/** Subjects that a node listens on, without a queue group: each asks all nodes, all of the name, or this one. */
export const discoverySubjects = (identity: ServiceIdentity): ReadonlyArray<readonly [subject: string, verb: Verb]> =>
  (["PING", "INFO", "STATS"] as const).flatMap((verb) => [
    [`$SRV.${verb}`, verb],
    [`$SRV.${verb}.${serviceName}`, verb],
    [`$SRV.${verb}.${serviceName}.${identity.id}`, verb]
  ])

const description = "Runs agents' tasks as supervised actors: submit, follow and steer tasks, define agents."

const listed = Object.values(endpoints).map(({ group, verb }) => ({
  name: `${group}-${verb}`,
  subject: Subjects.service("*", group, verb),
  queue_group: queueGroup
}))

/** What a node says of itself. `statsOf` is asked by `<group>.<verb>`. */
export const describe = (
  verb: Verb,
  identity: ServiceIdentity,
  statsOf: (endpoint: string) => EndpointStats | undefined
): string => {
  const { id, node, started, version } = identity
  const who = { name: serviceName, id, version, metadata: { node } }
  switch (verb) {
    case "PING":
      return JSON.stringify({ type: "io.nats.micro.v1.ping_response", ...who })
    case "INFO":
      return JSON.stringify({ type: "io.nats.micro.v1.info_response", ...who, description, endpoints: listed })
    case "STATS":
      return JSON.stringify({
        type: "io.nats.micro.v1.stats_response",
        ...who,
        started,
        endpoints: listed.map((endpoint) => ({ ...endpoint, ...figures(statsOf(endpoint.name.replace("-", "."))) }))
      })
  }
}

const figures = (stats: EndpointStats | undefined) => {
  const { errors = 0, lastError = "", processingNanos = 0, requests = 0 } = stats ?? {}
  return {
    num_requests: requests,
    num_errors: errors,
    last_error: lastError,
    processing_time: processingNanos,
    average_processing_time: requests === 0 ? 0 : Math.round(processingNanos / requests)
  }
}
