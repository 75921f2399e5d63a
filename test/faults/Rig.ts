/**
 * A whole platform to mistreat: Postgres, nats-server, nodes and the effect sink, each a process of its own, and a fault proxy on
 * every edge between them and in front of each node. Everything ends, and its folder goes, with `close`.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Exit, Redacted, Scope } from "effect"
import { freePort, makeNats, makePostgres, type NatsHandle, type PostgresHandle } from "../support/ServerMakers.ts"
import type { TestMachine } from "../support/TestMachine.ts"
import type { Chance } from "./Chance.ts"
import { type FaultProxy, openFaultProxy } from "./FaultProxy.ts"
import { type OwnProcess, signalTree, startProcess } from "./Processes.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

export interface RigNode {
  readonly name: string
  /** Through its proxy. */
  readonly url: string
  readonly process: () => OwnProcess
  readonly toPostgres: FaultProxy
  readonly toNats: FaultProxy
  readonly fromClients: FaultProxy
  /** Where it listens itself. */
  readonly port: number
  /** As a new process. */
  readonly start: (how?: NodeStart) => Promise<void>
  /** A metric's value, all labels together; undefined when the node does not answer. */
  readonly metric: (name: string) => Promise<number | undefined>
}

export interface NodeStart {
  /** It kills itself there. */
  readonly crashAt?: CrashAt
  /** Most files that it may have open. */
  readonly filesMost?: number
  /** Most memory of its heap. */
  readonly heapMiB?: number
  readonly environment?: Readonly<Record<string, string>>
}

export interface CrashAt {
  readonly place: string
  readonly moment: "before" | "after"
  /** How many times it passes there first. */
  readonly passes: number
}

export interface SinkEntry {
  /** The task's idempotency key: its id. */
  readonly key: string
  readonly label: string
  /** Milliseconds on the monotonic clock. */
  readonly at: number
  /** False: it was told to try again. */
  readonly answered: boolean
}

export interface Rig {
  readonly postgres: PostgresHandle & {
    /** SIGKILL of all its processes. */
    readonly killAll: () => Promise<void>
    readonly freezeAll: () => void
    readonly thawAll: () => void
  }
  readonly databaseUrl: string
  readonly nats: NatsHandle
  readonly nodes: ReadonlyArray<RigNode>
  readonly adminKey: string
  readonly sinkPort: number
  readonly sinkEntries: () => ReadonlyArray<SinkEntry>
  readonly folder: string
  /** Names of the crash points that nodes have passed; of those only that were to crash. */
  readonly placesPassed: () => ReadonlySet<string>
  /** Faults that proxies have injected, all edges together. */
  readonly proxyFaults: () => number
  readonly run: <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Promise<A>
  readonly close: () => Promise<void>
}

export interface RigOptions {
  readonly machine: TestMachine
  readonly chance: Chance
  readonly nodes: number
  readonly postgresSettings?: Readonly<Record<string, string>>
  /** Where the data of Postgres or NATS go instead of the rig's folder; it must exist. */
  readonly postgresFolder?: string
  readonly natsFolder?: string
  readonly environment?: Readonly<Record<string, string>>
  /** Flags of Node itself, for every node. */
  readonly nodeFlags?: ReadonlyArray<string>
}

