/** The commands of the documents work when they are pasted as they stand, in order, on a platform that was just started. */
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import manifest from "../../package.json" with { type: "json" }
import { Platform } from "./Platform.ts"
import { runBlocks, shellBlocks } from "./shellBlocks.ts"

/** In the order of reading: later ones use what the README has set up. */
const documents = [
  "README.md",
  "docs/http-api.md",
  "docs/submitting.md",
  "docs/signals.md",
  "docs/streams.md",
  "docs/graphs.md",
  "docs/children.md",
  "docs/agents.md",
  "docs/limits.md",
  "docs/schedules.md",
  "docs/retries.md",
  "docs/webhooks.md",
  "docs/finding.md",
  "docs/versions.md",
  "docs/large-data.md",
  "docs/nodes.md",
  "examples/README.md"
]

layer(Platform.layer, { excludeTestServices: true, timeout: "90 seconds" })("the shell commands of documents", (it) => {
  it.effect(
    "do what they say, and are refused only where that is the point",
    () =>
      Effect.gen(function* () {
        const { folder, url } = yield* Platform
        const blocks = documents.flatMap(shellBlocks).filter(({ skipped }) => skipped === undefined)
        const ran = yield* runBlocks(blocks, { folder, url, patienceMillis: 300_000 })
        const asWritten = blocks.map(({ name, refused }) => ({ name, finished: true, failed: [], refused }))
        // With the output of those blocks that did something else.
        const seen = ran.map(({ output, ...rest }, index) =>
          JSON.stringify(rest) === JSON.stringify(asWritten[index]) ? rest : { ...rest, output: output.slice(-3_000) }
        )
        expect(seen).toEqual(asWritten)
      }),
    // What the commands make is there the second time.
    { timeout: 330_000, retry: 0 }
  )

  it.effect("reach the command line of the clone by npx, which asks nothing and downloads nothing", () =>
    Effect.gen(function* () {
      const { folder } = yield* Platform
      const npx = spawnSync("npx", ["datamcp", "--version"], {
        cwd: folder,
        encoding: "utf8",
        env: { ...process.env, npm_config_cache: join(folder, ".npm"), npm_config_offline: "true" }
      })
      expect(npx.stdout).toContain(manifest.version)
    })
  )
})
