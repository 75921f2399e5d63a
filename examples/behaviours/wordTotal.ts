/**
 * A behaviour that submits tasks of its own and waits for them: `word-total` counts the words of many texts by giving each
 * half of them to a child.
 *
 * Try it (an agent with one slot is enough, because none of those that wait has one):
 *
 *   DATAMCP_BEHAVIOURS=./examples/behaviours/wordTotal.ts npm start
 *   npx datamcp agents create totals --type word-total --concurrency 1
 *   npx datamcp tasks submit --agent totals --payload '{"texts": ["To be,", "or not", "to be."]}' --wait
 *
 * When its children have not ended, `awaitChildren` interrupts the run; once they have, the function runs again from its
 * beginning. `submit` then gives the same ids and `awaitChildren` the answer, so what stands before it must be cheap or
 * harmless to do twice.
 */
import { Effect, Schema } from "effect"
import { type Attempt, type Behaviour, BehaviourFailure } from "../../actors/Behaviour.ts"
import { payloadDecoder, settingsDecoder } from "../../actors/behaviours/BehaviourInput.ts"

const textsMax = 1_000

const decodeSettings = settingsDecoder(Schema.Struct({}))
const decodePayload = payloadDecoder(
  Schema.Struct({ texts: Schema.Array(Schema.String).check(Schema.isBetweenLength(1, textsMax)) })
)
const decodeTotal = Schema.decodeUnknownEffect(Schema.Struct({ words: Schema.Int, tasks: Schema.Int }))

const total = Effect.fnUntraced(function* (attempt: Attempt) {
  const { texts } = yield* decodePayload(attempt.payload)
  const [text = ""] = texts
  if (texts.length === 1) return { words: text.split(/\s+/u).filter((word) => word !== "").length, tasks: 1 }

  const half = Math.ceil(texts.length / 2)
  const halves = [texts.slice(0, half), texts.slice(half)]
  const ids = yield* attempt.submit(
    "halves",
    halves.map((part) => ({ type: attempt.type, payload: { texts: part } }))
  )
  let words = 0
  let tasks = 1
  for (const { data, error, id } of yield* attempt.awaitChildren(ids)) {
    if (error !== undefined) return yield* partFailed(`${id} did not complete: ${error.code}`)
    const part = yield* Effect.mapError(decodeTotal(data), ({ message }) => partFailed(`${id}: ${message}`))
    words += part.words
    tasks += part.tasks
  }
  return { words, tasks }
})

const partFailed = (message: string) => new BehaviourFailure({ code: "part_failed", message, retryable: false })

export const behaviour: Behaviour = {
  type: "word-total",
  description: "Counts the words of many texts, each half of them by a task of its own.",
  capabilities: [{ name: "word.total", version: "1" }],
  check: decodeSettings,
  open: (settings) => Effect.as(decodeSettings(settings), total)
}
