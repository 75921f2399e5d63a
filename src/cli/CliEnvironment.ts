/**
 * What the environment tells the command line. Read and checked by `config.ts`; given in by the program's entry.
 */
import { Context, type Redacted } from "effect"

export class CliEnvironment extends Context.Service<
  CliEnvironment,
  {
    /** Of the platform to talk to. */
    readonly url: string | undefined
    readonly apiKey: Redacted.Redacted | undefined
    /** Absolute path of the folder where a platform on this machine keeps its files. */
    readonly dataFolder: string
    /** Absolute path of the data folder beside this copy of the program; tools that were fetched are kept there too. */
    readonly ownFolder: string
  }
>()("datamcp/cli/CliEnvironment") {}
