/** A disk so small that it can be filled: a tmpfs. Needs the right to mount, which an ordinary user does not have. */
import { spawnSync } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface SmallDisk {
  readonly folder: string
  /** Leaves no room at all. */
  readonly fill: () => void
  readonly free: () => void
  readonly unmount: () => void
}

/** Why there can be none here; undefined when there can. */
export const smallDiskMissing = (): string | undefined =>
  process.platform === "linux" && process.getuid?.() === 0 && canMount()
    ? undefined
    : "it needs a small tmpfs, and so the right to mount (root on Linux)"

const canMount = () => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-mount-"))
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", folder]).status === 0
  if (mounted) spawnSync("umount", [folder])
  rmSync(folder, { recursive: true, force: true })
  return mounted
}

export const mountSmallDisk = (below: string, mebibytes: number): SmallDisk => {
  const folder = mkdtempSync(join(below, "disk-"))
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "none", folder], { encoding: "utf8" })
  if (mounted.status !== 0) throw new Error(`a small disk cannot be mounted: ${mounted.stderr}`)
  chmodSync(folder, 0o777)
  const ballast = join(folder, "ballast")
  return {
    folder,
    fill: () => {
      try {
        for (let part = 0; ; part++) writeFileSync(`${ballast}-${part}`, Buffer.alloc(part < 512 ? 1_048_576 : 4_096))
      } catch {
        // Full to the last block of this size; what is smaller may still fit.
      }
    },
    free: () => {
      spawnSync("sh", ["-c", `rm -f '${ballast}'-*`])
    },
    unmount: () => {
      spawnSync("umount", ["-l", folder])
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
