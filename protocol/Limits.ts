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
/** Largest JSON body of a command that submits one task with a large payload, in bytes. */
export const largeBodyBytesMax = 65 * 1024 * 1024
/** Largest payload or result of a task, in bytes of UTF-8 JSON, unless a node is configured for less. */
export const largeDataBytesMax = 64 * 1024 * 1024
/** Largest payload of a task that is stored inline, in bytes of UTF-8 JSON. Larger ones become artifacts by themselves. */
export const payloadBytesMax = 256 * 1024
/** Largest result of a task that is stored inline, in bytes of UTF-8 JSON. Larger ones become artifacts by themselves. */
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
/** Longest time from the first attempt to the last one's begin that a retry policy may allow, in milliseconds (30 days). */
export const retryTotalMillisMax = 30 * 86_400_000
/** Most error codes that `retry_on` or `never_retry_on` of a retry policy may list. */
export const retryErrorPatternsMax = 32
/** Longest key of `unique` or `coalesce`, in characters. */
export const taskKeyCharactersMax = 255
/** Longest time that a task waits for submissions to join it, in milliseconds (24 hours). */
export const coalesceMillisMax = 86_400_000
/** Most submissions whose payloads one task gathers. Together they have at most `payloadBytesMax`. */
export const coalescedItemsMax = 1_000
/** Longest time within which a task must be started, in milliseconds (30 days). */
export const queueTimeoutMillisMax = 30 * 86_400_000
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
/** Longest message of a report of progress, in characters; what is longer is cut. */
export const progressMessageCharactersMax = 1_000
/** Most labels of a task or agent. */
export const labelsMax = 64
/** Longest key or value of a label, in characters. */
export const labelCharactersMax = 255
/** Most versions of an agent's definition that are kept; older ones go. */
export const agentVersionsMax = 100
/** Most capabilities of an agent. */
export const capabilitiesMax = 100
/** Largest schema of the payloads of a capability, in characters of JSON. */
export const payloadSchemaCharactersMax = 32 * 1024
/** Deepest nesting of schemas in such a schema. */
export const payloadSchemaDepthMax = 12
/** Deepest nesting of a payload and its schema that is checked. */
export const payloadCheckDepthMax = 100
/** Most steps of checking one payload; a step is one rule at one value, or 16 characters of a text. */
export const payloadCheckStepsMax = 500_000
/** Most broken rules that are told of one payload. */
export const payloadViolationsMax = 20
/** Longest pattern of a payload's schema, in characters. */
export const payloadPatternCharactersMax = 200
/** Most agents that are asked whether they take a payload, when a task names a type only. */
export const payloadAgentsAskedMax = 8
/** Most instances of an agent. */
export const instancesMax = 100
/** Most tasks that one instance runs at a time. */
export const concurrentTasksMax = 10_000
/** Most event streams that one principal may hold open on one node. */
export const openStreamsMax = 100
/** Most schedules of a namespace. */
export const schedulesMax = 1_000
/** Longest cron expression, in characters. */
export const cronCharactersMax = 200
/** Largest task or graph of a schedule, in bytes of UTF-8 JSON. */
export const scheduleTemplateBytesMax = 256 * 1024
/** Shortest interval between the runs of a schedule, in milliseconds. */
export const scheduleIntervalMillisMin = 1_000
/** Largest jitter of a schedule, in milliseconds (24 hours). */
export const scheduleJitterMillisMax = 86_400_000
/** How late a run of a schedule may start before it counts as missed, in milliseconds. */
export const scheduleGraceMillis = 60_000
/** Most missed runs of a schedule that are made up. */
export const scheduleCatchUpRunsMax = 100
/** Most due times of one preview. */
export const schedulePreviewMax = 100
/** Due times of a preview when the caller does not say. */
export const schedulePreviewDefault = 5
/** Most webhooks of a namespace. */
export const webhooksMax = 100
/** Most hooks of a namespace. */
export const hooksMax = 100
/** Most deliveries of one webhook that are in flight at a time. */
export const webhookConcurrencyMax = 32
/** Longest time an endpoint may take to answer a delivery, in milliseconds (10 seconds). */
export const webhookTimeoutMillisMax = 10_000
/** Most of an endpoint's answer that is read, in bytes. */
export const webhookAnswerBytesMax = 64 * 1024
/** How long a delivery is tried, in hours. */
export const webhookTryHours = 72
/** Most deliveries of one webhook that wait; more disable it. */
export const webhookWaitingMax = 50_000
/** Deliveries of one webhook that are kept for its log. */
export const webhookDeliveriesKeptMax = 20_000
/** Most deliveries that one replay sends again. */
export const webhookReplayMax = 10_000
/** Longest time that a secret is good beside its successor, in milliseconds (7 days). */
export const webhookOverlapMillisMax = 7 * 86_400_000
/** Largest body of a request to a hook, in bytes. */
export const hookBodyBytesMax = 256 * 1024
/** Most requests of a hook per minute that one node takes. */
export const hookPerMinuteMax = 60_000
/** Largest payload of a signal, in bytes of UTF-8 JSON. */
export const signalPayloadBytesMax = 64 * 1024
/** Most signals that one task is sent in its life. */
export const signalsMax = 1_000
/** Largest chunk of a stream, in bytes of UTF-8 JSON. */
export const chunkBytesMax = 64 * 1024
/** What a chunk counts beside its JSON towards the bounds of a task's streams, in bytes. */
export const chunkOverheadBytes = 256
/** Largest sum of all chunks of one task, in bytes. */
export const taskStreamsBytesMax = 64 * 1024 * 1024
/** Most bytes of chunks that one task emits per second; faster ones are slowed down. */
export const chunkBytesPerSecond = 1024 * 1024
/** Most streams of one task. */
export const streamsMax = 16
/** Longest time to live of a result, in milliseconds (400 days). */
export const resultTtlMillisMax = 400 * 86_400_000
/** Most values of one filter that takes several. */
export const filterValuesMax = 20
/** Longest condition on a payload or metadata, in characters. */
export const conditionCharactersMax = 512
/** Where a dry run stops counting, in tasks. */
export const dryRunCountMax = 10_000
/** Most rules of a namespace's retention. */
export const retentionRulesMax = 50
/** Longest time after which a retention rule deletes, in milliseconds (3650 days). */
export const retentionMillisMax = 3_650 * 86_400_000
/** Most children whose ends one await waits for. */
export const awaitedChildrenMax = 1_000
/** Largest sum of the results that an await for children answers with, in bytes of JSON; those beyond it are left out. */
export const awaitedResultBytesMax = 1024 * 1024
/** Most children that a waiting task names in its view. */
export const awaitedChildrenShown = 10
/** Most attempts that are shown of one task. */
export const attemptsShownMax = 500
/** Most dead letters of a page. */
export const deadLettersPageMax = 100
/** Most limits of a namespace. */
export const limitsMax = 100
/** Longest expression of a key, in characters. */
export const keyExpressionCharactersMax = 500
/** Longest value of a key that a limit reads from a task, in characters. */
export const limitKeyCharactersMax = 255
/** Most tasks of a key that a limit may allow at a time. */
export const limitConcurrencyMax = 1_000_000
/** Most tasks of a window, or of a burst, of a rate. */
export const rateLimitMax = 1_000_000
/** Longest window of a rate, in milliseconds (31 days). */
export const rateWindowMillisMax = 31 * 86_400_000
/** Most keys in the usage of a limit. */
export const usageKeysMax = 50
/** Where counting the tasks that wait for a key stops. */
export const waitingCountedMax = 10_000
/** Most agents of one page of the supervision tree. */
export const supervisionAgentsMax = 50
/** Most running tasks that the supervision tree names of one instance. */
export const supervisionTasksMax = 5
/** How long nodes may take to answer for the supervision tree, in milliseconds. */
export const supervisionAnswerMillisMax = 1_000
/** Longest reason of what is ordered of an instance, in characters. */
export const supervisionReasonCharactersMax = 1_000

/** Smallest and largest bound on the memory of a process that runs an isolated behaviour, in MiB. */
export const isolationMemoryMibMin = 192
export const isolationMemoryMibMax = 1_048_576
/** Most processes of one instance of an isolated behaviour; each runs one attempt at a time. */
export const isolationProcessesMax = 64
/** Shortest time that the event loop of an isolated behaviour may be allowed to stand still, in milliseconds. */
export const isolationUnresponsiveMillisMin = 1_000
/** Most calls of one isolated attempt to its node that are open at a time; others wait. */
export const isolatedCallsMax = 32
/** Largest message of an isolated attempt to its node, in bytes of JSON; its result has a bound of its own. */
export const isolatedMessageBytesMax = 8 * 1024 * 1024
