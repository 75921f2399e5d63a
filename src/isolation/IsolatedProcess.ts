/**
 * One isolated process as its node sees it: started for one module, asked one thing at a time, and gone after any breach.
 *
 *   starting --> ready --> busy --> ready ...
 *      '----------'----------'----> dead, with a reason that is counted
 *
 * Invariant: its environment is what it is given and nothing else of the node's; a message longer than its bound is never
 * held; when it is killed, what it started goes with it. It reads what the process says, and trusts none of it.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { getCompileCacheDir } from "node:module"
import { dirname } from "node:path"
import type { Duplex } from "node:stream"
import { fileURLToPath } from "node:url"
import { Effect, Result, Schema } from "effect"
import { withoutFolders } from "../../actors/CrashStack.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type Frame, frameOf, frameReader } from "./Frames.ts"
import { FromProcess, type Start, type ToProcess } from "./Messages.ts"

export type DeathReason = "memory_limit" | "message_limit" | "unresponsive" | "process_exited" | "crashed"

/** The process is gone, or was ended because of what it did. */
export class ProcessDeath extends Schema.TaggedError<ProcessDeath>()("ProcessDeath", {
  reason: Schema.Literals(["memory_limit", "message_limit", "unresponsive", "process_exited", "crashed"]),
  message: Schema.String
}) {}

export interface Bounds {
  readonly memoryMib: number
  readonly unresponsiveMillis: number | undefined
  readonly resultBytesMax: number
}

/** Who listens to a process: one at a time. */
interface Listener {
  readonly hear: (message: FromProcess) => void
  readonly died: (death: ProcessDeath) => void
}

export interface IsolatedProcess {
  readonly isAlive: () => boolean
  readonly tell: (message: ToProcess) => void
  /**
   * Sends, and hears what is said until `read` answers something. Interruption runs `orElse` and listens on until that
   * has ended. Fails when the process dies first.
   */
  readonly ask: <A>(
    message: ToProcess | undefined,
    read: (message: FromProcess) => A | undefined,
    orElse?: Effect.Effect<void>
  ) => Effect.Effect<A, ProcessDeath>
  /** The result that the last attempt returned, as JSON text; taken once. */
  readonly takeResult: () => string
  /** Succeeds when it is gone. */
  readonly gone: Effect.Effect<void>
  /** Ends it and what it started at once; `reason` is what its listener is told. Returns when it is gone. */
  readonly kill: (reason?: DeathReason, message?: string) => Effect.Effect<void>
  /** Lets it release what it has opened, for a moment. Returns when it is gone. */
  readonly close: Effect.Effect<void>
}

const program = fileURLToPath(new URL("./program.ts", import.meta.url))
/** How much of what a process printed is told when it dies, in characters. */
const lastWordsMax = 1_000
/** The share of the memory that JavaScript's own heap may have. */
const heapShare = 0.75
/** How long a process may take to release what it has opened. */
const closeMillis = 2_000
/** Messages that are kept until somebody listens. */
const unheardMax = 16
/** How long to wait, once it is gone, for the reason that its watchdog left. */
const reasonMillis = 200

/** Compiled sources, where the node keeps them (each version of Node in a folder below): a start takes a third less. */
const compileCache = getCompileCacheDir()

