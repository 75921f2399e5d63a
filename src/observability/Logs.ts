/**
 * Owns where logs go: to stderr, one line per entry, and nowhere else. Stdout belongs to what a program answers.
 *
 * Who logs adds fields with `Effect.annotateLogs`: `task`, `agent`, `instance`; the ids of request and trace come from
 * the fiber by themselves. Never log a payload or a result: they are the users' data.
 */
import { Context, Layer, Logger, type LogLevel, Option, References, Tracer } from "effect"
import { realSpan, traceIdOf } from "../../protocol/TraceContext.ts"
import { toJsonLine, toPrettyText } from "./LogLine.ts"
import { RequestTrace } from "./RequestTrace.ts"

export interface LogOptions {
  readonly level: LogLevel.LogLevel
  /** `auto`: pretty on a terminal, else json. */
  readonly format: "auto" | "json" | "pretty"
  /** Stands in every line, e.g. `{ node: "node-1" }`. Left out for people. */
  readonly fields?: Readonly<Record<string, string>>
  /** Where lines go instead of stderr; for tests. */
  readonly write?: (text: string) => void
}

/** Replaces all loggers of the program below it. */
export const layer = (options: LogOptions) =>
  Layer.mergeAll(Logger.layer([make(options)]), Layer.succeed(References.MinimumLogLevel, options.level))

const make = ({ fields = {}, format, write = toStderr() }: LogOptions) => {
  const isPretty = format === "pretty" || (format === "auto" && process.stderr.isTTY)
  const colours = process.stderr.isTTY && process.stderr.hasColors()
  return Logger.make<unknown, void>(({ cause, date, fiber, logLevel, message }) => {
    const span = realSpan(Option.getOrUndefined(Context.getOption(fiber.context, Tracer.ParentSpan)))
    const { requestId, traceparent } = fiber.getRef(RequestTrace)
    const own = isPretty ? {} : fields
    const request = requestId === undefined ? {} : { request: requestId }
    const entry = {
      at: date,
      level: logLevel,
      message: Array.isArray(message) ? message : [message],
      cause,
      annotations: { ...own, ...request, ...fiber.getRef(References.CurrentLogAnnotations) },
      trace: span?.traceId ?? traceIdOf(traceparent)
    }
    write(`${isPretty ? toPrettyText(entry, colours) : toJsonLine(entry)}\n`)
  })
}

/** A reader of the logs that went away must not end the program. */
const toStderr = () => {
  if (!process.stderr.listeners("error").includes(ignore)) process.stderr.on("error", ignore)
  return (text: string) => {
    process.stderr.write(text)
  }
}

const ignore = () => undefined
