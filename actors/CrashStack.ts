/**
 * Says where a crash happened, for people who look at a task: the frames of its stack, without what only this machine knows.
 *
 * Invariant: bounded in lines and characters, storable, without the message (which is kept apart) and without folders
 * above the program's own.
 */
import { storable } from "../protocol/Storable.ts"

/** Most frames that are kept. */
export const framesMax = 20
/** Longest text of a frame that is kept, in characters. */
export const frameCharactersMax = 200

/** The frames of an error, innermost first, one a line; undefined when it has none. */
export const stackOf = (defect: unknown): string | undefined => {
  if (!(defect instanceof Error) || typeof defect.stack !== "string") return undefined
  // The head of a stack is name and message, of any number of lines; a message may look like a frame, so it goes first.
  const head = defect.stack.indexOf(defect.message)
  const frames = (head < 0 ? defect.stack : defect.stack.slice(head + defect.message.length))
    .slice(0, scannedCharactersMax)
    .split("\n")
    .flatMap((line) => {
      const frame = line.trim()
      return frame.startsWith("at ") ? [storable(withoutFolders(frame).slice(0, frameCharactersMax))] : []
    })
  return frames.length === 0 ? undefined : frames.slice(0, framesMax).join("\n")
}

/** Much more than is kept: what lies behind is not looked at. */
const scannedCharactersMax = 64 * 1024

/** Paths in a text, shortened: a package is named from its own name on, any other file by its last two folders at most. */
export const withoutFolders = (frame: string): string =>
  frame.replace(/(?:file:\/\/)?(?:[A-Za-z]:)?[/\\][^\s()]*/gu, (path) => {
    const parts = path.split(/[/\\]/u)
    const packages = parts.lastIndexOf("node_modules")
    return parts.slice(packages >= 0 ? packages + 1 : -3).join("/")
  })
