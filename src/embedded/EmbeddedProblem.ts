/**
 * Why a server of our own cannot be had, in words for the person at the terminal.
 *
 * Every failure of `src/embedded/` that a user can meet ends as this one error: what is wrong, and what to do. A
 * caller prints both and stops; it branches on `reason` only to choose an exit code, never on the text.
 */
import { Schema } from "effect"

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
