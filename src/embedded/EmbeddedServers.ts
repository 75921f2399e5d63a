/**
 * The servers a platform on one machine stands on: those the configuration names, and real ones of our own for the rest.
 *
 * A server that is named is not started, and nothing is fetched for it. Ours are ended with the scope, nats-server before
 * Postgres, also when the scope closes in the middle of a start. Their data survive.
 */
import { Context, Effect, Layer, Option, type Redacted } from "effect"
import { DataFolder } from "./DataFolder.ts"
import * as EmbeddedNats from "./EmbeddedNats.ts"
import * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
import { type EmbeddedProblem, unwritable } from "./EmbeddedProblem.ts"
import type { NatsCredentials } from "./NatsServer.ts"
import type { SupervisedChild } from "./SupervisedChild.ts"

export interface ServersWanted {
  /** `.datamcp`; used only when a server of our own is needed. */
  readonly folder: string
  readonly databaseUrl: Option.Option<Redacted.Redacted>
  readonly natsUrl: Option.Option<string>
}

export class EmbeddedServers extends Context.Service<
  EmbeddedServers,
  {
    readonly databaseUrl: Redacted.Redacted
    readonly natsUrl: string
    /** For the nodes: may do everything. `none` when NATS was named: its url or surroundings say how to get in. */
    readonly natsAuth: Option.Option<NatsCredentials>
    /** For programs that use the platform over NATS: may call its service only. `none` as above. */
    readonly natsClientAuth: Option.Option<NatsCredentials>
    /** The processes that run right now; `none` for a named server and between a death and the next start. */
    readonly pids: Effect.Effect<{ readonly postgres: Option.Option<number>; readonly nats: Option.Option<number> }>
    /** Never succeeds. Fails when one of ours has died too often to go on. */
    readonly gaveUp: Effect.Effect<never, EmbeddedProblem>
  }
>()("datamcp/embedded/EmbeddedServers") {
  /** Fails with `EmbeddedProblem`, whose message is meant for the person who started us. */
  static readonly layer = (wanted: ServersWanted) =>
    Option.isSome(wanted.databaseUrl) && Option.isSome(wanted.natsUrl)
      ? Layer.succeed(EmbeddedServers, allNamed(wanted.databaseUrl.value, wanted.natsUrl.value))
      : Layer.effect(EmbeddedServers, startOurs(wanted)).pipe(Layer.provide(DataFolder.layer(wanted.folder)))
}

const allNamed = (databaseUrl: Redacted.Redacted, natsUrl: string): EmbeddedServers["Service"] => ({
  databaseUrl,
  natsUrl,
  natsAuth: Option.none(),
  natsClientAuth: Option.none(),
  pids: Effect.succeed({ postgres: Option.none(), nats: Option.none() }),
  gaveUp: Effect.never
})

const startOurs = Effect.fn("EmbeddedServers.start")(
  function* ({ databaseUrl, natsUrl }: ServersWanted) {
    const [postgres, nats] = yield* Effect.all(
      [unlessNamed(databaseUrl, EmbeddedPostgres.prepare), unlessNamed(natsUrl, EmbeddedNats.prepare)],
      { concurrency: 2 }
    )
    // One after the other: a scope ends things in the reverse of the order in which they began.
    const postgresChild = yield* ifOurs(postgres, EmbeddedPostgres.run)
    const natsChild = yield* ifOurs(nats, EmbeddedNats.run)
    const gaveUp = [postgresChild, natsChild].flatMap(Option.toArray).map((child) => child.gaveUp)
    return EmbeddedServers.of({
      databaseUrl: Option.match(postgres, { onNone: () => named(databaseUrl), onSome: ({ url }) => url }),
      natsUrl: Option.match(nats, { onNone: () => named(natsUrl), onSome: ({ url }) => url }),
      natsAuth: Option.map(nats, ({ nodeCredentials }) => nodeCredentials),
      natsClientAuth: Option.map(nats, ({ clientCredentials }) => clientCredentials),
      pids: Effect.all({ postgres: pidOf(postgresChild), nats: pidOf(natsChild) }),
      gaveUp: Effect.raceAllFirst([Effect.never, ...gaveUp])
    })
  },
  (effect, { folder }) => Effect.catchTag(effect, "PlatformError", (cause) => Effect.fail(unwritable(folder)(cause)))
)

const unlessNamed = <A, E, R>(name: Option.Option<unknown>, ours: Effect.Effect<A, E, R>) =>
  Option.isSome(name) ? Effect.succeedNone : Effect.asSome(ours)

const ifOurs = <A, B, E, R>(prepared: Option.Option<A>, run: (prepared: A) => Effect.Effect<B, E, R>) =>
  Option.match(prepared, { onNone: () => Effect.succeedNone, onSome: (ours) => Effect.asSome(run(ours)) })

const pidOf = (child: Option.Option<SupervisedChild>) =>
  Option.match(child, { onNone: () => Effect.succeedNone, onSome: ({ pid }) => pid })

/** A server that is not ours was named. */
const named = <A>(name: Option.Option<A>): A => Option.getOrThrow(name)
