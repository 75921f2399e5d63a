/**
 * A simulated Postgres behind the `SqlClient` of each process: what the ledger sends is done by `Statements`, and what the
 * network and the server can do to it is done here.
 *
 *   sent --> [lost] --> done (COMMIT) --> [answer lost] --> answered
 *     '--> [fails, and is done late all the same]   '--> [silence]
 *
 * A statement that was sent is done even if its sender dies. During an outage nothing is done and every connection breaks;
 * what has committed stays.
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { Chance } from "./Chance.ts"
import type { Machine, Process } from "./Machine.ts"
import * as Statements from "./Statements.ts"
import type { Tables } from "./Tables.ts"

/** Chances of a statement; the rest is answered after up to twice `latencyMillis`. */
export interface PostgresFaults {
  readonly latencyMillis: number
  /** It fails and is never done. */
  readonly lost: number
  /** It is done, and its answer is lost. */
  readonly answerLost: number
  /** Nothing comes back; it was done or not. */
  readonly silent: number
  /** It fails, and is done up to `lateMillis` later all the same. */
  readonly late: number
  readonly lateMillis: number
}

export const healthy: PostgresFaults = {
  latencyMillis: 2,
  lost: 0,
  answerLost: 0,
  silent: 0,
  late: 0,
  lateMillis: 0
}

export interface SimPostgres {
  readonly of: (process: Process) => SqlClient.SqlClient
  /** The same for what is not SQL: a store modelled at its port. `fail` makes the error. */
  readonly ask: <A, E>(process: Process, name: string, run: () => A, fail: () => E) => Effect.Effect<A, E>
  readonly setFaults: (faults: PostgresFaults) => void
  readonly outage: (millis: number) => void
  /** Statements that were done. */
  readonly done: () => number
}

/** As `StorePatience` has it. */
const patience = "5 seconds"

export const make = (machine: Machine, chance: Chance, tables: Tables): SimPostgres => {
  let faults = healthy
  let awayUntil = 0
  let done = 0

  const isAway = () => machine.now() < awayUntil
  const latency = () => 1 + chance.below(Math.max(1, faults.latencyMillis))

  const broken = (what: string) =>
    new SqlError({ reason: new ConnectionError({ cause: new Error(what), message: what, operation: "execute" }) })

  /** Does a statement now. What a statement refuses would be a mistake of the model, and ends the simulation. */
  const perform = <A>(process: Process, name: string, run: () => A): A => {
    tables.begin()
    done++
    const answer = run()
    const rows = Array.isArray(answer) ? answer.length : 1
    machine.say(`${process.name} ${name} ${rows}`)
    return answer
  }

  const send = <A, E>(process: Process, name: string, run: () => A, fail: (what: string) => E) =>
    Effect.callback<A, E>((resume) => {
      const answer = (effect: Effect.Effect<A, E>) => void process.after(latency(), () => resume(effect))
      const breaks = (what: string) => {
        machine.say(`${process.name} ${name} ${what}`)
        answer(Effect.fail(fail(what)))
      }
      const arrives = (then: (answer: A) => void) =>
        machine.after(latency(), () => {
          if (isAway()) breaks("connection lost")
          else then(perform(process, name, run))
        })
      if (isAway()) return breaks("connection refused")
      let dice = chance.next()
      const isNow = (probability: number) => {
        dice -= probability
        return dice < 0
      }
      if (isNow(faults.lost)) return breaks("request lost")
      if (isNow(faults.answerLost)) return arrives(() => breaks("answer lost"))
      if (isNow(faults.silent)) {
        if (chance.is(0.5)) arrives(() => machine.say(`${process.name} ${name} silence`))
        return
      }
      if (isNow(faults.late)) {
        machine.after(chance.between(1, faults.lateMillis), () => {
          if (!isAway()) perform(process, `late ${name}`, run)
        })
        return breaks("connection lost before it was done")
      }
      arrives((rows) => answer(Effect.succeed(rows)))
    })

  const of = (process: Process): SqlClient.SqlClient => {
    const statement = (text: string, params: ReadonlyArray<unknown> = []) => {
      const known = Statements.find(text)
      return send(process, known.name, () => known.run(tables, params), broken)
    }
    const client = (strings: ReadonlyArray<string>, ...params: ReadonlyArray<unknown>) =>
      statement(strings.join("?"), params)
    return Object.assign(client, { unsafe: statement }) as unknown as SqlClient.SqlClient
  }

  return {
    of,
    ask: (process, name, run, fail) =>
      Effect.timeoutOrElse(send(process, name, run, fail), {
        duration: patience,
        orElse: () => Effect.fail(fail())
      }),
    setFaults: (next) => {
      faults = next
    },
    outage: (millis) => {
      machine.say(`postgres is away for ${millis} ms`)
      awayUntil = machine.now() + millis
    },
    done: () => done
  }
}
