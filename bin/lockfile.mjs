/**
 * Whether what is installed is what the lockfile asks for on this machine. Pure.
 *
 * @typedef {{ version?: string, integrity?: string, dev?: boolean, optional?: boolean, devOptional?: boolean, os?: string | string[], cpu?: string | string[], libc?: string[] }} Entry one package of a lockfile
 * @typedef {{ readonly platform: string, readonly arch: string, readonly development: boolean }} Machine `development`: packages for tests and checks are wanted too
 *
 * @param {Readonly<Record<string, Entry>>} wanted `packages` of package-lock.json
 * @param {Readonly<Record<string, Entry>>} installed `packages` of node_modules/.package-lock.json
 * @param {Machine} machine
 */
export const agrees = (wanted, installed, machine) =>
  Object.entries(wanted).every(([path, entry]) => {
    if (path === "") return true
    const found = installed[path]
    if (found !== undefined) return isSame(found, entry)
    return (entry.dev === true && !machine.development) || isForOthers(entry, machine)
  })

/**
 * The lockfile has no hash of a package for a platform that was out of reach when it was written.
 *
 * @param {Entry} found
 * @param {Entry} wanted
 */
const isSame = (found, wanted) =>
  found.version === wanted.version && (wanted.integrity === undefined || found.integrity === wanted.integrity)

/**
 * Packages that npm skips here. One whose C library is named is left to npm's judgement.
 *
 * @param {Entry} entry
 * @param {Machine} machine
 */
const isForOthers = ({ cpu, devOptional, libc, optional, os }, machine) => {
  if (optional !== true && devOptional !== true) return false
  if (os === undefined || cpu === undefined || libc !== undefined) return true
  return ![os].flat().includes(machine.platform) || ![cpu].flat().includes(machine.arch)
}
