/** Nodes share instances through Postgres alone, and hand them over: in order, after a kill, a freeze, an outage. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Redacted, Schedule, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { Placement } from "../../actors/ports/Placement.ts"
import { NodeName } from "../../protocol/Ids.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import * as ClusterPlacement from "../../src/placement/ClusterPlacement.ts"
import { LeaseLimits } from "../../src/placement/ShardLeases.ts"
import { freshDatabase, ownPostgres } from "../support/Servers.ts"
import { probes } from "./probes.ts"

interface TestNode {
  /** Numbers of the probes that it owns now. */
  readonly owned: () => ReadonlyArray<number>
}

const all = probes.map((_, index) => index)

const placementAt = (name: string, url: Redacted.Redacted, options?: ClusterPlacement.PlacementOptions) =>
  ClusterPlacement.layer(NodeName.make(name), options).pipe(
    Layer.provide(Postgres.layer({ url, connectionsMax: 4, applicationName: `placement ${name}` }))
  )

/** A node within this process. Counts the calls of `onChange`. */
const join = Effect.fnUntraced(function* (layer: Layer.Layer<Placement | ClusterPlacement.Membership, unknown>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const context = yield* Scope.provide(Layer.build(layer), scope).pipe(Effect.orDie)
  return yield* Effect.gen(function* () {
    const placement = yield* Placement
    const membership = yield* ClusterPlacement.Membership
    const changes: Array<number> = []
    const node = {
      placement,
      membership,
      changes,
      owned: () => probes.flatMap((agent, index) => (placement.owns(agent, 0) ? [index] : [])),
      leave: Scope.close(scope, Exit.void)
    }
    yield* Scope.provide(
      placement.onChange(() => changes.push(performance.now())),
      scope
    )
    return node
  }).pipe(Effect.provideContext(context))
})

/** A node in a process of its own. */
const launch = Effect.fnUntraced(function* (name: string, url: Redacted.Redacted, kind = "advisory") {
  const program = fileURLToPath(new URL("./node.ts", import.meta.url))
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [program, name, Redacted.value(url), kind])),
    (started: ChildProcess) =>
      Effect.callback<void>((resume) => {
        if (started.exitCode !== null || started.signalCode !== null) return resume(Effect.void)
        started.once("exit", () => resume(Effect.void))
        started.kill("SIGKILL")
      })
  )
  let owned: ReadonlyArray<number> = []
  let lines = 0
  let rest = ""
  child.stdout?.on("data", (bytes: Buffer) => {
    const texts = (rest + bytes.toString()).split("\n")
    rest = texts.pop() ?? ""
    for (const text of texts) {
      if (!text.startsWith("{")) continue
      lines++
      owned = JSON.parse(text).owned ?? owned
    }
  })
  return {
    owned: () => owned,
    lines: () => lines,
    signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal))
  }
})

/** How long it took, in milliseconds. Dies when it does not come. */
const until = Effect.fnUntraced(function* (what: string, reached: () => boolean, seconds = 10) {
  const began = performance.now()
  yield* Effect.suspend(() => (reached() ? Effect.void : Effect.fail(what))).pipe(
    Effect.retry({ schedule: Schedule.spaced("5 millis"), times: seconds * 200 }),
    Effect.orDie
  )
  return performance.now() - began
})

const ownsAll = (node: TestNode) => () => node.owned().length === all.length
const shared = (one: TestNode, other: TestNode) => () => {
  const [a, b] = [one.owned(), other.owned()]
  return a.length > 0 && b.length > 0 && new Set([...a, ...b]).size === all.length && a.length + b.length === all.length
}

/** Waits until so many shards are locked. */
const locksHeld = (url: Redacted.Redacted, count: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ n: number }>`
      select count(*)::int as n from pg_locks where locktype = 'advisory' and granted and objsubid = 2
    `
    return row?.n === count ? undefined : yield* Effect.fail(`${row?.n} of ${count} shards are locked`)
  }).pipe(
    Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 150 }),
    Effect.provide(Postgres.layer({ url, connectionsMax: 1, applicationName: "looking on" })),
    Effect.orDie
  )

