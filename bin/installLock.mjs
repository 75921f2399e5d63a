/**
 * One installing process per clone. The others wait, then find that there is nothing left to do.
 *
 * The lock is a file that names its holder by process id and start time, so that the lock of a killed process, whose id
 * may meanwhile belong to somebody else, is recognised and taken over.
 */
import { execFileSync } from "node:child_process"
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { stop } from "./stop.mjs"

const pollMillis = 200
const waitMillisMax = 15 * 60_000

/**
 * @param {string} root
 * @param {() => Promise<void>} work
 */
export const withInstallLock = async (root, work) => {
  const folder = join(root, ".datamcp")
  const lock = join(folder, "install.lock")
  const mine = join(folder, `install.lock.${process.pid}`)
  writable(() => mkdirSync(folder, { recursive: true }), folder)
  writable(() => writeFileSync(mine, identity(process.pid)), folder)
  try {
    await take(lock, mine)
  } finally {
    rmSync(mine, { force: true })
  }
  const release = () => rmSync(lock, { force: true })
  process.once("exit", release)
  await work()
  process.off("exit", release)
  release()
}

/**
 * @param {string} lock
 * @param {string} mine
 */
const take = async (lock, mine) => {
  let announced = false
  for (let waited = 0; waited < waitMillisMax; waited += pollMillis) {
    if (tryLink(mine, lock)) return
    const holder = read(lock)
    if (holder === undefined) continue
    if (!isAlive(holder)) {
      discard(lock, holder)
      continue
    }
    if (!announced) console.error(`Waiting for process ${holder.split(" ")[0]}, which is installing the packages ...`)
    announced = true
    await pause(pollMillis)
  }
  stop("Another process has been installing packages for 15 minutes.", `End it, or remove ${lock}, and start again.`)
}

/**
 * Removes the lock of a dead process. Whoever finds that it has moved a live one instead (a third process was quicker)
 * puts it back.
 *
 * @param {string} lock
 * @param {string} dead
 */
const discard = (lock, dead) => {
  const aside = `${lock}.${process.pid}.dead`
  try {
    renameSync(lock, aside)
  } catch {
    return
  }
  if (read(aside) !== dead) tryLink(aside, lock)
  rmSync(aside, { force: true })
}

/**
 * @param {string} from
 * @param {string} to
 */
const tryLink = (from, to) => {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "EEXIST") return false
    throw error
  }
}

/** @param {string} file */
const read = (file) => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return undefined
  }
}

/** @param {string} holder */
const isAlive = (holder) => identity(Number(holder.split(" ")[0])) === holder

/**
 * Process id and start time: together they name one process for good.
 *
 * @param {number} pid
 */
const identity = (pid) => {
  const started = process.platform === "linux" ? startedOnLinux(pid) : startedByPs(pid)
  return `${pid} ${started}`
}

/** @param {number} pid */
const startedOnLinux = (pid) => {
  // After the program's name in parentheses, which may itself hold anything: the 20th field is the start time.
  const stat = read(`/proc/${pid}/stat`)
  return stat === undefined ? "gone" : stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]
}

/** @param {number} pid */
const startedByPs = (pid) => {
  try {
    return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim()
  } catch {
    return "gone"
  }
}

/**
 * @param {() => unknown} action
 * @param {string} folder
 */
const writable = (action, folder) => {
  try {
    action()
  } catch (error) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
    if (code === "ENOSPC") stop(`The disk is full: ${folder} could not be written.`, "Free about 2 GB and start again.")
    stop(`${folder} could not be written (${message}).`, "Check who owns it, and start again as that user.")
  }
}
