/**
 * A process of its own for each client and worker: methods called over Node's IPC, answers in any order.
 *
 * The process ends when its parent does. What it writes is kept, the end of it, to explain a failure.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"

type Method = (...args: ReadonlyArray<any>) => unknown
/** The methods of a remote, as the caller sees them. */
export type Called<Methods> = {
  readonly [Name in keyof Methods]: Methods[Name] extends (...args: infer Args) => infer Answer
    ? (...args: Args) => Promise<Awaited<Answer>>
    : never
}

export interface Remote<Methods> {
  readonly pid: number
  readonly call: Called<Methods>
  /** Tells it to end and waits until it is gone, at most 5 s; then it is killed. */
  readonly end: () => Promise<void>
}

/** Starts `file` and waits until it serves its methods, at most 60 s. */
export const startRemote = async <Methods>(
  file: URL,
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>> = {}
): Promise<Remote<Methods>> => {
  const child = fork(fileURLToPath(file), args, {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    env: { ...process.env, ...environment }
  })
  let output = ""
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-4_000)
    })
  const pending = new Map<number, { readonly resolve: (value: any) => void; readonly reject: (error: Error) => void }>()
  let serial = 0
  const ready = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`${fileURLToPath(file)} was not ready within 60 s:\n${output}`)),
      60_000
    )
    child.on("message", (message: any) => {
      if (message.ready === true) {
        clearTimeout(timer)
        resolve()
        return
      }
      const call = pending.get(message.id)
      pending.delete(message.id)
      if (message.error === undefined) call?.resolve(message.value)
      else call?.reject(new Error(message.error))
    })
    child.once("exit", (code, signal) => {
      clearTimeout(timer)
      const ended = new Error(`${fileURLToPath(file)} ${args.join(" ")} ended (${code ?? signal}):\n${output}`)
      reject(ended)
      for (const { reject: fail } of pending.values()) fail(ended)
      pending.clear()
    })
  })
  await ready.catch((error: unknown) => {
    child.kill("SIGKILL")
    throw error
  })
  const call = new Proxy(
    {},
    {
      get:
        (_, method) =>
        (...given: ReadonlyArray<unknown>) =>
          new Promise((resolve, reject) => {
            const id = serial++
            pending.set(id, { resolve, reject })
            child.send({ id, method, args: given }, (error) => {
              if (error !== null) reject(error)
            })
          })
    }
  ) as Called<Methods>
  return {
    pid: child.pid ?? 0,
    call,
    end: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = new Promise((resolve) => child.once("exit", resolve))
      const timer = setTimeout(() => child.kill("SIGKILL"), 5_000)
      child.disconnect()
      await gone
      clearTimeout(timer)
    }
  }
}

/** The other side: serves `methods` until the parent goes; `close` runs before the process ends. */
export const serveRemote = (methods: Readonly<Record<string, Method>>, close: () => Promise<void>) => {
  process.on("message", (message: any) => {
    const answer = (value: object) => process.connected && process.send?.({ id: message.id, ...value })
    Promise.resolve()
      .then(() => methods[message.method]?.(...message.args))
      .then(
        (value) => answer({ value }),
        (error: unknown) => answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
      )
  })
  process.once("disconnect", () => {
    const end = () => process.exit(0)
    setTimeout(end, 3_000).unref()
    close().then(end, end)
  })
  process.send?.({ ready: true })
}
