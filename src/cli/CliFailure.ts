/**
 * Why a command did not do what was asked, and the exit code that says so to a script:
 *
 *   1  refused by the server, or the task or graph that was awaited did not complete
 *   2  wrong usage: an argument, flag or file that was refused before anything was sent
 *   3  no answer to be had: server away, something else answers there, or no valid key
 *
 * (0 is success; 130 means that Ctrl-C ended the command.) Everything a command can fail with becomes this one error
 * in `fromError`; what does not is a defect.
 */
import { Predicate, Runtime, Schema } from "effect"
import { CliError } from "effect/cli"
import { HttpClientError } from "effect/http"
import { InvalidField } from "../../protocol/Problem.ts"

export class CliFailure extends Schema.TaggedError<CliFailure>()("CliFailure", {
  exitCode: Schema.Literals([1, 2, 3]),
  /** What is wrong, in one line; further lines name refused fields. */
  message: Schema.String,
  /** What to do about it. */
  hint: Schema.optionalKey(Schema.String),
  /** RFC 9457 problem details, as `--json` prints them; absent when the answer was given already. */
  problem: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
}) {
  override readonly [Runtime.errorExitCode] = this.exitCode
  override readonly [Runtime.errorReported] = false
}

const type = (slug: string) => `urn:datamcp:problem:${slug}`

/** Wrong usage that the grammar of the command line cannot tell, such as a file that is no graph. */
export const usage = (message: string, hint?: string, errors?: ReadonlyArray<InvalidField>) =>
  new CliFailure({
    exitCode: 2,
    message,
    ...(hint === undefined ? {} : { hint }),
    problem: { type: type("usage"), title: "Wrong usage", detail: message, ...(errors === undefined ? {} : { errors }) }
  })

/** Nobody to talk to, or no key to talk with. */
export const noAnswer = (slug: "unreachable" | "no-key" | "unexpected-answer", message: string, hint: string) =>
  new CliFailure({
    exitCode: 3,
    message,
    hint,
    problem: { type: type(slug), title: "No answer to be had", detail: message }
  })

/** What was awaited ended otherwise than completed. The answer was printed already. */
export const notCompleted = (message: string) => new CliFailure({ exitCode: 1, message })

/** A problem as the server answered it. */
interface Problem {
  readonly type: string
  readonly status: number
  readonly title: string
  readonly detail?: string
}

const isProblem = (error: unknown): error is Problem =>
  Predicate.hasProperty(error, "status") && Predicate.isNumber(error.status) && Predicate.hasProperty(error, "title")

/** The one error for whatever a command failed with; undefined for a defect. */
export const fromError = (error: unknown): CliFailure | undefined => {
  if (error instanceof CliFailure) return error
  if (isProblem(error)) return fromProblem(error)
  if (HttpClientError.isHttpClientError(error)) return fromHttp(error)
  if (Schema.isSchemaError(error)) {
    return noAnswer("unexpected-answer", `The server's answer breaks the contract: ${error.message}`, otherServer)
  }
  if (Predicate.hasProperty(error, "_tag") && (error._tag === "Retry" || error._tag === "SseError")) {
    return noAnswer("unexpected-answer", "The server's event stream cannot be read.", otherServer)
  }
  if (CliError.isCliError(error) && error._tag === "UserError") return usage(error.message)
  return undefined
}

const otherServer = "Is it datamcp that answers there, and of the version of this program? `datamcp doctor` tells."

const fromProblem = (problem: Problem): CliFailure => {
  const hint = hints[Predicate.hasProperty(problem, "_tag") ? String(problem._tag) : ""]?.(problem)
  return new CliFailure({
    exitCode: problem.status === 401 ? 3 : 1,
    message: [problem.detail ?? problem.title, ...fieldsOf(problem).filter((line) => line !== problem.detail)].join(
      "\n"
    ),
    ...(hint === undefined ? {} : { hint }),
    problem: Object.fromEntries(Object.entries(problem).filter(([name]) => name !== "_tag"))
  })
}

const isInvalidField = Schema.is(InvalidField)

const fieldsOf = (problem: Problem): ReadonlyArray<string> =>
  Predicate.hasProperty(problem, "errors") && Array.isArray(problem.errors)
    ? problem.errors.flatMap((error) => (isInvalidField(error) ? [fieldLine(error)] : []))
    : []

export const fieldLine = ({ field, message }: InvalidField) => (field === "" ? message : `${field}: ${message}`)

/** What to do, by the tag of the problem. */
const hints: { readonly [tag: string]: (problem: Problem) => string | undefined } = {
  Unauthenticated: () =>
    "The key is taken from --key, else DATAMCP_API_KEY, else .datamcp/admin.key (written by `npm start`).",
  Forbidden: (problem) =>
    Predicate.hasProperty(problem, "permission")
      ? `The key needs the permission ${String(problem.permission)}.`
      : undefined,
  TaskNotFound: () => "`datamcp tasks list` shows those of the key's namespace.",
  AgentNotFound: () => "`datamcp agents list` shows those of the key's namespace.",
  Overloaded: againIn,
  Unavailable: againIn
}

function againIn(problem: Problem) {
  return Predicate.hasProperty(problem, "retry_after_seconds")
    ? `Nothing was stored. Try again in ${String(problem.retry_after_seconds)} s.`
    : undefined
}

const fromHttp = (error: HttpClientError.HttpClientError): CliFailure => {
  const origin = originOf(error.request.url)
  if (error.reason._tag === "TransportError") {
    return noAnswer(
      "unreachable",
      `Cannot reach datamcp at ${origin}: ${causeOf(error.reason)}.`,
      "Start it with `npm start`, or name another with --url or DATAMCP_URL."
    )
  }
  if (error.reason._tag === "InvalidUrlError") return usage(`${error.request.url} is not a URL.`)
  const status = error.response === undefined ? "" : ` (status ${error.response.status})`
  return noAnswer("unexpected-answer", `What answers at ${origin} does not speak datamcp's API${status}.`, otherServer)
}

const originOf = (url: string) => (URL.canParse(url) ? new URL(url).origin : url)

/** The innermost cause that has words: `fetch failed` says nothing, its cause does. */
const causeOf = (reason: { readonly cause?: unknown; readonly description?: string | undefined }): string => {
  let words = reason.description ?? "no connection"
  let cause = reason.cause
  for (let depth = 0; depth < 5 && Predicate.isObjectKeyword(cause); depth++) {
    if (Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code)) return said(cause.code)
    if (Predicate.hasProperty(cause, "message") && Predicate.isString(cause.message) && cause.message !== "") {
      words = cause.message
    }
    cause = Predicate.hasProperty(cause, "cause") ? cause.cause : undefined
  }
  return words
}

const said = (code: string) =>
  ({
    ECONNREFUSED: "nothing listens there",
    ECONNRESET: "the connection was cut",
    ENOTFOUND: "there is no such host",
    EAI_AGAIN: "the host's name cannot be looked up now",
    ETIMEDOUT: "no answer in time",
    UND_ERR_CONNECT_TIMEOUT: "no answer in time",
    UND_ERR_SOCKET: "the connection was cut"
  })[code] ?? code
