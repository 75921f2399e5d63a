/**
 * Owns the contract's limits: numbers that a client can run into, each with its unit in the name.
 *
 * They are constants because schemas and documents are made from them. Limits that an operator may tune live beside
 * the part they bound, as references.
 */

/** Largest JSON body of a single command, in bytes. */
export const bodyBytesMax = 1024 * 1024
/** Largest body of a batch or graph, in bytes. */
export const batchBodyBytesMax = 64 * 1024 * 1024
/** Deepest nesting of a JSON body. */
export const jsonDepthMax = 32
/** Largest payload of a task that is stored inline, in bytes of UTF-8 JSON. Larger data goes into an artifact. */
export const payloadBytesMax = 256 * 1024
/** Largest result of a task that is stored inline, in bytes of UTF-8 JSON. */
export const resultBytesMax = 256 * 1024
/** Largest artifact, in bytes. */
export const artifactBytesMax = 64 * 1024 * 1024
/** Most tasks in one batch. */
export const batchTasksMax = 10_000
/** Most tasks in one graph. */
export const graphTasksMax = 10_000
/** Most dependencies of all tasks of a graph together. */
export const graphDependenciesMax = 100_000
/** Most elements of one map. */
export const mapElementsMax = 10_000
/** Most comparisons in one condition. */
export const conditionTermsMax = 100
/** Longest JSON Pointer of a condition or a map, in characters. */
export const pointerCharactersMax = 1_000
/** Most dependencies of one task. */
export const dependenciesMax = 1_000
/** Most attempts that a retry policy may allow. */
export const attemptsMax = 100
/** Longest run of one attempt, in milliseconds (24 hours). */
export const timeoutMillisMax = 86_400_000
/** Longest delay between attempts, in milliseconds (24 hours). */
export const retryDelayMillisMax = 86_400_000
/** Farthest `run_at` or `deadline`, in milliseconds from now (400 days). */
export const scheduleAheadMillisMax = 400 * 86_400_000
/** Most entries of a page. */
export const pageEntriesMax = 500
/** Entries of a page when the caller does not say. */
export const pageEntriesDefault = 50
/** Longest wait for the end of a task in one call, in milliseconds. */
export const waitMillisMax = 60_000
/** Longest idempotency key, in characters. */
export const idempotencyKeyCharactersMax = 255
/** How long an idempotency key is remembered, in hours. */
export const idempotencyKeyHours = 72
/** Longest name of a task, in characters. */
export const nameCharactersMax = 200
/** Longest description, in characters. */
export const descriptionCharactersMax = 4_000
/** Most labels of a task or agent. */
export const labelsMax = 64
/** Longest key or value of a label, in characters. */
export const labelCharactersMax = 255
/** Most capabilities of an agent. */
export const capabilitiesMax = 100
/** Most instances of an agent. */
export const instancesMax = 100
/** Most tasks that one instance runs at a time. */
export const concurrentTasksMax = 10_000
/** Most event streams that one principal may hold open on one node. */
export const openStreamsMax = 100
