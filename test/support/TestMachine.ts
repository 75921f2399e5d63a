/** What the run's set-up found out about this machine, as plain data, because it crosses from one process to another. */
import type { PostgresPrograms } from "../../src/embedded/PostgresPrograms.ts"

export interface TestMachine {
  /** A temporary folder of this run; everything that tests write lies below it. */
  readonly folder: string
  readonly nats: string
  readonly postgres: PostgresPrograms
  readonly user: { readonly uid: number; readonly gid: number } | null
}
