/**
 * Mistakes that are put into the models or the product on purpose: the simulation must find each of them, or what it finds
 * nothing of says nothing.
 */
import { Duration, Effect } from "effect"
import type { Settings } from "./Simulation.ts"
import type { Flaw } from "./Tables.ts"

const flaw = (name: Flaw): Settings => ({ flaws: new Set([name]) })

/** Each with the first seed that finds it, and the words of a promise that it may break first. */
export const planted: ReadonlyArray<{
  readonly name: string
  readonly seed: number
  readonly settings: Settings
  readonly breaks: RegExp
}> = [
  { name: "claims ignore epochs", seed: 38, settings: flaw("claims ignore epochs"), breaks: /present epoch/ },
  {
    name: "claims ignore attempts",
    seed: 297,
    settings: flaw("claims ignore attempts"),
    breaks: /slots|task ends|no slot/
  },
  {
    name: "ends ignore attempts and epochs",
    seed: 11,
    settings: flaw("ends ignore attempts and epochs"),
    breaks: /only the live attempt|an end is final|a result comes from a run/
  },
  {
    name: "a repeated claim finds nothing",
    seed: 4,
    settings: flaw("a repeated claim finds nothing"),
    breaks: /slots|task ends|no slot/
  },
  {
    name: "a takeover leaves what ran",
    seed: 1,
    settings: flaw("a takeover leaves what ran"),
    breaks: /slots|task ends|no slot|live attempt|one run at a time/
  },
  {
    name: "a takeover counts no attempts",
    seed: 3,
    settings: flaw("a takeover counts no attempts"),
    breaks: /every task ends|attempts are bounded/
  },
  {
    name: "idempotency keys are forgotten",
    seed: 1,
    settings: flaw("idempotency keys are forgotten"),
    breaks: /a key makes one thing/
  },
  { name: "one parent is enough", seed: 1, settings: flaw("one parent is enough"), breaks: /after its parents/ },
  { name: "ends release nobody", seed: 1, settings: flaw("ends release nobody"), breaks: /every task ends/ },
  {
    name: "an end is answered and not written",
    seed: 1,
    settings: flaw("an end is answered and not written"),
    breaks: /every task ends|slots/
  },
  {
    name: "an accept is answered and not written",
    seed: 2,
    settings: flaw("an accept is answered and not written"),
    breaks: /acknowledged is there/
  },
  {
    name: "a cancel ends what has ended",
    seed: 5,
    settings: flaw("a cancel ends what has ended"),
    breaks: /an end is final/
  },
  { name: "an event is left out", seed: 1, settings: flaw("an event is left out"), breaks: /no gaps/ },
  {
    name: "a claim counts no attempt",
    seed: 1,
    settings: flaw("a claim counts no attempt"),
    breaks: /nothing runs without|task ends/
  },
  {
    name: "the reconciler is off",
    seed: 1,
    settings: { mutate: { withoutReconciler: true } },
    breaks: /every task ends/
  },
  {
    name: "nobody looks for forgotten work",
    seed: 333,
    // Not the reconciler, and not the hosts and instances that look into the ledger by themselves.
    settings: {
      mutate: {
        reconciler: (limits) => ({ ...limits, forgottenEvery: Duration.infinity }),
        host: (limits) => ({ ...limits, sweepWithin: Duration.infinity }),
        instance: (limits) => ({ ...limits, backlogWithin: Duration.infinity })
      }
    },
    breaks: /every task ends/
  },
  {
    name: "an instance runs what it did not win",
    seed: 10,
    settings: {
      mutate: {
        ledger: (ledger) => ({
          ...ledger,
          claim: (slot, orders, ...rest) =>
            Effect.map(ledger.claim(slot, orders, ...rest), ({ claimed, fenced }) => {
              const won = new Set(claimed.map(({ id }) => id))
              const lost = orders.filter(({ id }) => !won.has(id))
              const attempt = (attempts = 0) => attempts + 1
              return {
                fenced,
                claimed: [
                  ...claimed,
                  ...lost.map(({ attempts, id }) => ({
                    ...{ id, attempt: attempt(attempts), startedBy: 0, startedAtMillis: 0, payload: undefined }
                  }))
                ]
              }
            })
        })
      }
    },
    breaks: /nothing runs without its claim|at most once|after its parents|one run at a time/
  }
]

/** Not a mistake that loses anything: messages are hints, so one that is acknowledged too early costs time only. */
export const tolerated: Settings = {
  mutate: {
    bus: (bus) => ({
      ...bus,
      consume: (options) =>
        bus.consume({
          ...options,
          onDelivery: (delivery) => {
            delivery.ack()
            options.onDelivery(delivery)
          }
        })
    })
  }
}
