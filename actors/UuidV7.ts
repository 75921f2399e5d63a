/**
 * Makes UUIDv7 (RFC 9562, section 5.7, with a counter in `rand_a` as in section 6.2, method 1).
 *
 * Invariant: ids of one process sort in the order in which they were made, also within a millisecond and when the
 * clock steps back. That order is the routing order of tasks (G5).
 */
import { Clock, Context, Effect, Layer } from "effect"

export class UuidV7 extends Context.Service<UuidV7, { readonly next: () => string }>()("datamcp/actors/UuidV7") {
  static readonly layer = Layer.effect(
    UuidV7,
    Effect.map(Clock.Clock, (clock) => {
      const pool = new Uint8Array(4_096)
      let used = pool.length
      let last = 0
      let counter = 0
      const hex = (byte: number | undefined) => hexBytes[byte ?? 0] ?? "00"
      const next = () => {
        const now = clock.currentTimeMillisUnsafe()
        if (now > last) {
          last = now
          counter = 0
        } else if (++counter > 0xfff) {
          // More than 4,096 in a millisecond: run ahead of the clock rather than repeat.
          last++
          counter = 0
        }
        if (used + 8 > pool.length) {
          crypto.getRandomValues(pool)
          used = 0
        }
        const at = used
        used += 8
        const time = last.toString(16).padStart(12, "0")
        const count = counter.toString(16).padStart(3, "0")
        const variant = hex(((pool[at] ?? 0) & 0x3f) | 0x80)
        let node = ""
        for (let index = 2; index < 8; index++) node += hex(pool[at + index])
        return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${variant}${hex(pool[at + 1])}-${node}`
      }
      return UuidV7.of({ next })
    })
  )
}

const hexBytes = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))

/** When an id of ours was made, in milliseconds since 1970. */
export const madeAt = (id: string): number => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
