import { defineConfig } from "vitest/config"
import { TotalsReporter } from "./test/support/TotalsReporter.ts"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    // Processes rather than threads: a test's servers are told to end by the death of the process that started them.
    pool: "forks",
    // Most tests wait for servers: one file at a time, the default on two cores, leaves half of the machine idle.
    maxWorkers: 2,
    // A machine that also does other work may starve a real server for seconds; what fails twice is wrong.
    retry: process.env["CI"] === undefined ? 0 : 1,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    reporters: ["default", new TotalsReporter()]
  }
})
