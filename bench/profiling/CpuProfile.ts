/**
 * A sampled CPU profile of a Node process that was started with `--inspect`, taken over its inspector between two moments, and
 * what it says as text: which functions, files and parts the time went to.
 */
import { fileURLToPath } from "node:url"

interface CallFrame {
  readonly functionName: string
  readonly url: string
  readonly lineNumber: number
}

export interface CpuProfile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: CallFrame
    readonly children?: ReadonlyArray<number>
  }>
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

export interface Profiler {
  readonly start: () => Promise<void>
  readonly stop: () => Promise<CpuProfile>
  readonly close: () => void
}

/** `output` is what the process wrote at its start: it names the inspector's address. */
export const attachProfiler = async (output: string): Promise<Profiler> => {
  const address = /Debugger listening on (ws:\S+)/.exec(output)?.[1]
  if (address === undefined) throw new Error(`the process told no inspector:\n${output}`)
  const socket = new WebSocket(address)
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true })
    socket.addEventListener("error", reject, { once: true })
  })
  const pending = new Map<number, (result: any) => void>()
  let serial = 0
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(String(data))
    pending.get(message.id)?.(message.result)
    pending.delete(message.id)
  })
  const ask = (method: string, params: object = {}) =>
    new Promise<any>((resolve) => {
      const id = ++serial
      pending.set(id, resolve)
      socket.send(JSON.stringify({ id, method, params }))
    })
  await ask("Profiler.enable")
  await ask("Profiler.setSamplingInterval", { interval: 500 })
  return {
    start: () => ask("Profiler.start"),
    stop: async () => (await ask("Profiler.stop")).profile,
    close: () => socket.close()
  }
}

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Where a function stands, short: the package, or the file of ours. */
const placeOf = ({ url }: CallFrame): string => {
  if (url === "") return "(native)"
  if (url.startsWith("node:")) return url
  const path = url.replace(/^file:\/\//, "").replace(root, "")
  return path.replace(/^.*node_modules\//, "")
}

/** Which part a function belongs to: one line each in the summary. */
const partOf = (frame: CallFrame): string => {
  const place = placeOf(frame)
  const { functionName } = frame
  if (place === "(native)")
    return /garbage/.test(functionName)
      ? "garbage collection"
      : /program|idle/.test(functionName)
        ? functionName
        : "native (JSON, buffers, strings)"
  if (place.startsWith("node:"))
    return place.startsWith("node:internal/http") || /_http/.test(place) ? "node http" : "node streams, net, timers"
  if (place.startsWith("effect/")) {
    if (/Schema|SchemaAST|Parser|schema/i.test(place)) return "effect Schema"
    if (/http/i.test(place)) return "effect http"
    if (/Metric/.test(place)) return "effect Metric"
    if (/Tracer|tracer|Log/.test(place)) return "effect Tracer, Logger"
    return "effect runtime"
  }
  const scoped = /^(@[^/]+\/[^/]+|[^/]+)\//.exec(place)?.[1]
  const ours = /^(src\/[^/]+|actors|protocol)\//.exec(place)?.[1]
  return ours ?? scoped ?? place
}

/** Microseconds spent in each function itself, summed by `keyOf`. */
const selfTimes = (profile: CpuProfile, keyOf: (frame: CallFrame) => string): ReadonlyMap<string, number> => {
  const frames = new Map(profile.nodes.map(({ callFrame, id }) => [id, callFrame]))
  const times = new Map<string, number>()
  profile.samples.forEach((id, index) => {
    const frame = frames.get(id)
    if (frame === undefined) return
    const key = keyOf(frame)
    times.set(key, (times.get(key) ?? 0) + (profile.timeDeltas[index] ?? 0))
  })
  return times
}

/** Microseconds with a function of ours anywhere on the stack, counted once however often it stands there. */
const inclusiveTimes = (profile: CpuProfile): ReadonlyMap<string, number> => {
  const parents = new Map<number, number>()
  for (const { children = [], id } of profile.nodes) for (const child of children) parents.set(child, id)
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const stacks = new Map<number, ReadonlySet<string>>()
  const stackOf = (id: number): ReadonlySet<string> => {
    const known = stacks.get(id)
    if (known !== undefined) return known
    const parent = parents.get(id)
    const stack = new Set(parent === undefined ? [] : stackOf(parent))
    const frame = nodes.get(id)?.callFrame
    if (frame !== undefined && /^(src|actors|protocol)\//.test(placeOf(frame))) stack.add(nameOf(frame))
    stacks.set(id, stack)
    return stack
  }
  const times = new Map<string, number>()
  profile.samples.forEach((id, index) => {
    for (const name of stackOf(id)) times.set(name, (times.get(name) ?? 0) + (profile.timeDeltas[index] ?? 0))
  })
  return times
}

const nameOf = (frame: CallFrame): string =>
  `${frame.functionName || "(anonymous)"} ${placeOf(frame)}${frame.url === "" ? "" : `:${frame.lineNumber + 1}`}`

/** The profile as text: time per task by part, by function itself, and by function of ours with all that it calls. */
export const profileText = (profile: CpuProfile, tasks: number, top = 25): string => {
  const idle = /^\((idle|program)\)/
  const table = (times: ReadonlyMap<string, number>, most: number) =>
    [...times]
      .filter(([name]) => !idle.test(name))
      .sort(([, left], [, right]) => right - left)
      .slice(0, most)
      .map(([name, micros]) => `  ${(micros / tasks).toFixed(2).padStart(8)}  ${name}`)
      .join("\n")
  return [
    "us per task by part (self time):",
    table(selfTimes(profile, partOf), 30),
    "us per task by function (self time):",
    table(selfTimes(profile, nameOf), top),
    "us per task by function of ours, with what it calls synchronously:",
    table(inclusiveTimes(profile), top)
  ].join("\n")
}
