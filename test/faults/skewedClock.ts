/**
 * Gives a process a wall clock that is wrong: loaded before anything else (`--import`), it moves `Date` by the milliseconds that
 * stand in the file which `FAULTS_CLOCK` names, and looks there twenty times a second. Monotonic time goes its way, as it does
 * where the wall clock of a machine is set.
 */
import { readFileSync } from "node:fs"

const file = process.env["FAULTS_CLOCK"] ?? ""
const RealDate = Date
let offset = 0

const look = () => {
  try {
    offset = Number(readFileSync(file, "utf8")) || 0
  } catch {
    offset = 0
  }
}
look()
setInterval(look, 50).unref()

const now = () => RealDate.now() + offset

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
  apply: () => new RealDate(now()).toString(),
  get: (target, property, receiver) => (property === "now" ? now : Reflect.get(target, property, receiver))
})
