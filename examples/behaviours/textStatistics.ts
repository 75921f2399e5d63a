/**
 * A behaviour of your own, loaded by configuration: `text-statistics` counts what stands in a text.
 *
 * Try it (the module's path is seen from the directory where datamcp starts):
 *
 *   DATAMCP_BEHAVIOURS=./examples/behaviours/textStatistics.ts npm start
 *   npx datamcp agents create counter --type text-statistics --settings '{"locale": "en"}'
 *   npx datamcp tasks submit --agent counter --payload '{"text": "To be, or not to be.", "top": 2}' --wait
 *
 * A module exports one `Behaviour`. `check` refuses wrong settings when an agent is created; `open` runs once per
 * instance; the function that it returns runs once per attempt, and what it returns is the task's result. Fail with
 * `BehaviourFailure`, and say whether another attempt can help; whatever is thrown otherwise counts as a crash. Release
 * what you hold by Effect's finalizers: cancellation, deadline and hand-over interrupt the attempt.
 */
import { Effect, Schema, Stream } from "effect"
import { type Attempt, type Behaviour, BehaviourFailure } from "../../actors/Behaviour.ts"
import { payloadDecoder, settingsDecoder } from "../../actors/behaviours/BehaviourInput.ts"
import { ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { ArtifactId } from "../../protocol/Ids.ts"

const textBytesMax = 8 * 1024 * 1024
const topMax = 1_000

const Settings = Schema.Struct({
  /** Language that decides where words and sentences end, e.g. `en` or `ja`. */
  locale: Schema.optionalKey(
    Schema.String.check(
      Schema.makeFilter((tag: string) => isLocale(tag), { expected: "a language tag such as en or pt-BR" })
    )
  ),
  /** Words that are not among the top ones. */
  stop_words: Schema.optionalKey(Schema.Array(Schema.String).check(Schema.isMaxLength(10_000)))
})

const Payload = Schema.Struct({
  text: Schema.optionalKey(Schema.String),
  /** A stored text instead, UTF-8, at most 8 MiB. */
  artifact: Schema.optionalKey(ArtifactId),
  /** How many of the most frequent words to name; 10 when absent. */
  top: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: topMax })))
}).check(
  Schema.makeFilter(({ artifact, text }) => (artifact === undefined) !== (text === undefined), {
    expected: "a payload with either text or artifact"
  })
)

const decodeSettings = settingsDecoder(Settings)
const decodePayload = payloadDecoder(Payload)

const textOf = Effect.fnUntraced(function* (attempt: Attempt, payload: typeof Payload.Type) {
  if (payload.artifact === undefined) return payload.text ?? ""
  const store = yield* ArtifactStore
  const decoder = new TextDecoder()
  const pieces = yield* store.read(attempt.namespace, payload.artifact).pipe(
    Stream.mapAccum(
      () => 0,
      (bytes, piece) => [bytes + piece.length, [{ bytes: bytes + piece.length, piece }]] as const
    ),
    Stream.mapEffect(({ bytes, piece }) =>
      bytes <= textBytesMax
        ? Effect.succeed(decoder.decode(piece, { stream: true }))
        : Effect.fail({
            code: "text_too_large",
            message: `the text has more than ${textBytesMax} bytes`,
            retryable: false
          })
    ),
    Stream.runCollect,
    Effect.mapError((error) =>
      "retryable" in error
        ? new BehaviourFailure(error)
        : new BehaviourFailure({
            code: "artifact_unreadable",
            message: error.message,
            retryable: error.reason === "unavailable"
          })
    )
  )
  return pieces.join("") + decoder.decode()
})

/** Words by Unicode's rules (UAX #29), counted without regard to case. */
const statistics = (text: string, locale: string | undefined, stopWords: ReadonlySet<string>, top: number) => {
  const counts = new Map<string, number>()
  let words = 0
  for (const { isWordLike, segment } of new Intl.Segmenter(locale, { granularity: "word" }).segment(text)) {
    if (isWordLike !== true) continue
    words++
    const word = segment.toLocaleLowerCase(locale)
    counts.set(word, (counts.get(word) ?? 0) + 1)
  }
  const sentences = [...new Intl.Segmenter(locale, { granularity: "sentence" }).segment(text)].filter(
    ({ segment }) => segment.trim() !== ""
  ).length
  const ranked = [...counts]
    .filter(([word]) => !stopWords.has(word))
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  return {
    characters: Array.from(text).length,
    lines: text === "" ? 0 : text.split(/\r\n|\r|\n/u).length,
    words,
    distinct_words: counts.size,
    sentences,
    words_per_sentence: sentences === 0 ? null : Math.round((words / sentences) * 100) / 100,
    top_words: ranked.slice(0, top).map(([word, count]) => ({ word, count }))
  }
}

function isLocale(tag: string): boolean {
  return (
    /^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$/u.test(tag) && Intl.Segmenter.supportedLocalesOf([tag.slice(0, 35)]).length > 0
  )
}

export const behaviour: Behaviour = {
  type: "text-statistics",
  description: "Counts words, sentences and lines of a text and names its most frequent words.",
  capabilities: [{ name: "text.statistics", version: "1" }],
  check: decodeSettings,
  open: Effect.fnUntraced(function* (given) {
    const { locale, stop_words } = yield* decodeSettings(given)
    const stopWords = new Set((stop_words ?? []).map((word) => word.toLocaleLowerCase(locale)))
    return Effect.fnUntraced(function* (attempt: Attempt) {
      const payload = yield* decodePayload(attempt.payload)
      const text = yield* textOf(attempt, payload)
      yield* attempt.progress({ percentage: 50, current_step: "count" })
      return statistics(text, locale, stopWords, payload.top ?? 10)
    })
  })
}
