/**
 * Owns how a failure is answered: one rendering of RFC 9457 problem details for every route, every defect, and what
 * fails before there is a route.
 *
 * Each carries the path as `instance` and the request's id; a defect says nothing else.
 */
import { Predicate } from "effect"
import type { Exchange } from "./Exchange.ts"

/** What every problem class has. */
export interface Problem {
  readonly type: string
  readonly status: number
  readonly title: string
  readonly detail?: string
}

export const isProblem = (value: unknown): value is Problem =>
  Predicate.hasProperty(value, "type") &&
  typeof value.type === "string" &&
  value.type.startsWith("urn:datamcp:problem:") &&
  Predicate.hasProperty(value, "status") &&
  typeof value.status === "number"

export interface ProblemAnswer {
  readonly status: number
  readonly headers: { readonly [name: string]: string }
  readonly body: string
}

/** Renders a problem as the answer to a request. */
export const problemAnswer = (
  problem: Problem,
  exchange: Pick<Exchange, "requestId" | "path" | "page">
): ProblemAnswer => ({
  status: problem.status,
  headers: {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
    ...challenge(problem, exchange.page),
    ...retryAfter(problem),
    ...allow(problem)
  },
  body: JSON.stringify(membersOf(problem, exchange))
})

/** The members of RFC 9457 first, for whoever reads them on a terminal. */
const membersOf = (problem: Problem, { path, requestId }: Pick<Exchange, "requestId" | "path">) => {
  const { detail, status, title, type, ...extensions } = problem
  return { type, title, status, detail, ...extensions, instance: path, request_id: requestId }
}

const challenge = ({ status }: Problem, page: boolean) => {
  if (status !== 401) return undefined
  return { "www-authenticate": page ? 'Basic realm="datamcp", charset="UTF-8"' : 'Bearer realm="datamcp"' }
}

const retryAfter = (problem: Problem) =>
  Predicate.hasProperty(problem, "retry_after_seconds") && typeof problem.retry_after_seconds === "number"
    ? { "retry-after": String(Math.max(1, Math.ceil(problem.retry_after_seconds))) }
    : undefined

const allow = (problem: Problem) =>
  Predicate.hasProperty(problem, "allow") && Array.isArray(problem.allow)
    ? { allow: problem.allow.join(", ") }
    : undefined
