/**
 * The effect sink, as a process of its own: the outside world of the fault runs. It writes down every call before it answers,
 * by appending, so that an effect that happened twice is seen even where it was recorded once.
 *
 *   node test/faults/sink.ts <log file>
 *
 *   POST /effect/<label>?ms=<wait before the answer>&stumble=1
 *
 * `stumble`: the first call of a task is answered 503, so that the task is tried again. Prints its port.
 */
import { openSync, writeSync } from "node:fs"
import { createServer } from "node:http"

const log = openSync(process.argv[2] ?? "sink.ndjson", "a")
const seen = new Set<string>()

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://sink")
  const key = String(request.headers["idempotency-key"] ?? "")
  const stumbles = url.searchParams.get("stumble") === "1" && !seen.has(key)
  seen.add(key)
  const at = Number(process.hrtime.bigint() / 1_000n) / 1_000
  writeSync(log, `${JSON.stringify({ key, label: url.pathname.slice("/effect/".length), at, answered: !stumbles })}\n`)
  request.resume()
  const answer = () => {
    response.writeHead(stumbles ? 503 : 200, { "content-type": "application/json" })
    response.end("{}")
  }
  const wait = Number(url.searchParams.get("ms") ?? 0)
  if (wait > 0) setTimeout(answer, wait)
  else answer()
})

server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  process.stdout.write(`${address !== null && typeof address === "object" ? address.port : 0}\n`)
})
