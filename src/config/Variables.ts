/**
 * The table of every environment variable: name, grammar, default, example and meaning. `docs/configuration.md` is made
 * from it and a test compares the two.
 */
import { Duration, Schema } from "effect"
import { NodeName, tokenPattern } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { nodeRoles } from "../../protocol/Node.ts"
import * as Grammar from "./Grammar.ts"
import { variable } from "./Variable.ts"

/** What a node reads. */
export const serverVariables = {
  databaseUrl: variable("DATABASE_URL", {
    grammar: Grammar.postgresServers,
    secret: true,
    default: undefined,
    shown: "embedded Postgres",
    example: "postgres://datamcp:secret@db-1.example.com:5432,db-2.example.com:5432/datamcp",
    meaning:
      "Postgres 16 or newer, the source of truth; a primary and its standbys with commas, and the one that takes writes is followed. `up` starts its own when this is not set; `serve` needs it."
  }),
  databaseConnections: variable("DATABASE_CONNECTIONS", {
    grammar: Grammar.integer(2, 200),
    default: 10,
    example: "20",
    meaning: "Most connections of this node to Postgres."
  }),
  databasePrepare: variable("DATABASE_PREPARE", {
    grammar: Grammar.boolean,
    default: true,
    example: "false",
    meaning:
      "`false` behind a pooler that gives each transaction another session (PgBouncer in transaction mode); docs/operations.md says what its role needs."
  }),
  natsUrl: variable("NATS_URL", {
    grammar: Grammar.natsServers,
    secret: true,
    default: undefined,
    shown: "embedded nats-server",
    example: "nats://nats-1.example.com:4222,nats://nats-2.example.com:4222",
    meaning:
      "nats-server 2.12 or newer with JetStream; several servers of one cluster with commas, `tls://` for TLS, user and password may stand in it. `up` starts its own when this is not set; `serve` needs it."
  }),
  natsReplicas: variable("DATAMCP_NATS_REPLICAS", {
    grammar: Grammar.oneOf({ "1": 1, "3": 3, "5": 5 }),
    default: undefined,
    shown: "1, and streams that are there as they are",
    example: "3",
    meaning:
      "On how many servers of a NATS cluster each of the two streams is kept; those that are there are changed at the next start. All nodes need the same."
  }),
  natsUser: variable("NATS_USER", {
    grammar: Grammar.text(256),
    default: undefined,
    example: "datamcp",
    meaning: "User name for NATS, with `NATS_PASSWORD`."
  }),
  natsPassword: variable("NATS_PASSWORD", {
    grammar: Grammar.text(1024),
    secret: true,
    default: undefined,
    example: "secret",
    meaning: "Password of `NATS_USER`."
  }),
  natsToken: variable("NATS_TOKEN", {
    grammar: Grammar.text(4096),
    secret: true,
    default: undefined,
    example: "secret",
    meaning: "Token for NATS, instead of user and password."
  }),
  natsCreds: variable("NATS_CREDS", {
    grammar: Grammar.text(4096),
    default: undefined,
    example: "/run/secrets/datamcp.creds",
    meaning: "Path of a NATS credentials file (JWT and nkey), instead of user and password."
  }),
  redisUrl: variable("REDIS_URL", {
    grammar: Grammar.url("redis:", "rediss:"),
    secret: true,
    default: undefined,
    shown: "in memory",
    example: "redis://cache.example.com:6379",
    meaning: "Checked and kept for a later version: this one keeps its caches in memory and says so at start."
  }),
  host: variable("HOST", {
    grammar: Grammar.host,
    default: "127.0.0.1",
    example: "0.0.0.0",
    meaning:
      "Address to listen on. Other machines reach a node only when this is `0.0.0.0`, `::` or an address of its own."
  }),
  port: variable("PORT", {
    grammar: Grammar.integer(0, 65_535),
    default: 8002,
    example: "8080",
    meaning: "Port of HTTP; `0` takes a free one."
  }),
  nodeName: variable("DATAMCP_NODE_NAME", {
    grammar: Grammar.schema(NodeName, "1 to 64 letters, digits, `_` or `-`"),
    default: undefined,
    shown: "host name and six random characters",
    example: "node-1",
    meaning: "Name of this node in leases, logs and events. No two live nodes may share one."
  }),
  roles: variable("DATAMCP_ROLES", {
    grammar: Grammar.set(Grammar.oneOf({ api: "api", worker: "worker" })),
    default: nodeRoles,
    shown: "api,worker",
    example: "worker",
    meaning:
      "What this node does (docs/nodes.md). `api`: takes requests over HTTP and NATS. `worker`: runs tasks, schedules, webhooks and sweeps; serves health and metrics only."
  }),
  dataFolder: variable("DATAMCP_DATA", {
    grammar: Grammar.text(4096),
    default: ".datamcp",
    example: "/var/lib/datamcp",
    meaning: "Folder of what this node keeps on disk: embedded servers, their tools, the local admin key."
  }),
  artifactsFolder: variable("ARTIFACTS_DIR", {
    grammar: Grammar.text(4096),
    default: undefined,
    shown: "in Postgres",
    example: "/var/lib/datamcp/artifacts",
    meaning:
      "Folder for the bytes of new artifacts, made if missing; all nodes need the same one. Without it, and without `ARTIFACTS_BUCKET`, they are in Postgres. Those that are there stay where they are."
  }),
  artifactsBucket: variable("ARTIFACTS_BUCKET", {
    grammar: Grammar.schema(Schema.String.check(Schema.isPattern(tokenPattern)), "1 to 64 letters, digits, `_` or `-`"),
    default: undefined,
    shown: "in Postgres",
    example: "datamcp-artifacts",
    meaning:
      "Bucket of a NATS object store for the bytes of new artifacts, made if missing, on `DATAMCP_NATS_REPLICAS` servers; all nodes need the same one. With `ARTIFACTS_DIR` too, what is in that folder is still read."
  }),
  largeDataBytes: variable("DATAMCP_LARGE_DATA_BYTES", {
    grammar: Grammar.integer(262_144, Limits.largeDataBytesMax),
    default: Limits.largeDataBytesMax,
    example: "8388608",
    meaning:
      "Largest payload or result of a task, in bytes of JSON. Those above 256 KiB are kept as artifacts by themselves."
  }),
  behaviours: variable("DATAMCP_BEHAVIOURS", {
    grammar: Grammar.list(Grammar.text(4096)),
    default: [],
    shown: "none",
    example: "./behaviours/summarise.ts,@acme/behaviours",
    meaning: "Modules with behaviours of your own: paths that begin with `.` or `/`, or package names, with commas."
  }),
  isolatedProcesses: variable("DATAMCP_ISOLATED_PROCESSES", {
    grammar: Grammar.integer(1, 10_000),
    default: 32,
    example: "64",
    meaning:
      "Most attempts of isolated behaviours that run on this node at a time, each in a process of its own; more wait, while their timeout runs."
  }),
  behaviourEnvironment: variable("DATAMCP_BEHAVIOUR_ENV", {
    grammar: Grammar.list(Grammar.variableName),
    default: [],
    shown: "none",
    example: "OPENAI_API_KEY,ACME_REGION",
    meaning:
      "Names of variables that processes of isolated behaviours get too, with commas. Those of datamcp itself are refused. Without it they get `PATH`, `HOME`, `TMPDIR`, `TZ`, `LANG`, `NODE_EXTRA_CA_CERTS` and no other."
  }),
  schedulerMailbox: variable("DATAMCP_SCHEDULER_MAILBOX", {
    grammar: Grammar.integer(100, 1_000_000),
    default: 20_000,
    example: "50000",
    meaning: "Most tasks that wait to be accepted in this node; more are refused with 429 before they are accepted."
  }),
  natsRequests: variable("DATAMCP_NATS_REQUESTS", {
    grammar: Grammar.integer(1, 100_000),
    default: 4_096,
    example: "8192",
    meaning: "Most requests over NATS that this node works on at a time; more are refused with 429."
  }),
  natsWaits: variable("DATAMCP_NATS_WAITS", {
    grammar: Grammar.integer(1, 100_000),
    default: 4_096,
    example: "8192",
    meaning: "Most `tasks.wait` requests over NATS that this node holds open at a time, beside `DATAMCP_NATS_REQUESTS`."
  }),
  drain: variable("DATAMCP_DRAIN", {
    grammar: Grammar.duration("1s", "5m"),
    default: Duration.seconds(10),
    shown: "10s",
    example: "30s",
    meaning: "How long requests in flight may take to end after SIGTERM; what runs is handed over at once."
  }),
  drainNotice: variable("DATAMCP_DRAIN_NOTICE", {
    grammar: Grammar.duration("0s", "1m"),
    default: Duration.seconds(3),
    shown: "3s",
    example: "10s",
    meaning:
      "How long a node goes on to take requests after SIGTERM, while `/health/ready` says 503, so that a load balancer notices. Only if somebody has asked `/health/ready` within the last minute; otherwise it closes at once."
  }),
  webhooksAllowPrivate: variable("DATAMCP_WEBHOOKS_ALLOW_PRIVATE", {
    grammar: Grammar.networks,
    default: [],
    shown: "none",
    example: "10.0.0.0/8,hooks.internal:8080",
    meaning:
      "Where webhooks may be sent although it is not on the public internet: networks, addresses and names with commas, each with a port or for every port. Everybody who may define webhooks reaches these."
  }),
  logLevel: variable("LOG_LEVEL", {
    grammar: Grammar.oneOf({
      fatal: "Fatal",
      error: "Error",
      warn: "Warn",
      info: "Info",
      debug: "Debug",
      trace: "Trace",
      none: "None"
    }),
    default: "Info",
    shown: "info",
    example: "debug",
    meaning: "Least level that is logged."
  }),
  logFormat: variable("LOG_FORMAT", {
    grammar: Grammar.oneOf({ auto: "auto", json: "json", pretty: "pretty" }),
    default: "auto",
    example: "json",
    meaning:
      "`json`: one object per line; `pretty`: for people; `auto`: pretty on a terminal, else json. Logs go to stderr."
  }),
  otlpEndpoint: variable("OTEL_EXPORTER_OTLP_ENDPOINT", {
    grammar: Grammar.url("http:", "https:"),
    default: undefined,
    shown: "off",
    example: "http://otel-collector.example.com:4318",
    meaning: "OTLP over HTTP (JSON) for spans and metrics. When it is not set nothing is recorded or sent."
  }),
  otlpHeaders: variable("OTEL_EXPORTER_OTLP_HEADERS", {
    grammar: Grammar.pairs,
    secret: true,
    default: undefined,
    example: "api-key=secret,x-team=data",
    meaning: "Headers of every request to the OTLP endpoint."
  }),
  sampleRatio: variable("OTEL_TRACES_SAMPLER_ARG", {
    grammar: Grammar.ratio,
    default: 1,
    example: "0.01",
    meaning:
      "Share of new traces that are recorded, 0 to 1. A request that carries a `traceparent` keeps its caller's decision."
  }),
  serviceName: variable("OTEL_SERVICE_NAME", {
    grammar: Grammar.text(256),
    default: "datamcp",
    example: "datamcp-eu",
    meaning: "Name of the service in traces and metrics sent over OTLP."
  })
} as const

/** What the command line reads when it talks to a running platform. */
export const clientVariables = {
  url: variable("DATAMCP_URL", {
    grammar: Grammar.url("http:", "https:"),
    default: undefined,
    shown: "http://127.0.0.1:8002",
    example: "https://datamcp.example.com",
    meaning: "Platform that the command line talks to."
  }),
  apiKey: variable("DATAMCP_API_KEY", {
    grammar: Grammar.text(512),
    secret: true,
    default: undefined,
    shown: "the local admin key",
    example: "dma_0123456789abcdef_...",
    meaning: "API key of the command line, instead of the one that `up` or `datamcp login` has kept."
  })
} as const
