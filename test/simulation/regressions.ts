/**
 * Seeds that have found a mistake once, with what it was; they are run for ever. A world's shape comes from `Options.ts`
 * and `Workload.ts`: once those change, the mistake itself is kept by the test named here.
 */
export const regressions: ReadonlyArray<{ readonly seed: number; readonly found: string }> = [
  {
    seed: 28,
    found: "a claim that came late, after its repetition, won a task for nobody (planted: claims ignore attempts)"
  },
  {
    seed: 4,
    found: "a check answered late took a later claim of the same task for lost: it ran for nobody (LateWord.test.ts)"
  },
  { seed: 22, found: "the run of an outdated order was retried beyond the attempts allowed (Unclaimed.test.ts)" },
  { seed: 69, found: "the same, after messages were stored twice" },
  { seed: 126, found: "the same, after acknowledgements were lost" },
  { seed: 132, found: "the same, after nodes were killed" }
]