export const openRig = async (options: RigOptions): Promise<Rig> => {
  const folder = mkdtempSync(join(options.machine.folder, "faults-"))
  chmodSync(folder, 0o755)
  const scope = Scope.makeUnsafe()
  const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const closers: Array<() => Promise<unknown>> = []
  const close = async () => {
    for (const closer of closers.toReversed()) await closer()
    await Effect.runPromise(Scope.close(scope, Exit.void))
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    mkdirSync(join(folder, "servers"), { mode: 0o755 })
    const [postgres, nats] = await Promise.all([
      run(
        makePostgres(options.machine, options.postgresFolder ?? join(folder, "servers"), {
          ...{ fsync: "on", full_page_writes: "on" },
          ...options.postgresSettings
        })
      ),
      run(makeNats(options.machine, options.natsFolder ?? join(folder, "servers")))
    ])
    closers.push(async () => {
      if (postgres.pid() > 0) signalTree(postgres.pid(), "SIGCONT")
    })

    const log = join(folder, "sink.ndjson")
    const placesFile = join(folder, "places")
    const sink = await startProcess({
      name: "effect sink",
      command: [process.execPath, join(root, "test/faults/sink.ts"), log],
      ready: (output) => /\d+\n/.test(output)
    })
    closers.push(sink.kill)

    let adminKey = ""
    const proxies: Array<FaultProxy> = []
    const edge = async (name: string, targetPort: number) => {
      const proxy = await openFaultProxy({ name, targetPort, chance: options.chance.fork(name) })
      proxies.push(proxy)
      closers.push(proxy.close)
      return proxy
    }

    const openNode = async (name: string): Promise<RigNode> => {
      const toPostgres = await edge(`${name}->postgres`, postgres.port)
      const toNats = await edge(`${name}->nats`, nats.port)
      const port = await Effect.runPromise(freePort)
      const fromClients = await edge(`clients->${name}`, port)
      const direct = `http://127.0.0.1:${port}`
      let process_: OwnProcess | undefined
      const start = async ({ crashAt, environment, filesMost, heapMiB }: NodeStart = {}) => {
        const program =
          crashAt === undefined
            ? ["src/cli.ts", "serve"]
            : ["test/faults/node.ts", crashAt.place, crashAt.moment, String(crashAt.passes), placesFile]
        process_ = await startProcess({
          name,
          command: [
            ...(filesMost === undefined ? [] : ["sh", "-c", `ulimit -n ${filesMost}; exec "$@"`, "sh"]),
            process.execPath,
            "--disable-warning=ExperimentalWarning",
            ...(heapMiB === undefined ? [] : [`--max-old-space-size=${heapMiB}`]),
            ...(options.nodeFlags ?? []),
            ...program
          ],
          folder: root,
          mayEndEarly: crashAt !== undefined,
          environment: {
            ...{ PORT: String(port), HOST: "127.0.0.1", LOG_LEVEL: "warn", DATAMCP_NODE_NAME: name },
            DATAMCP_DATA: join(folder, name),
            DATABASE_URL: Redacted.value(postgres.url()).replace(`:${postgres.port}`, `:${toPostgres.port}`),
            NATS_URL: `nats://127.0.0.1:${toNats.port}`,
            NODE_COMPILE_CACHE: join(root, "node_modules/.cache/compile"),
            ...options.environment,
            ...environment
          },
          ready: () =>
            fetch(`${direct}/health/ready`, { signal: AbortSignal.timeout(2_000) }).then(
              ({ ok }) => ok,
              () => false
            )
        })
        adminKey = /dma_[\w-]+/.exec(process_.output())?.[0] ?? adminKey
      }
      closers.push(async () => process_?.kill())
      const metric = async (metricName: string) => {
        try {
          const response = await fetch(`${direct}/metrics`, {
            headers: { authorization: `Bearer ${adminKey}` },
            signal: AbortSignal.timeout(3_000)
          })
          const lines = (await response.text()).split("\n").filter((line) => line.startsWith(metricName))
          return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0)
        } catch {
          return undefined
        }
      }
      const node: RigNode = {
        ...{ name, port, toPostgres, toNats, fromClients, start, metric },
        url: `http://127.0.0.1:${fromClients.port}`,
        process: () => process_ ?? missing(name)
      }
      return node
    }

    const nodes: Array<RigNode> = []
    for (let number = 1; number <= options.nodes; number++) nodes.push(await openNode(`node-${number}`))
    // The first one makes the schema and the key.
    await nodes[0]?.start()
    await Promise.all(nodes.slice(1).map((node) => node.start()))

    return {
      postgres: {
        ...postgres,
        killAll: async () => {
          signalTree(postgres.pid(), "SIGKILL")
          await Effect.runPromise(postgres.kill9)
        },
        freezeAll: () => signalTree(postgres.pid(), "SIGSTOP"),
        thawAll: () => signalTree(postgres.pid(), "SIGCONT")
      },
      databaseUrl: Redacted.value(postgres.url()),
      ...{ nats, nodes, adminKey, folder, run, close },
      sinkPort: Number(/\d+/.exec(sink.output())?.[0]),
      sinkEntries: () =>
        readFileSync(log, "utf8")
          .split("\n")
          .flatMap((line) => (line === "" ? [] : [JSON.parse(line)])),
      placesPassed: () => new Set(existsSync(placesFile) ? readFileSync(placesFile, "utf8").trim().split("\n") : []),
      proxyFaults: () => proxies.reduce((sum, proxy) => sum + proxy.faults(), 0)
    }
  } catch (error) {
    await close()
    throw error
  }
}

const missing = (name: string): never => {
  throw new Error(`${name} was not started`)
}
