/**
 * The platform of a reader: `datamcp up` in a clone of its own, with servers and data of its own. Ended by its pid when
 * the scope closes.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Context, Effect, Layer, Schedule } from "effect"
import { makeClone, root, writeFiles } from "./shellBlocks.ts"

export class Platform extends Context.Service<
  Platform,
  {
    readonly url: string
    /** The clone, with its `.datamcp`. */
    readonly folder: string
  }
>()("datamcp/test/docs/Platform") {
  static readonly layer = Layer.effect(
    Platform,
    Effect.gen(function* () {
      const parent = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "datamcp-docs-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
      )
      // Postgres's own user, when root runs the tests, must be able to enter.
      chmodSync(parent, 0o755)
      const folder = join(parent, "datamcp")
      makeClone(folder)
      writeFiles("docs/agents.md", folder)
      let output = ""
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const started = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", "src/cli.ts", "up"], {
            cwd: folder,
            stdio: ["ignore", "pipe", "pipe"],
            env: {
              PATH: process.env["PATH"],
              HOME: process.env["HOME"],
              PORT: "0",
              // As docs/agents.md has its reader start it; the others do not care.
              DATAMCP_BEHAVIOURS:
                "./behaviours/shout.ts,./examples/behaviours/textStatistics.ts,./examples/behaviours/wordTotal.ts",
              // As examples/README.md has it.
              DATAMCP_WEBHOOKS_ALLOW_PRIVATE: "127.0.0.1"
            }
          })
          for (const stream of [started.stdout, started.stderr]) {
            stream.setEncoding("utf8").on("data", (text: string) => {
              output = (output + text).slice(-8_000)
            })
          }
          return started
        }),
        end
      )
      const started = Effect.suspend(() =>
        child.exitCode !== null
          ? Effect.die(new Error(`the platform ended with ${child.exitCode}:\n${output}`))
          : Effect.succeed(output.includes("datamcp is running"))
      )
      yield* Effect.repeat(started, { until: (is) => is, schedule: Schedule.spaced("50 millis") }).pipe(
        Effect.timeoutOrElse({
          duration: "60 seconds",
          orElse: () => Effect.die(new Error(`the platform was not up in time:\n${output}`))
        })
      )
      const { url } = JSON.parse(readFileSync(join(folder, ".datamcp/connection.json"), "utf8"))
      return Platform.of({ url, folder })
    })
  )
}

/** SIGTERM, and SIGKILL when that is not heard. */
const end = (child: ChildProcess) => {
  const gone = Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
  })
  return Effect.sync(() => child.kill("SIGTERM")).pipe(
    Effect.andThen(gone),
    Effect.timeoutOrElse({
      duration: "15 seconds",
      orElse: () =>
        Effect.andThen(
          Effect.sync(() => child.kill("SIGKILL")),
          gone
        )
    })
  )
}

/** Whether a path of the repository exists. */
export const isThere = (path: string) => existsSync(join(root, path))
