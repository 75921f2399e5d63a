/**
 * Decides, as a pure function, what a crash leads to: another start after a delay, or escalation when there were more
 * than `crashesMax` within the window, both of its ends included (OTP's restart intensity).
 */
export interface RestartPolicy {
  /** Crashes within the window that are still answered with a restart. */
  readonly crashesMax: number
  readonly windowMillis: number
  /** Delay after the first crash of the window; doubles with each, up to `delayMaxMillis`. */
  readonly delayMillis: number
  readonly delayMaxMillis: number
}

/** For the crashes of an instance's tasks together. */
export const restartPolicy: RestartPolicy = {
  crashesMax: 20,
  windowMillis: 60_000,
  delayMillis: 100,
  delayMaxMillis: 5_000
}

export interface Crashes {
  /** Moments of the crashes that count, oldest first, in milliseconds. */
  readonly at: ReadonlyArray<number>
}

export const noCrashes: Crashes = { at: [] }

export const crashed = (
  crashes: Crashes,
  nowMillis: number,
  policy: RestartPolicy
): { readonly crashes: Crashes; readonly escalate: boolean; readonly delayMillis: number } => {
  const at = [...recent(crashes, nowMillis, policy), nowMillis]
  return {
    crashes: { at },
    escalate: at.length > policy.crashesMax,
    delayMillis: Math.min(policy.delayMaxMillis, policy.delayMillis * 2 ** Math.min(at.length - 1, 30))
  }
}

/** Those that still count. */
export const recent = (crashes: Crashes, nowMillis: number, policy: RestartPolicy): ReadonlyArray<number> =>
  crashes.at.filter((moment) => nowMillis - moment <= policy.windowMillis)
