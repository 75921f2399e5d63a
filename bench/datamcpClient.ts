/** The client process of datamcp: `datamcpClient.ts <platform>`, the platform as JSON. */
import { makeClient } from "./Client.ts"
import { agent } from "./datamcp.ts"
import { serveClient } from "./System.ts"
import type { Submitter } from "./Work.ts"

/** Tasks per batch, and batches in flight. */
const batch = { tasks: 500, inFlight: 8 }

const client = await makeClient(JSON.parse(process.argv[2] ?? "{}"))
const taskOf = (payload: object) => ({ agent, type: "echo", payload })

const submitter = (submit: (task: object) => Promise<string>): Submitter => ({
  submitMany: async (tasks) => {
    let next = 0
    const sender = async () => {
      while (next < tasks.length) {
        const part = tasks.slice(next, next + batch.tasks)
        next += batch.tasks
        const accepted = await client.batchNats(part.map(taskOf))
        if (accepted !== part.length) throw new Error(`only ${accepted} of a batch of ${part.length} were accepted`)
      }
    }
    await Promise.all(Array.from({ length: batch.inFlight }, sender))
  },
  submit: (task) => submit(taskOf(task)),
  ended: async (id) => {
    const status = await client.waitNats(String(id))
    if (status !== "completed") throw new Error(`a task ended as ${status}`)
  },
  remaining: async (submitted) =>
    submitted - (await client.request("GET", `/api/v1/agents/${agent}/metrics`)).completed,
  close: () => client.close()
})

serveClient({ nats: submitter(client.submitNats), http: submitter(client.submitHttp) })
