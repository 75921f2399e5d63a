/** Reading where a machine gets its packages from, in every form that Debian and Ubuntu ship. */
import { describe, expect, it } from "@effect/vitest"
import { configFile, ownArchive, parseListFile, parseSourcesFile, sourcesFile } from "../../src/embedded/AptSources.ts"

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

describe("sources", () => {
  it("in one-line format give uri, suite, components and keyring", () => {
    const text = [
      "# deb http://commented.example/debian bookworm main",
      "deb-src http://mirror.example/debian bookworm main",
      `deb [ arch=amd64 signed-by=${keyring} ] http://mirror.example/debian bookworm main contrib # comment`,
      "deb\tmirror+file:/etc/apt/mirrors/debian.list bookworm-updates main"
    ].join("\n")
    expect(parseListFile(text)).toEqual([
      { uri: "http://mirror.example/debian", suite: "bookworm", components: ["main", "contrib"], signedBy: keyring },
      { uri: "mirror+file:/etc/apt/mirrors/debian.list", suite: "bookworm-updates", components: ["main"] }
    ])
  })

  it("in deb822 format give each pair of uri and suite, and skip what is disabled or source", () => {
    const text = `Types: deb deb-src
# a comment inside
URIs: http://a.example/debian http://b.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: ${keyring}

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
`
    expect(parseSourcesFile(text).map(({ signedBy, suite, uri }) => [uri, suite, signedBy])).toEqual([
      ["http://a.example/debian", "bookworm", keyring],
      ["http://a.example/debian", "bookworm-updates", keyring],
      ["http://b.example/debian", "bookworm", keyring],
      ["http://b.example/debian", "bookworm-updates", keyring]
    ])
  })

  it("with a key written into the source leave the key to apt's default", () => {
    const text =
      "Types: deb\nURIs: http://a.example\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n abc"
    expect(parseSourcesFile(text)).toEqual([{ uri: "http://a.example", suite: "x", components: ["main"] }])
  })
})

describe("the machine's own archive", () => {
  const source = (uri: string, suite: string, components = ["main"]) => ({ uri, suite, components })

  it("is the one of its release, not its security or updates archive nor anybody else's", () => {
    const own = source("http://mirror.example/debian", "bookworm")
    const found = ownArchive(
      [
        source("http://other.example/apt", "bookworm", ["tool"]),
        source("cdrom:[Debian]/", "bookworm"),
        source("http://mirror.example/debian-security", "bookworm-security"),
        own
      ],
      "bookworm"
    )
    expect(found).toBe(own)
  })

  it("may be configured as stable", () => {
    const own = source("http://mirror.example/debian", "stable")
    expect(ownArchive([own], "bookworm")).toBe(own)
  })

  it("is absent where nothing fits", () => {
    expect(ownArchive([source("http://other.example/apt", "stable", ["tool"])], "bookworm")).toBeUndefined()
  })
})

describe("the private run of apt", () => {
  it("takes the other release from the same mirror with the same keys", () => {
    const archive = { uri: "http://mirror.example/debian", suite: "bookworm", components: ["main"], signedBy: keyring }
    expect(sourcesFile(archive, "forky", ["main"])).toBe(
      `Types: deb\nURIs: http://mirror.example/debian\nSuites: forky\nComponents: main\nSigned-By: ${keyring}\n`
    )
  })

  it("keeps how the machine reaches the network, and none of its hooks", () => {
    const machine = [
      'Acquire::http::Proxy "http://proxy.example:3128";',
      'Acquire::https::Verify-Peer "true";',
      'Acquire::Check-Valid-Until "false";',
      'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "true";',
      'APT::Update::Post-Invoke:: "rm -rf /";',
      'Acquire::AllowInsecureRepositories "1";'
    ].join("\n")
    const config = configFile("/work folder", machine)
    expect(config).toContain('Acquire::http::Proxy "http://proxy.example:3128";')
    expect(config).toContain('Acquire::Check-Valid-Until "false";')
    expect(config).toContain('Dir::State "/work folder/state";')
    expect(config).toContain('Acquire::AllowInsecureRepositories "false";')
    for (const unwanted of ["Post-Invoke", "IndexTargets", 'AllowInsecureRepositories "1"']) {
      expect(config).not.toContain(unwanted)
    }
  })
})
