/**
 * A bus within one process, for tests of actors without a nats-server. It keeps messages until they are acknowledged, and
 * can be told to lose everything (`cut`) or to deliver everything twice, as the real one may.
 */
import { Context, Effect, Layer } from "effect"
import { Bus, BusUnavailable, type Delivery, type EventBatch } from "../../actors/ports/Bus.ts"
import type { Chunk } from "../../protocol/Chunk.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { NodeName } from "../../protocol/Ids.ts"
import type { Notice } from "../../protocol/Notice.ts"
import type { HostedInstance, SupervisionQuestion } from "../../protocol/Supervision.ts"

export class MemoryBusControl extends Context.Service<
  MemoryBusControl,
  {
    /** While cut, what is published is lost and consumers fail. */
    readonly cut: (isCut: boolean) => void
    /** How often each message is delivered. */
    readonly copies: (count: number) => void
    /** Messages that were delivered and not acknowledged. */
    readonly unacknowledged: () => number
    /** Orders of an agent that came here to be delivered, lost ones too. */
    readonly dispatched: (agentId: string) => number
  }
>()("datamcp/test/MemoryBusControl") {}

export const layer = Layer.effectContext(
  Effect.sync(() => {
    const waiting = new Map<string, Array<ReadonlyArray<TaskOrder>>>()
    const consumers = new Map<string, Set<(delivery: Delivery) => void>>()
    const noticeHandlers = new Set<(notice: Notice) => void>()
    const eventHandlers = new Map<string, Set<(events: EventBatch) => void>>()
    const chunkHandlers = new Map<string, Set<(chunks: ReadonlyArray<Chunk>) => void>>()
    const surveyed = new Map<NodeName, (question: SupervisionQuestion) => ReadonlyArray<HostedInstance>>()
    const failures = new Set<() => void>()
    const dispatched = new Map<string, number>()
    let isCut = false
    let copies = 1
    let open = 0

    const deliver = (subject: string) => {
      const [consumer] = consumers.get(subject) ?? []
      if (consumer === undefined) return
      for (const orders of waiting.get(subject)?.splice(0) ?? []) {
        for (let copy = 0; copy < copies; copy++) {
          open++
          consumer({
            orders,
            ack: () => {
              open--
            },
            working: () => {}
          })
        }
      }
    }

    const bus = Bus.of({
      connected: () => !isCut,
      dispatch: (orders) =>
        Effect.sync(() => {
          for (const { agentId } of orders) dispatched.set(agentId, (dispatched.get(agentId) ?? 0) + 1)
          if (isCut) return
          const subjects = new Map<string, Array<TaskOrder>>()
          for (const { agentId, order } of orders) {
            const subject = `${agentId}.${order.lane}`
            const group = subjects.get(subject)
            if (group === undefined) subjects.set(subject, [order])
            else group.push(order)
          }
          for (const [subject, group] of subjects) {
            const queue = waiting.get(subject)
            if (queue === undefined) waiting.set(subject, [group])
            else queue.push(group)
            queueMicrotask(() => deliver(subject))
          }
        }),
      consume: ({ agentId, lane, onDelivery }) =>
        Effect.callback((resume) => {
          const fail = () => resume(Effect.fail(new BusUnavailable({ operation: "consume", cause: "cut" })))
          if (isCut) {
            fail()
            return
          }
          const subject = `${agentId}.${lane}`
          const group = consumers.get(subject) ?? new Set()
          consumers.set(subject, group.add(onDelivery))
          failures.add(fail)
          queueMicrotask(() => deliver(subject))
          return Effect.sync(() => {
            group.delete(onDelivery)
            failures.delete(fail)
          })
        }),
      notify: (notice) =>
        Effect.sync(() => {
          if (!isCut) queueMicrotask(() => noticeHandlers.forEach((handler) => handler(notice)))
        }),
      onNotice: (handler) =>
        Effect.acquireRelease(
          Effect.sync(() => noticeHandlers.add(handler)),
          () => Effect.sync(() => noticeHandlers.delete(handler))
        ),
      survey: (question) =>
        Effect.sync(() => new Map(Array.from(surveyed, ([node, handler]) => [node, handler(question)] as const))),
      onSurvey: (node, handler) =>
        Effect.acquireRelease(
          Effect.sync(() => surveyed.set(node, handler)),
          () => Effect.sync(() => surveyed.delete(node))
        ),
      publishEvents: (events) =>
        Effect.sync(() => {
          if (isCut) return
          for (const [namespace, handlers] of eventHandlers) {
            const own = events.filter((event) => event.namespace === namespace)
            if (own.length > 0) queueMicrotask(() => handlers.forEach((handler) => handler(own)))
          }
        }),
      onEvents: (namespace, handler) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const handlers = eventHandlers.get(namespace) ?? new Set()
            eventHandlers.set(namespace, handlers.add(handler))
          }),
          () => Effect.sync(() => eventHandlers.get(namespace)?.delete(handler))
        ),
      publishChunks: (_, chunks) =>
        Effect.sync(() => {
          const handlers = chunkHandlers.get(chunks[0]?.task_id ?? "")
          if (!isCut && handlers !== undefined) queueMicrotask(() => handlers.forEach((handler) => handler(chunks)))
        }),
      onChunks: ({ taskId }, handler) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const handlers = chunkHandlers.get(taskId) ?? new Set()
            chunkHandlers.set(taskId, handlers.add(handler))
          }),
          () => Effect.sync(() => chunkHandlers.get(taskId)?.delete(handler))
        )
    })

    const control = MemoryBusControl.of({
      cut: (next) => {
        isCut = next
        if (next) {
          waiting.clear()
          for (const consumersOfSubject of consumers.values()) consumersOfSubject.clear()
          for (const fail of [...failures]) fail()
          failures.clear()
        }
      },
      copies: (count) => {
        copies = count
      },
      unacknowledged: () => open,
      dispatched: (agentId) => dispatched.get(agentId) ?? 0
    })
    return Context.make(Bus, bus).pipe(Context.add(MemoryBusControl, control))
  })
)
