/**
 * A thread beside the program of an isolated process: it ends the process when its node is gone, when it holds too much
 * memory, or when its event loop stands still for too long. The program itself may be past doing any of it.
 *
 * It says why on the pipe that it shares with the node, then ends the whole process group: the process and what it started.
 */
import { writeSync } from "node:fs"
import { Socket } from "node:net"
import { workerData } from "node:worker_threads"

/** The pipe on which nothing ever comes from the node but its end. */
export const lifelineDescriptor = 4
/** Time between two looks. A breach is seen so much later, and what is taken in between comes on top. */
export const lookEveryMillis = 100

export interface WatchdogData {
  readonly residentBytesMax: number
  readonly unresponsiveMillis: number | undefined
  /** One counter, which the event loop raises while it turns; 0 until it is watched. */
  readonly pulse: SharedArrayBuffer
}

const end = (why: string): void => {
  try {
    if (why !== "") writeSync(lifelineDescriptor, why)
  } catch {
    // The node is gone, or does not listen: the end is the same.
  }
  process.kill(-process.pid, "SIGKILL")
}

const watch = ({ pulse, residentBytesMax, unresponsiveMillis }: WatchdogData): void => {
  new Socket({ fd: lifelineDescriptor })
    .on("end", () => end(""))
    .on("error", () => end(""))
    .on("close", () => end(""))
    .resume()
  const beats = new Int32Array(pulse)
  let last = 0
  let since = performance.now()
  setInterval(() => {
    if (process.memoryUsage.rss() > residentBytesMax) return end("memory_limit")
    const beat = Atomics.load(beats, 0)
    if (beat !== last || beat === 0) {
      last = beat
      since = performance.now()
    } else if (unresponsiveMillis !== undefined && performance.now() - since > unresponsiveMillis) {
      end("unresponsive")
    }
  }, lookEveryMillis)
}

watch(workerData)
