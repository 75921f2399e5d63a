/**
 * Reads where a Debian or Ubuntu machine gets its packages from, and writes the apt configuration of a private run
 * that takes one package of another release from there. Pure: texts in, texts out.
 *
 * Knows both formats of sources.list(5). Names no host: the mirror is always the machine's own.
 */

/** One place that apt is configured with. */
export interface AptSource {
  readonly uri: string
  readonly suite: string
  readonly components: ReadonlyArray<string>
  /** A keyring file; absent when apt's default keys are to be used. */
  readonly signedBy?: string
}

/** Sources in `*.list` format: `deb [option=value ...] uri suite component...`. */
export const parseListFile = (text: string): ReadonlyArray<AptSource> =>
  text.split("\n").flatMap((line) => {
    const found = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line)
    if (found === null) return []
    const [, options = "", uri = "", suite = "", components = ""] = found
    return [{ uri, suite, components: words(components), ...keyring(/signed-by=(\S+)/i.exec(options)?.[1]) }]
  })

/** Sources in deb822 format (`*.sources`): one stanza gives every pair of its URIs and suites. */
export const parseSourcesFile = (text: string): ReadonlyArray<AptSource> =>
  text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .split(/\n[ \t]*\n/)
    .flatMap((stanza) => {
      const field = (name: string) =>
        new RegExp(`^${name}[ \\t]*:(.*(?:\\n[ \\t]+.*)*)`, "im").exec(stanza)?.[1]?.trim() ?? ""
      if (!words(field("Types")).includes("deb") || /^(no|false|off|0)$/i.test(field("Enabled"))) return []
      return words(field("URIs")).flatMap((uri) =>
        words(field("Suites")).map((suite) => ({
          uri,
          suite,
          components: words(field("Components")),
          ...keyring(field("Signed-By"))
        }))
      )
    })

/**
 * The source that carries the machine's own release (`codename`, or the alias it is configured by), main archive before any other.
 * Security, updates and backports archives do not carry other releases, and discs carry nothing newer.
 */
export const ownArchive = (sources: ReadonlyArray<AptSource>, codename: string): AptSource | undefined => {
  const usable = sources.filter(({ components, uri }) => components.includes("main") && !uri.startsWith("cdrom:"))
  const aliases = [codename, "stable", "testing", "unstable", "sid"]
  return aliases.flatMap((alias) => usable.filter(({ suite }) => suite === alias))[0]
}

/** The `.sources` file of the private run. */
export const sourcesFile = (archive: AptSource, suite: string, components: ReadonlyArray<string>): string =>
  [
    "Types: deb",
    `URIs: ${archive.uri}`,
    `Suites: ${suite}`,
    `Components: ${components.join(" ")}`,
    ...(archive.signedBy === undefined ? [] : [`Signed-By: ${archive.signedBy}`]),
    ""
  ].join("\n")

/**
 * The apt.conf of the private run: every folder that apt writes lies below `folder`, hooks of the machine's own
 * configuration do not run, and how it reaches the network (`Acquire::...` in `machineConfig`, the output of `apt-config dump`) stays.
 */
export const configFile = (folder: string, machineConfig: string): string =>
  [
    ...machineConfig
      .split("\n")
      .filter((line) => /^Acquire::(https?|ForceIPv[46]|Check-Valid-Until|Check-Date)(::[\w.:-]+)? ".+";$/.test(line)),
    'Acquire::Languages "none";',
    'Acquire::PDiffs "false";',
    'Acquire::Retries "2";',
    'Acquire::http::Timeout "20";',
    'Acquire::https::Timeout "20";',
    'Dir::Etc::main "/dev/null";',
    'Dir::Etc::parts "/dev/null";',
    'Dir::Etc::sourcelist "/dev/null";',
    `Dir::Etc::sourceparts "${folder}/sources";`,
    `Dir::State "${folder}/state";`,
    'Dir::State::status "/dev/null";',
    `Dir::Cache "${folder}/cache";`,
    // apt would otherwise change to a user of its own that may not enter this folder.
    'APT::Sandbox::User "root";',
    'APT::Get::AllowUnauthenticated "false";',
    'Acquire::AllowInsecureRepositories "false";',
    'Acquire::AllowDowngradeToInsecureRepositories "false";',
    ""
  ].join("\n")

const words = (text: string): ReadonlyArray<string> => text.split(/\s+/).filter((word) => word !== "")

/** A key written into the source itself cannot be passed on as a path: apt's default keys are used then. */
const keyring = (value: string | undefined) => (value?.startsWith("/") ? { signedBy: words(value)[0] ?? value } : {})
