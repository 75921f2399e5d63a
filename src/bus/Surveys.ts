/**
 * Questions to all nodes over core NATS, answered by each to the asker's inbox: what nodes know and nobody stores.
 *
 * Invariant: a survey ends in time whoever is away, and costs nothing while nobody asks. A node answers itself without the
 * bus. What is not a sound answer is counted and left out.
 */
import { createInbox } from "@nats-io/transport-node"
import { type Duration, Effect, Result, Schema, type Scope } from "effect"
import type { NodeName } from "../../protocol/Ids.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import { type HostedInstance, SupervisionAnswer, SupervisionQuestion } from "../../protocol/Supervision.ts"
import type { Evidence } from "./Evidence.ts"
import type { Nats } from "./Nats.ts"

/** Characters of one message of an answer, where a server takes 1 MiB. */
const answerCharactersMax = 256 * 1024

type Handler = (question: SupervisionQuestion) => ReadonlyArray<HostedInstance>

interface Heard {
  readonly instances: Array<HostedInstance>
  done: boolean
}

/** Answers and asks while the scope is open. */
export const make = Effect.fnUntraced(function* (nats: Nats["Service"], evidence: Evidence) {
  const handlers = new Map<NodeName, Handler>()

  const asked = (subject: string, data: Uint8Array, reply: string | undefined) => {
    const question = decodeQuestion(new TextDecoder().decode(data))
    if (Result.isFailure(question) || reply === undefined) {
      return evidence.undecodable({
        kind: "survey",
        subject,
        bytes: data.length,
        reason: "it is no question that we know"
      })
    }
    for (const [node, handler] of handlers) {
      evidence.guard("survey", () => {
        for (const part of partsOf(node, handler(question.success))) nats.publish(reply, part)
      })
    }
  }

  yield* Effect.acquireRelease(
    Effect.sync(() =>
      nats.connection.subscribe(Subjects.survey, {
        callback: (error, message) => {
          if (error === null) asked(message.subject, message.data, message.reply)
        }
      })
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe())
  )

  /** Asks, and hears until all are there; ends by interruption otherwise. */
  const hear = (question: SupervisionQuestion, expected: ReadonlySet<NodeName>, heard: Map<NodeName, Heard>) =>
    Effect.callback<void>((resume) => {
      const isMissing = () => [...expected].some((node) => heard.get(node)?.done !== true)
      if (!isMissing() || !nats.connected()) return resume(Effect.void)
      const inbox = createInbox(Subjects.nodeInbox)
      const subscription = nats.connection.subscribe(inbox, {
        callback: (error, message) => {
          if (error !== null) return
          const answer = decodeAnswer(message.string())
          if (Result.isFailure(answer)) {
            return evidence.undecodable({
              ...{ kind: "survey", subject: Subjects.survey, bytes: message.data.length },
              reason: "it is no answer that we know"
            })
          }
          add(heard, answer.success)
          if (!isMissing()) resume(Effect.sync(() => subscription.unsubscribe()))
        }
      })
      const payload = JSON.stringify(question)
      const unsubscribed = Effect.sync(() => subscription.unsubscribe())
      if (!nats.publish(Subjects.survey, payload, { reply: inbox })) resume(unsubscribed)
      return unsubscribed
    })

  const add = (heard: Map<NodeName, Heard>, { instances, last, node }: SupervisionAnswer) => {
    // This node has answered itself.
    if (handlers.has(node)) return
    const entry = heard.get(node) ?? { instances: [], done: false }
    entry.instances.push(...instances)
    entry.done ||= last
    heard.set(node, entry)
  }

  const survey = Effect.fnUntraced(function* (
    question: SupervisionQuestion,
    options: { readonly expected: ReadonlySet<NodeName>; readonly within: Duration.Duration }
  ) {
    const heard = new Map<NodeName, Heard>()
    for (const [node, handler] of handlers) heard.set(node, { instances: [...handler(question)], done: true })
    yield* Effect.timeoutOption(hear(question, options.expected, heard), options.within)
    return new Map(
      Array.from(heard).flatMap(([node, { done, instances }]) => (done ? [[node, instances] as const] : []))
    )
  })

  const onSurvey = (node: NodeName, handler: Handler): Effect.Effect<void, never, Scope.Scope> =>
    Effect.asVoid(
      Effect.acquireRelease(
        Effect.sync(() => handlers.set(node, handler)),
        () => Effect.sync(() => handlers.delete(node))
      )
    )

  return { survey, onSurvey }
})

const decodeQuestion = Schema.decodeUnknownResult(Schema.fromJsonString(SupervisionQuestion))
const decodeAnswer = Schema.decodeUnknownResult(Schema.fromJsonString(SupervisionAnswer))

/** One message, or several where the instances would not fit into one. */
export const partsOf = (node: NodeName, instances: ReadonlyArray<HostedInstance>): ReadonlyArray<string> => {
  const parts: Array<Array<HostedInstance>> = [[]]
  let characters = 0
  for (const instance of instances) {
    const more = JSON.stringify(instance).length
    if (characters + more > answerCharactersMax && characters > 0) {
      parts.push([])
      characters = 0
    }
    parts.at(-1)?.push(instance)
    characters += more
  }
  return parts.map((part, index) => {
    const answer: SupervisionAnswer = { node, instances: part, last: index === parts.length - 1 }
    return JSON.stringify(answer)
  })
}
