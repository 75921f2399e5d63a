/**
 * Whether this node has finished starting: migrated, directory loaded, doors open. Set by the composition root, read by
 * readiness. False again from the moment an orderly stop begins, so that traffic goes elsewhere first.
 */
import { Context, Effect, Layer, Ref } from "effect"

export class Startup extends Context.Service<Startup, { readonly ready: Ref.Ref<boolean> }>()("datamcp/app/Startup") {
  static readonly layer = Layer.effect(
    Startup,
    Effect.map(Ref.make(false), (ready) => Startup.of({ ready }))
  )
}