describe("two nodes", () => {
  it.live("share all instances, each owned by one, and the one that stays gets those of the one that leaves", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const one = yield* join(placementAt("one", url))
        yield* until("the first to own all", ownsAll(one))
        const other = yield* join(placementAt("other", url))
        yield* until("both to share", shared(one, other))
        expect(Math.min(one.owned().length, other.owned().length)).toBeGreaterThan(all.length / 4)
        const changes = one.changes.length
        yield* other.leave
        expect(yield* until("the first to own all again", ownsAll(one))).toBeLessThan(1_500)
        expect(one.changes.length).toBeGreaterThan(changes)
        expect(other.owned()).toEqual([])
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )

  it.live("never own the same instance while one hands it to the other, who gets it only after a while", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const one = yield* join(placementAt("one", url))
        yield* until("the first to own all", ownsAll(one))
        const before = one.changes.length
        const other = yield* join(placementAt("other", url))
        let doubles = 0
        yield* until("both to share", () => {
          const mine = new Set(one.owned())
          doubles += other.owned().filter((index) => mine.has(index)).length
          return shared(one, other)()
        })
        expect(doubles).toBe(0)
        const told = one.changes[before] ?? Number.POSITIVE_INFINITY
        const taken = other.changes[0] ?? 0
        // The time in which instances stop and give back what they run.
        expect(taken - told).toBeGreaterThan(500)
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )

  it.live("agree on who runs a singleton, and the other runs it when that one leaves", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const running = new Set<string>()
        let most = 0
        const loop = (name: string) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              running.add(name)
              most = Math.max(most, running.size)
            }),
            () => Effect.never,
            () => Effect.sync(() => running.delete(name))
          )
        const nodes = yield* Effect.forEach(["one", "other"], (name) => join(placementAt(name, url)))
        const [one, other] = nodes
        if (one === undefined || other === undefined) return
        yield* one.placement.singleton("sweep", loop("one"))
        yield* other.placement.singleton("sweep", loop("other"))
        yield* until("both to share", shared(one, other))
        yield* until("one to run", () => running.size === 1)
        const [runner] = running
        yield* runner === "one" ? one.leave : other.leave
        yield* until("the other to run", () => running.has(runner === "one" ? "other" : "one"))
        expect(most).toBe(1)
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )
})

it.live("a singleton that crashes is started again", () =>
  Effect.gen(function* () {
    const url = yield* freshDatabase()
    yield* Effect.gen(function* () {
      const node = yield* join(placementAt("one", url))
      let starts = 0
      yield* node.placement.singleton(
        "fragile",
        Effect.suspend(() => (++starts === 1 ? Effect.die(new Error("a mistake of its own")) : Effect.never))
      )
      yield* until("a second start", () => starts === 2)
    }).pipe(Effect.scoped)
  }).pipe(Effect.scoped)
)

describe("a node that withdraws", () => {
  it.live(
    "gives all to the others within 1 s after its instances have left, holds nothing, and comes back when it is asked",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase()
        yield* Effect.gen(function* () {
          const one = yield* join(placementAt("one", url))
          const other = yield* join(placementAt("other", url))
          yield* until("both to share", shared(one, other))
          const changes = other.changes.length
          yield* other.membership.withdraw(
            Effect.sync(() => {
              expect([other.owned(), other.changes.length, other.placement.takesWork()]).toEqual([
                [],
                changes + 1,
                false
              ])
            })
          )
          expect(yield* until("the first to own all", ownsAll(one))).toBeLessThan(1_000)
          // Longer than anything by which the cluster could take it for one that shares.
          yield* Effect.sleep("1 second")
          expect([other.owned(), other.membership.shards()]).toEqual([[], 0])
          // The last one gives up too: nobody has anything, and nobody takes it by mistake.
          yield* one.membership.withdraw(Effect.void)
          yield* Effect.sleep("1 second")
          expect([one.owned(), other.owned()]).toEqual([[], []])
          yield* one.membership.rejoin
          yield* other.membership.rejoin
          yield* until("both to share again", shared(one, other))
          expect(other.placement.takesWork()).toBe(true)
        }).pipe(Effect.scoped)
      }).pipe(Effect.scoped)
  )
})

