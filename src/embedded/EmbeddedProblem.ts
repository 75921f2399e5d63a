/**
 * Why a server of our own cannot be had, in words for the person at the terminal.
 *
 * Every failure of `src/embedded/` that a user can meet ends as this one error: what is wrong, and what to do. A
 * caller prints both and stops; it branches on `reason` only to choose an exit code, never on the text.
 */
import { PlatformError, Schema } from "effect"

export class EmbeddedProblem extends Schema.TaggedError<EmbeddedProblem>()("EmbeddedProblem", {
  reason: Schema.Literals([
    "AlreadyRunning",
    "DiskFull",
    "NotPermitted",
    "MissingProgram",
    "DownloadFailed",
    "UnsupportedMachine",
    "StartFailed",
    "KeepsCrashing"
  ]),
  /** What is wrong: one sentence, naming the file, port or program. */
  what: Schema.String,
  /** What to do about it: one sentence per way, in the order to try them. */
  remedy: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `${this.what}\n${this.remedy}`
  }
}

/** There was no room to write `path`, a file, a folder or the name of a server. */
export const diskFull = (path: string, cause?: unknown) =>
  new EmbeddedProblem({
    reason: "DiskFull",
    what: `The disk is full: ${path} could not be written.`,
    remedy: "Free at least 1 GB there and start again; nothing has to be cleaned up.",
    ...(cause === undefined ? {} : { cause })
  })

/** The person's view of a file that could not be written. */
export const unwritable = (path: string) => (cause: unknown) =>
  /ENOSPC|EDQUOT/.test(codeOf(cause))
    ? diskFull(path, cause)
    : new EmbeddedProblem({
        reason: "NotPermitted",
        what: `${path} could not be written (${cause instanceof PlatformError.PlatformError ? cause.message : String(cause)}).`,
        remedy: "Check who owns it: start as that user, or give it to yourself (chown -R), then start again.",
        cause
      })

const codeOf = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return ""
  if ("code" in cause && typeof cause.code === "string") return cause.code
  if ("reason" in cause) return codeOf(cause.reason)
  return "cause" in cause ? codeOf(cause.cause) : ""
}
