/**
 * Lists come in pages; this is how a command asks for one and shows it.
 */
import { Flag } from "effect/cli"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Ink } from "./Ink.ts"

export const pageFlags = {
  limit: Flag.Int("limit").pipe(
    Flag.withAlias("n"),
    Flag.withDescription(`Entries wanted, 1 to ${Limits.pageEntriesMax}; ${Limits.pageEntriesDefault} if not given`),
    Flag.optional
  ),
  cursor: Flag.String("cursor").pipe(Flag.withDescription("Where the page before ended"), Flag.optional)
}

/** A page as a table, and how to get the next one. */
export const showPage =
  <A>(things: string, table: (entries: ReadonlyArray<A>, ink: Ink) => string) =>
  (page: Page<A>, ink: Ink): string => {
    if (page.data.length === 0) return `No ${things}.`
    const more = page.next_cursor === null ? "" : `\n${ink.dim(`More: --cursor ${page.next_cursor}`)}`
    return table(page.data, ink) + more
  }