describe("instances of one agent", () => {
  const held = (node: { readonly placement: Placement["Service"] }, count: number) =>
    probes.map((agent) => Array.from({ length: count }, (_, index) => node.placement.owns(agent, index)))

  it.live("are on different nodes, and at no time on two at once while nodes come and go", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const names = ["one", "other", "third"]
        const nodes: Array<Effect.Success<ReturnType<typeof join>>> = []
        const apart = () => {
          const each = nodes.map((node) => held(node, nodes.length))
          return probes.every((_, agent) => each.every((node) => node[agent]?.filter(Boolean).length === 1))
        }
        let doubles = 0
        const spread = () => {
          const each = nodes.map((node) => held(node, names.length))
          for (const [agent] of probes.entries()) {
            for (const index of names.keys()) {
              if (each.filter((node) => node[agent]?.[index] === true).length > 1) doubles++
            }
          }
          return apart()
        }
        for (const name of names) {
          nodes.push(yield* join(placementAt(name, url)))
          yield* until(`${nodes.length} to hold one instance each`, spread)
        }
        const leaver = nodes.pop()
        if (leaver === undefined) return
        yield* leaver.membership.withdraw(Effect.void)
        yield* until("two to hold one instance each", spread)
        expect(doubles).toBe(0)
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )
})

describe.each(["advisory", "leases"])("a node in another process, with locks as %s", (kind) => {
  const options = { advisoryLocks: kind === "advisory" }

  it.live("that is killed loses all to the survivor within 5 s; one that ends in order within 1 s", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const survivor = yield* join(placementAt("survivor", url, options))
        const killed = yield* launch("killed", url, kind)
        yield* until("both to share", shared(survivor, killed))
        yield* killed.signal("SIGKILL")
        expect(yield* until("the survivor to own all", ownsAll(survivor))).toBeLessThan(5_000)
        const ended = yield* launch("ended", url, kind)
        yield* until("both to share", shared(survivor, ended))
        yield* ended.signal("SIGTERM")
        expect(yield* until("the survivor to own all", ownsAll(survivor))).toBeLessThan(1_000)
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )

  it.live("that is killed and started again by its name need not wait for what it left", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const killed = yield* launch("same", url, kind)
        yield* until("it to own all", ownsAll(killed))
        yield* killed.signal("SIGKILL")
        const again = yield* join(placementAt("same", url, options))
        expect(yield* until("its successor to own all", ownsAll(again))).toBeLessThan(2_500)
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )
})

describe("a node in another process", () => {
  it.live("that is frozen loses all to the survivor within 6 s, and knows it as soon as it wakes", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      yield* Effect.gen(function* () {
        const survivor = yield* join(placementAt("survivor", url))
        const frozen = yield* launch("frozen", url)
        yield* until("both to share", shared(survivor, frozen))
        yield* frozen.signal("SIGSTOP")
        expect(yield* until("the survivor to own all", ownsAll(survivor))).toBeLessThan(6_000)
        const said = frozen.lines()
        yield* frozen.signal("SIGCONT")
        expect(yield* until("the frozen one to know", () => frozen.lines() > said)).toBeLessThan(1_000)
        yield* until("both to share again", shared(survivor, frozen))
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )
})

describe("an outage of Postgres", () => {
  it.live("takes nothing from anybody when it comes back in time", () =>
    Effect.gen(function* () {
      const postgres = yield* ownPostgres()
      yield* Effect.gen(function* () {
        const one = yield* join(placementAt("one", postgres.url()))
        const other = yield* join(placementAt("other", postgres.url()))
        yield* until("both to share", shared(one, other))
        let starts = 0
        yield* one.placement.singleton(
          "sweep",
          Effect.andThen(
            Effect.sync(() => starts++),
            Effect.never
          )
        )
        const before = [one, other].map((node) => [node.changes.length, node.owned()])
        yield* postgres.kill9
        // Longer than heartbeats and locks last.
        yield* Effect.sleep("3500 millis")
        yield* postgres.start
        yield* locksHeld(postgres.url(), 128)
        expect([one, other].map((node) => [node.changes.length, node.owned()])).toEqual(before)
        // What is kept is held again: it can be handed over.
        yield* other.leave
        yield* until("the first to own all", ownsAll(one))
        yield* until("the singleton to run", () => starts > 0)
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )

  it.live("takes everything from a node when it lasts longer than shards are kept", () =>
    Effect.gen(function* () {
      const postgres = yield* ownPostgres()
      const brief = Layer.effect(
        LeaseLimits,
        Effect.map(LeaseLimits, (limits) => ({ ...limits, keepWithoutPostgres: Duration.seconds(2) }))
      )
      yield* Effect.gen(function* () {
        const node = yield* join(placementAt("one", postgres.url()).pipe(Layer.provide(brief)))
        yield* until("it to own all", ownsAll(node))
        yield* postgres.kill9
        yield* until("it to own nothing", () => node.owned().length === 0)
        yield* postgres.start
        yield* until("it to own all again", ownsAll(node))
      }).pipe(Effect.scoped)
    }).pipe(Effect.scoped)
  )
})
