/**
 * Owns how a node and an isolated process write to each other: frames over a pipe of their own, one length, one kind, one
 * JSON text. Whoever reads learns the length before the text, and refuses what is longer than it takes without ever
 * holding it. Imports nothing, so that a process starts fast.
 *
 *   | length of the text, 4 bytes, big endian | kind, 1 byte | text, UTF-8 |
 */

/** `result`: the data that an attempt returned, as it is. `message`: anything else. */
export type FrameKind = "message" | "result"

export interface Frame {
  readonly kind: FrameKind
  readonly text: string
}

const headBytes = 5
const kinds: ReadonlyArray<FrameKind> = ["message", "result"]

export const frameOf = (kind: FrameKind, text: string): Buffer => {
  const bytes = Buffer.byteLength(text)
  const frame = Buffer.allocUnsafe(headBytes + bytes)
  frame.writeUInt32BE(bytes, 0)
  frame.writeUInt8(kinds.indexOf(kind), 4)
  frame.write(text, headBytes)
  return frame
}

/** Bytes as they come in, whole frames as they go out. `onBreach` is told once, and nothing is read after it. */
export const frameReader = (options: {
  readonly bytesMax: Readonly<Record<FrameKind, number>>
  readonly onFrame: (frame: Frame) => void
  readonly onBreach: (what: string) => void
}): ((bytes: Buffer) => void) => {
  let pieces: Array<Buffer> = []
  let held = 0
  let head: { readonly kind: FrameKind; readonly bytes: number } | undefined
  let broken = false

  const take = (bytes: number): Buffer => {
    const whole = pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces)
    pieces = whole.length === bytes ? [] : [whole.subarray(bytes)]
    held -= bytes
    return whole.subarray(0, bytes)
  }

  const breach = (what: string) => {
    broken = true
    pieces = []
    options.onBreach(what)
  }

  return (bytes) => {
    if (broken) return
    pieces.push(bytes)
    held += bytes.length
    while (!broken && held >= (head?.bytes ?? headBytes)) {
      if (head === undefined) {
        const read = take(headBytes)
        const kind = kinds[read.readUInt8(4)]
        const length = read.readUInt32BE(0)
        if (kind === undefined) return breach("something that is no message")
        if (length > options.bytesMax[kind]) {
          return breach(`a ${kind} of ${length} bytes; the limit is ${options.bytesMax[kind]}`)
        }
        head = { kind, bytes: length }
      } else {
        const { bytes: length, kind } = head
        head = undefined
        options.onFrame({ kind, text: take(length).toString("utf8") })
      }
    }
  }
}