export const start = (options: {
  readonly module: string
  readonly bounds: Bounds
  readonly environment: Readonly<Record<string, string>>
  /** What it prints, in pieces of any length. */
  readonly onOutput: (text: string) => void
  /** Called once, when it is gone; without a death when its node ended it for no fault of its own. */
  readonly onDeath: (death: ProcessDeath | undefined) => void
}): IsolatedProcess => {
  const { bounds } = options
  const given: Start = {
    module: options.module,
    resultBytesMax: bounds.resultBytesMax,
    residentBytesMax: bounds.memoryMib * 1024 * 1024,
    unresponsiveMillis: bounds.unresponsiveMillis
  }
  const child = spawn(
    process.execPath,
    [
      "--disable-warning=ExperimentalWarning",
      `--max-old-space-size=${Math.floor(bounds.memoryMib * heapShare)}`,
      program,
      JSON.stringify(given)
    ],
    {
      env: {
        ...options.environment,
        ...(compileCache !== undefined && { NODE_COMPILE_CACHE: dirname(compileCache) })
      },
      // The line, and the pipe by which each learns of the other's end.
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
      // A group of its own, so that what it starts can be ended with it.
      detached: true
    }
  )
  const line = pipeOf(child, 3)
  const lifeline = pipeOf(child, 4)
  const waiting = new Set<() => void>()
  let listener: Listener | undefined
  let words = ""
  let left = ""
  let killedFor: { readonly reason: DeathReason; readonly message: string } | undefined
  let death: ProcessDeath | undefined
  let gone = child.pid === undefined
  let result = ""
  /** Its node has had enough of it, or it was told to close. */
  let dismissed = false
  /** What it said before anybody listened. */
  let unheard: Array<FromProcess> = []

  const kill = () => {
    if (gone || child.pid === undefined) return
    // The group is there for as long as anybody in it is.
    Result.try(() => process.kill(-(child.pid ?? 0), "SIGKILL"))
  }

  const breach = (reason: DeathReason, message: string) => {
    killedFor ??= { reason, message }
    kill()
  }

  const hearOutput = (text: string) => {
    words = `${words}${text}`.slice(-lastWordsMax)
    options.onOutput(text)
  }

  const onFrame = ({ kind, text }: Frame) => {
    if (kind === "result") {
      result = text
      return
    }
    const message = decode(text)
    if (Result.isFailure(message)) return breach("message_limit", "it said something that is no message")
    if (listener !== undefined) listener.hear(message.success)
    else if (unheard.length < unheardMax) unheard.push(message.success)
  }

  const dead = (how: string) => {
    if (death !== undefined) return
    gone = true
    // What it started and left behind.
    Result.try(() => process.kill(-(child.pid ?? 0), "SIGKILL"))
    death = deathOf(how, { bounds, killedFor, left, words: withoutFolders(words.trim()) })
    line.destroy()
    lifeline.destroy()
    options.onDeath(dismissed ? undefined : death)
    listener?.died(death)
    for (const resume of waiting) resume()
    waiting.clear()
  }

  line
    .on(
      "data",
      frameReader({
        bytesMax: { message: Limits.isolatedMessageBytesMax, result: bounds.resultBytesMax },
        onFrame,
        onBreach: (what) => breach("message_limit", `it sent ${what}`)
      })
    )
    .on("error", () => {})
  lifeline
    .setEncoding("utf8")
    .on("data", (why: string) => {
      left = `${left}${why}`.slice(-lastWordsMax)
    })
    .on("error", () => {})
  for (const output of [child.stdout, child.stderr]) output?.setEncoding("utf8").on("data", hearOutput)
  child.on("error", (error) => dead(error.message))
  child.on("exit", (code, signal) => {
    const how = signal ?? `exit code ${code}`
    if (lifeline.readableEnded || killedFor !== undefined) return dead(how)
    const late = setTimeout(() => dead(how), reasonMillis)
    lifeline.once("end", () => {
      clearTimeout(late)
      // What it printed last may come in the same turn.
      setImmediate(() => dead(how))
    })
  })

  const untilGone: Effect.Effect<void> = Effect.callback((resume) => {
    if (death !== undefined) return resume(Effect.void)
    const over = () => resume(Effect.void)
    waiting.add(over)
    return Effect.sync(() => waiting.delete(over))
  })

  const tell: IsolatedProcess["tell"] = (message) => {
    if (!gone) line.write(frameOf("message", JSON.stringify(message)))
  }

  return {
    isAlive: () => !gone && killedFor === undefined && death === undefined,
    tell,
    ask: <A>(
      message: ToProcess | undefined,
      read: (message: FromProcess) => A | undefined,
      orElse: Effect.Effect<void> = Effect.void
    ) =>
      Effect.callback<A, ProcessDeath>((resume) => {
        if (death !== undefined) return resume(Effect.fail(death))
        const own: Listener = {
          hear: (said) => {
            const answer = read(said)
            if (answer === undefined) return
            // Hearing it may have let the next one in already.
            if (listener === own) listener = undefined
            resume(Effect.succeed(answer))
          },
          died: (reason) => resume(Effect.fail(reason))
        }
        const early = unheard
        unheard = []
        listener = own
        if (message !== undefined) tell(message)
        else for (const said of early) own.hear(said)
        return Effect.ensuring(
          orElse,
          Effect.sync(() => {
            if (listener === own) listener = undefined
          })
        )
      }),
    takeResult: () => {
      const taken = result
      result = ""
      return taken
    },
    gone: untilGone,
    kill: (reason, message = "") =>
      Effect.suspend(() => {
        if (reason === undefined) {
          dismissed ||= killedFor === undefined
          kill()
        } else breach(reason, message)
        return untilGone
      }),
    close: Effect.suspend(() => {
      dismissed = true
      tell({ _tag: "Close" })
      return Effect.timeoutOrElse(untilGone, {
        duration: closeMillis,
        orElse: () => Effect.andThen(Effect.sync(kill), untilGone)
      })
    })
  }
}

const pipeOf = (child: ChildProcess, descriptor: number): Duplex => {
  const pipe = child.stdio[descriptor]
  if (pipe === null || pipe === undefined || !("write" in pipe) || !("read" in pipe)) {
    throw new Error(`a process has no pipe ${descriptor}`)
  }
  return pipe as Duplex
}

const decodeMessage = Schema.decodeUnknownResult(FromProcess)

const decode = (text: string) =>
  Result.flatMap(
    Result.try((): unknown => JSON.parse(text)),
    decodeMessage
  )

const deathOf = (
  how: string,
  known: {
    readonly bounds: Bounds
    readonly killedFor: { readonly reason: DeathReason; readonly message: string } | undefined
    readonly left: string
    readonly words: string
  }
): ProcessDeath => {
  const { bounds, killedFor, left, words } = known
  const memory = `its process took more than ${bounds.memoryMib} MiB of memory`
  if (killedFor !== undefined) return new ProcessDeath(killedFor)
  if (left.includes("memory_limit")) return new ProcessDeath({ reason: "memory_limit", message: memory })
  if (left.includes("unresponsive")) {
    const message = `its event loop stood still for more than ${bounds.unresponsiveMillis} ms`
    return new ProcessDeath({ reason: "unresponsive", message })
  }
  // V8 ends a process whose heap is full, after it has printed why.
  if (/heap out of memory|Reached heap limit/u.test(words)) {
    return new ProcessDeath({ reason: "memory_limit", message: memory })
  }
  return new ProcessDeath({
    reason: "process_exited",
    message: `its process ended (${how})${words === "" ? "" : `: ${words}`}`
  })
}
