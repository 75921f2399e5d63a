/** Says in plain words why npm failed. Its own words, with codes and log paths, have been printed before. */
import { stop } from "./stop.mjs"

/** @type {ReadonlyArray<readonly [sign: RegExp, what: string, remedy: string]>} */
const known = [
  [
    /ENOSPC|no space left/i,
    "The disk is full: the packages could not be installed.",
    "Free about 2 GB where this folder and npm's cache are, and start again."
  ],
  [
    /ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|ECONNRESET|ENETUNREACH|ERR_SOCKET_TIMEOUT|network/i,
    "The package registry could not be reached.",
    "Check the network and npm's registry and proxy settings (npm config get registry), and start again."
  ],
  [
    /EACCES|EPERM|EROFS|permission denied/i,
    "npm may not write where it has to.",
    "Check who owns this folder, node_modules and npm's cache (npm config get cache), and start again as that user."
  ],
  [
    /EUSAGE|lockfileVersion|Unknown command|EINTEGRITY|can only install with an existing package-lock/i,
    "npm could not use package-lock.json.",
    "Use npm 9 or newer (npm --version), restore package-lock.json from git, and start again."
  ]
]

/**
 * @param {{ readonly code: number | null, readonly error: string | undefined, readonly output: string }} result
 * @returns {never}
 */
export const explainNpmFailure = ({ code, error, output }) => {
  if (error !== undefined) {
    return stop(
      `npm could not be run (${error}).`,
      "Install npm (it comes with Node; Debian: apt install npm), see that it is on the PATH, and start again."
    )
  }
  const [, what, remedy] = known.find(([sign]) => sign.test(output)) ?? []
  return stop(
    what ?? `npm ci ended with ${code === null ? "a signal" : `exit code ${code}`}.`,
    remedy ?? "Mend what it says above and start again; removing node_modules first does no harm."
  )
}
