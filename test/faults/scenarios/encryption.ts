/** Encrypted connections to Postgres and NATS: certificates that are renewed, run out, or come from somebody else. */
import { spawnSync } from "node:child_process"
import { chownSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Effect } from "effect"
import { query } from "../../../bench/servers/query.ts"
import { type Fault, type FaultRun, seconds, untilAccepted } from "../Fault.ts"

const openssl = (...args: ReadonlyArray<string>) => {
  const { status, stderr } = spawnSync("openssl", args, { encoding: "utf8" })
  if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`)
}

/** An authority and what it signs, each certificate as `<name>.pem` with `<name>.key`. */
const authority = (folder: string, name: string) => {
  const at = (file: string) => join(folder, file)
  openssl(
    ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", `/CN=${name}`],
    ...["-keyout", at(`${name}.key`), "-out", at(`${name}.pem`)]
  )
  writeFileSync(at(`${name}.index`), "")
  writeFileSync(
    at(`${name}.cnf`),
    [
      ...["[ca]", "default_ca = own", "[own]", `new_certs_dir = ${folder}`, `database = ${at(`${name}.index`)}`],
      ...[`certificate = ${at(`${name}.pem`)}`, `private_key = ${at(`${name}.key`)}`, "rand_serial = yes"],
      ...["default_md = sha256", "policy = any", "copy_extensions = copy", "unique_subject = no"],
      ...["[any]", "commonName = supplied", ""]
    ].join("\n")
  )
  const sign = (certificate: string, from: string, to: string) => {
    const request = at(`${certificate}.csr`)
    openssl(
      ...["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
      ...["-keyout", at(`${certificate}.key`), "-out", request]
    )
    openssl(
      ...["ca", "-batch", "-notext", "-config", at(`${name}.cnf`), "-in", request],
      ...["-startdate", from, "-enddate", to, "-out", at(`${certificate}.pem`)]
    )
  }
  return { file: at(`${name}.pem`), sign }
}

const moment = (days: number) =>
  `${new Date(Date.now() + days * 86_400_000).toISOString().replaceAll(/[-:T]/g, "").slice(0, 14)}Z`

interface Servers {
  /** Both servers show this certificate from now on; all connections are made anew. */
  readonly show: (certificate: string) => Promise<void>
}

const servers = async (run: FaultRun, folder: string): Promise<Servers> => {
  const { nats } = run.rig
  const database = join(run.rig.folder, "servers", "postgres")
  const { gid, uid } = statSync(database)
  const config = join(dirname(nats.storeFolder), "nats.conf")
  const plain = JSON.parse(readFileSync(config, "utf8"))
  const place = (certificate: string) => {
    for (const [from, to] of [
      ["pem", "server.crt"],
      ["key", "server.key"]
    ] as const) {
      copyFileSync(join(folder, `${certificate}.${from}`), join(database, to))
      chownSync(join(database, to), uid, gid)
      spawnSync("chmod", ["600", join(database, to)])
    }
    const tls = { cert_file: join(folder, `${certificate}.pem`), key_file: join(folder, `${certificate}.key`) }
    // It would take connections that are not encrypted as well: nobody may fall back to that.
    writeFileSync(config, JSON.stringify({ ...plain, tls, allow_non_tls: true }))
  }
  return {
    show: async (certificate) => {
      place(certificate)
      await query(run.rig.databaseUrl, "alter system set ssl = on")
      await query(run.rig.databaseUrl, "select pg_reload_conf()")
      await Effect.runPromise(nats.kill9)
      await Effect.runPromise(nats.start)
      await seconds(0.3)
      await query(
        run.rig.databaseUrl,
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'"
      )
    }
  }
}

/** Connections of nodes to either server, and those that are not encrypted. */
const connections = async (run: FaultRun) => {
  const rows = await query<{ ssl: boolean }>(
    run.rig.databaseUrl,
    `select s.ssl from pg_stat_ssl s join pg_stat_activity a using (pid)
     where a.backend_type = 'client backend' and pid <> pg_backend_pid()`
  )
  return { all: rows.length, plain: rows.filter(({ ssl }) => !ssl).length }
}

export const renewCertificates: Fault = {
  id: "F32",
  title: "the servers' certificates are renewed, run out, and are of another authority",
  pass: "a renewed one is taken within 5 s; others are refused, with no connection that is not encrypted",
  ...{ nodes: 2, perSecond: 60, seconds: 40 },
  unable: () => (spawnSync("openssl", ["version"]).status === 0 ? undefined : "it needs openssl"),
  inject: async (run) => {
    const folder = join(run.rig.folder, "certificates")
    mkdirSync(folder, { mode: 0o755 })
    const own = authority(folder, "own")
    own.sign("first", moment(-1), moment(1))
    own.sign("second", moment(-1), moment(1))
    own.sign("expired", moment(-3), moment(-1))
    authority(folder, "other").sign("foreign", moment(-1), moment(1))
    const { show } = await servers(run, folder)
    await show("first")
    const environmentOf = ({ toNats, toPostgres }: (typeof run.rig.nodes)[number]) => ({
      NATS_URL: `tls://localhost:${toNats.port}`,
      DATABASE_URL: run.rig.databaseUrl
        .replace(/@[^/]+\//, `@localhost:${toPostgres.port}/`)
        .concat("?sslmode=require"),
      NODE_EXTRA_CA_CERTS: own.file
    })
    for (const node of run.rig.nodes) {
      await node.process().stop()
      await node.start({ environment: environmentOf(node) })
    }
    let plain = 0
    let encrypted = 0
    const look = async (millis: number) => {
      const until = performance.now() + millis
      while (performance.now() < until) {
        const now = await connections(run)
        plain += now.plain
        encrypted = Math.max(encrypted, now.all - now.plain)
        await seconds(0.2)
      }
    }
    await look(2_000)
    const renewed: Array<number> = []
    const refusals: Array<{ readonly certificate: string; readonly accepted: number }> = []
    for (let turn = 0; run.goesOn() || turn < 3; turn++) {
      run.injected("the certificate is renewed")
      await show(turn % 2 === 0 ? "second" : "first")
      renewed.push((await untilAccepted(run.history)) ?? Number.POSITIVE_INFINITY)
      const certificate = turn % 2 === 0 ? "expired" : "foreign"
      run.injected(`the certificate is ${certificate}`)
      await show(certificate)
      await seconds(1)
      const from = run.history.operations.length
      await look(5_000)
      const accepted = run.history.operations
        .slice(from)
        .filter(({ kind, outcome }) => kind !== "read" && outcome === "ok").length
      refusals.push({ certificate, accepted })
      const said = run.rig.nodes[0]?.process().output().trimEnd().split("\n").at(-1)
      run.tell(`a node says: ${said?.slice(0, 400)}`)
      run.tell(`${accepted} submissions were accepted while the certificate was ${certificate}`)
      await show("first")
      renewed.push((await untilAccepted(run.history)) ?? Number.POSITIVE_INFINITY)
      await seconds(2)
    }
    // A node that does not know the authority says so when it is started.
    const [node] = run.rig.nodes
    let told = ""
    if (node !== undefined) {
      await node.process().stop()
      run.injected("a node that does not know the authority is started")
      const started = node.start({ environment: { ...environmentOf(node), NODE_EXTRA_CA_CERTS: "" } }).catch(String)
      told = String(await Promise.race([started, seconds(20).then(() => node.process().output())]))
      await node.process().kill()
      await node.start({ environment: environmentOf(node) })
      run.tell(`it says: ${told.slice(0, 600)}`)
    }
    return [
      { name: "encrypted connections to Postgres seen", value: encrypted, unit: "", least: 1 },
      { name: "named why it does not start", value: /certificate/i.test(told) ? 1 : 0, unit: "", least: 1 },
      { name: "connections that were not", value: plain, unit: "", most: 0 },
      {
        name: "accepted under a certificate that does not hold",
        value: refusals.reduce((sum, { accepted }) => sum + accepted, 0),
        unit: "",
        most: 0
      },
      {
        name: "longest from a good certificate to the next accept",
        value: Math.round(Math.max(...renewed)),
        unit: "ms",
        most: 5_000
      }
    ]
  }
}
