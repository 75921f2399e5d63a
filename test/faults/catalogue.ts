/** The faults of the catalogue: those that the rig runs, and those that are shown elsewhere or cannot be had, with the reason. */
import type { Fault } from "./Fault.ts"
import { jumpClocks } from "./scenarios/clocks.ts"
import { renewCertificates } from "./scenarios/encryption.ts"
import { soak } from "./scenarios/mixed.ts"
import {
  damageStore,
  doubleMessages,
  fillNatsDisk,
  foreignMessages,
  freezeServers,
  killNats,
  takeAwayStreams
} from "./scenarios/nats.ts"
import { flap, partitionNats, partitionPostgres } from "./scenarios/network.ts"
import { blockNode, crashAtPoints, freezeNode, killAllNodes, killNodes, rollNodes } from "./scenarios/nodes.ts"
import { fillPostgresDisk, killPostgres, loseAnswers, slowPostgres } from "./scenarios/postgres.ts"
import { slowReaders } from "./scenarios/readers.ts"
import { fillArtifactsDisk, takeResources } from "./scenarios/resources.ts"
import { crashingAgent, graphsUnderKills, herd } from "./scenarios/work.ts"

export const faults: ReadonlyArray<Fault> = [
  ...[killNodes, crashAtPoints, killAllNodes, killNats, damageStore, killPostgres, loseAnswers, slowPostgres],
  ...[partitionNats, partitionPostgres, flap, freezeNode, freezeServers, blockNode, fillPostgresDisk, fillNatsDisk],
  ...[foreignMessages, doubleMessages, takeAwayStreams, herd, rollNodes, graphsUnderKills, crashingAgent, soak],
  ...[fillArtifactsDisk, takeResources, slowReaders, jumpClocks, renewCertificates]
]

/** Never a pass: what the rig does not show, and why. */
export const notRun: ReadonlyArray<{ readonly id: string; readonly title: string; readonly reason: string }> = [
  {
    id: "F06",
    title: "power cut of NATS",
    reason: "needs a guest system (QEMU) or LazyFS, which this rig does not have"
  },
  {
    id: "F07",
    title: "a cluster of three nats-servers",
    reason: "the rig has one nats-server; shown by test/servers/NatsCluster.test.ts, partitions apart"
  },
  {
    id: "F10",
    title: "failover of Postgres to a standby",
    reason: "the rig has one Postgres; shown by test/servers/PostgresFailover.test.ts"
  },
  { id: "F12", title: "Redis killed, emptied, slow", reason: "the platform does not use Redis" },
  {
    id: "F24",
    title: "poison tasks of all kinds",
    reason: "shown by test/isolation/platform.test.ts; crashes alone are F34"
  },
  {
    id: "F31",
    title: "rolling upgrade",
    reason: "shown by test/nodes/upgrade.test.ts, with statements that differ in text only"
  },
  { id: "F36", title: "restore from a backup", reason: "shown by test/servers/Backup.test.ts" }
]
