/** What a machine runs out of: room for artifacts, file descriptors, memory. */
import { createHash } from "node:crypto"
import { get } from "node:http"
import { connect, type Socket } from "node:net"
import { type Fault, type FaultRun, seconds, untilAccepted } from "../Fault.ts"
import { bodyOf, call, submitOnce } from "../Load.ts"
import type { RigNode } from "../Rig.ts"
import { smallDiskMissing } from "../SmallDisk.ts"

const upload = async (run: FaultRun, node: RigNode, bytes: Buffer) => {
  const response = await fetch(`${node.url}/api/v1/artifacts?name=fill`, {
    method: "POST",
    headers: { authorization: `Bearer ${run.rig.adminKey}`, "content-type": "application/octet-stream" },
    body: new Uint8Array(bytes),
    signal: AbortSignal.timeout(15_000)
  }).catch(() => undefined)
  return { status: response?.status ?? 0, id: response?.ok ? String((await bodyOf(response)).id) : undefined }
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

export const fillArtifactsDisk: Fault = {
  id: "F22",
  title: "the disk of artifacts is full",
  pass: "an upload or a large payload is refused (5xx), never half kept; ordinary tasks do not notice; it goes on once there is room",
  ...{ nodes: 2, perSecond: 60, seconds: 30, disks: { artifactsMiB: 64 } },
  unable: smallDiskMissing,
  inject: async (run) => {
    const [disk] = run.disks
    const [node] = run.rig.nodes
    if (node === undefined) return []
    const kept = new Map<string, string>()
    const statuses = new Map<number, number>()
    const resumed: Array<number> = []
    let accepted = 0
    let asked = 0
    let large = 0
    const put = async () => {
      const bytes = Buffer.alloc(2 * 1_048_576, Math.floor(run.chance.between(0, 256)))
      const { id, status } = await upload(run, node, bytes)
      if (id !== undefined) kept.set(id, sha256(bytes))
      return status
    }
    await put()
    while (run.goesOn()) {
      run.injected("the disk is filled")
      disk?.fill()
      const from = run.history.operations.length
      for (let number = 0; number < 5; number++) {
        const status = await put()
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        const body = { agent: "echo", payload: { text: "x".repeat(700_000) } }
        const { outcome } = await submitOnce(run, node, { kind: "submit", key: `large-${large++}`, body })
        if (outcome === "ok") run.tell("a large payload was accepted although there is no room")
      }
      await seconds(run.chance.between(2, 4))
      const ordinary = run.history.operations
        .slice(from)
        .filter(({ key, kind }) => kind === "submit" && !key.startsWith("large"))
      asked += ordinary.length
      accepted += ordinary.filter(({ outcome }) => outcome === "ok").length
      disk?.free()
      const began = performance.now()
      while ((await put()) >= 300 && performance.now() - began < 30_000) await seconds(0.2)
      resumed.push(performance.now() - began)
    }
    let wrong = 0
    for (const [id, hash] of kept) {
      const response = await call(run.rig, node, "GET", `/artifacts/${id}/content`)
      if (!response.ok || sha256(new Uint8Array(await response.arrayBuffer())) !== hash) wrong++
    }
    const count = (which: (status: number) => boolean) =>
      [...statuses].reduce((sum, [status, times]) => sum + (which(status) ? times : 0), 0)
    run.tell(
      `uploads while full were answered ${[...statuses].map(([status, times]) => `${status} (${times})`).join(", ")}`
    )
    return [
      { name: "uploads refused while full", value: count((status) => status >= 500), unit: "", least: 1 },
      { name: "uploads accepted while full", value: count((status) => status > 0 && status < 300), unit: "", most: 0 },
      { name: "uploads without an answer", value: count((status) => status === 0), unit: "", most: 0 },
      { name: "artifacts kept", value: kept.size, unit: "", least: 2 },
      { name: "of them not as they were sent", value: wrong, unit: "", most: 0 },
      {
        name: "ordinary submissions accepted meanwhile",
        value: Math.floor((100 * accepted) / Math.max(1, asked)),
        ...{ unit: "%", least: 95 }
      },
      {
        name: "longest from room to the next upload",
        value: Math.round(Math.max(0, ...resumed)),
        ...{ unit: "ms", most: 10_000 }
      }
    ]
  }
}

/** So many connections that say nothing, to a node that may not have that many files. */
const crowd = (node: RigNode, size: number): ReadonlyArray<Socket> =>
  Array.from({ length: size }, () => {
    const socket = connect(node.port, "127.0.0.1")
    socket.on("error", () => undefined)
    return socket
  })

export const takeResources: Fault = {
  id: "F23",
  title: "a node has no file descriptors left, then no memory",
  pass: "it answers again once there are some; where it dies others go on; nothing acknowledged is lost",
  ...{ nodes: 2, perSecond: 60, seconds: 50 },
  inject: async (run) => {
    const [victim, other] = run.rig.nodes
    if (victim === undefined || other === undefined) return []
    // By a connection of its own: one that is there needs no file more.
    const answers = (millis: number) =>
      new Promise<boolean>((resolve) => {
        const url = `http://127.0.0.1:${victim.port}/health/ready`
        const request = get(url, { agent: false, timeout: millis }, (response) => {
          response.resume()
          resolve(response.statusCode === 200)
        })
        request.on("timeout", () => request.destroy())
        request.on("error", () => resolve(false))
        request.on("close", () => resolve(false))
      })
    await victim.process().stop()
    await victim.start({ filesMost: 96 })
    let starved = 0
    let deaths = 0
    const recovered: Array<number> = []
    for (let turn = 0; turn < 3; turn++) {
      run.injected("400 connections to a node that may have 96 files")
      const sockets = crowd(victim, 400)
      for (let second = 0; second < 6; second++) {
        await seconds(0.5)
        if (!(await answers(500))) starved++
      }
      for (const socket of sockets) socket.destroy()
      const began = performance.now()
      while (!(await answers(500)) && performance.now() - began < 30_000) {
        if (!victim.process().isUp()) {
          deaths++
          run.tell(`the node ended:\n${victim.process().output().slice(-1_500)}`)
          await victim.start({ filesMost: 96 })
        }
        await seconds(0.1)
      }
      recovered.push(performance.now() - began)
      await seconds(2)
    }
    await victim.process().stop()

    let outOfMemory = 0
    const resumed: Array<number> = []
    while (run.goesOn() || outOfMemory === 0) {
      await victim.start({ heapMiB: 72 })
      const began = performance.now()
      run.injected("a node with a heap of 72 MiB is sent what does not fit")
      for (let number = 0; victim.process().isUp() && performance.now() - began < 20_000; number++) {
        const body = { agent: "echo", payload: { items: Array.from({ length: 90_000 }, (_, at) => [at]) } }
        const key = `heavy-${run.history.operations.length}`
        const send = () => submitOnce(run, victim, { kind: "submit", key: `${key}-${number}`, body, millis: 4_000 })
        await Promise.race([send(), victim.process().gone, seconds(0.3)])
      }
      if (!victim.process().isUp()) {
        outOfMemory++
        const left = /heap out of memory/.test(victim.process().output())
        run.tell(left ? "it ran out of memory and ended" : `it ended:\n${victim.process().output().slice(-800)}`)
        resumed.push((await untilAccepted(run.history)) ?? Number.POSITIVE_INFINITY)
      } else {
        run.tell("it lived")
        await victim.process().stop()
        if (performance.now() - began > 20_000 && !run.goesOn()) break
      }
    }
    return [
      { name: "questions without an answer while there were no files", value: starved, unit: "", least: 1 },
      { name: "ends for want of files", value: deaths, unit: "", most: 0 },
      { name: "longest until it answered again", value: Math.round(Math.max(...recovered)), unit: "ms", most: 10_000 },
      { name: "ends for want of memory", value: outOfMemory, unit: "", least: 1 },
      { name: "longest until the next accept", value: Math.round(Math.max(0, ...resumed)), unit: "ms", most: 10_000 }
    ]
  }
}
