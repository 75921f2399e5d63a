import { defineConfig } from "vitest/config"
import { TotalsReporter } from "./test/support/TotalsReporter.ts"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    // Processes rather than threads: a test's servers are told to end by the death of the process that started them.
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    reporters: ["default", new TotalsReporter()]
  }
})
