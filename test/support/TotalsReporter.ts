/** The last line of a test run, in plain words and without colour, for people and for programs that read logs. */
import type { Reporter, TestModule } from "vitest/node"

export class TotalsReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>) {
    const states = modules.flatMap((module) => [...module.children.allTests()].map((test) => test.result().state))
    const count = (state: string) => states.filter((each) => each === state).length
    // A file that could not be loaded has no tests to fail: it counts as one failure, as does an error outside tests.
    const broken = modules.filter((module) => module.state() === "failed" && module.errors().length > 0).length
    const failed = count("failed") + broken + errors.length
    console.log(`${count("passed")} passed, ${failed} failed, ${count("skipped")} skipped`)
  }
}
