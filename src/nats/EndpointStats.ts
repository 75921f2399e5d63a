/**
 * Counts what each endpoint was asked since the service began, in the form that NATS tools read (`nats micro stats`), and
 * in the node's metrics.
 */
import type { Context } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"

export interface EndpointStats {
  readonly requests: number
  readonly errors: number
  readonly lastError: string
  readonly processingNanos: number
}

export class EndpointCounter {
  readonly #endpoint: string
  readonly #context: Context.Context<never>
  readonly #seconds: ReturnType<typeof Metrics.natsRequestSeconds>
  #requests = 0
  #errors = 0
  #lastError = ""
  #processingMillis = 0

  constructor(endpoint: string, context: Context.Context<never>) {
    this.#endpoint = endpoint
    this.#context = context
    this.#seconds = Metrics.natsRequestSeconds({ endpoint })
  }

  /** Counts an answered request. `error` is undefined when it was answered with what was asked for. */
  count(answered: { readonly code: number; readonly millis: number; readonly error: string | undefined }) {
    this.#requests++
    this.#processingMillis += answered.millis
    if (answered.error !== undefined) {
      this.#errors++
      this.#lastError = `${answered.code}:${answered.error}`
    }
    this.#seconds.updateUnsafe(answered.millis / 1_000, this.#context)
    Metrics.natsRequests({ endpoint: this.#endpoint, code: String(answered.code) }).updateUnsafe(1, this.#context)
  }

  read(): EndpointStats {
    return {
      requests: this.#requests,
      errors: this.#errors,
      lastError: this.#lastError,
      processingNanos: Math.round(this.#processingMillis * 1e6)
    }
  }
}
