/**
 * `datamcp tree`: which instance runs where and how it does; with `--watch` again and again until it is stopped.
 */
import { Effect, Option, Record, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import * as Limits from "../../protocol/Limits.ts"
import { instanceStates, ShowSupervision, type SupervisionTree } from "../../protocol/Supervision.ts"
import { connection } from "./Await.ts"
import { Client } from "./Client.ts"
import { type Connected, patiently } from "./Follow.ts"
import { decodeCommand } from "./input.ts"
import * as LiveArea from "./LiveArea.ts"
import { Output } from "./Output.ts"
import * as SupervisionView from "./SupervisionView.ts"

/** Between two looks. */
const lookEvery = "1 second"

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

export const tree = Command.make(
  "tree",
  {
    agent: text("agent", "Only this agent, by name or id"),
    node: text("node", "Only instances on this node"),
    state: text("state", `Only instances in this state: ${instanceStates.join(", ")}`),
    limit: Flag.Int("limit").pipe(
      Flag.withAlias("n"),
      Flag.withDescription(
        `Agents looked at, 1 to ${Limits.supervisionAgentsMax}, as many as that if not given; newest first`
      ),
      Flag.optional
    ),
    cursor: text("cursor", "Where the page before ended"),
    watch: Flag.Boolean("watch").pipe(
      Flag.withAlias("w"),
      Flag.withDefault(false),
      Flag.withDescription("Go on showing it: in place on a terminal, elsewhere again when it has changed")
    )
  },
  Effect.fn("tree")(function* ({ watch, ...given }) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(ShowSupervision, Record.getSomes<string, unknown>(given), "The filter")
    if (watch) return yield* output.animated ? animate(query) : narrate(query)
    yield* output.answer(yield* client.supervision.show({ query }), SupervisionView.text)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("The supervision tree: nodes, agents, instances and what they run"),
  Command.withExamples([
    { command: "datamcp tree --watch", description: "As it changes" },
    { command: "datamcp tree --state quarantined", description: "What takes no work" }
  ])
)

const looks = (query: ShowSupervision, connected: Connected) =>
  Stream.unwrap(
    Effect.map(Client, (client) =>
      Stream.paginate(true, (isFirst) =>
        Effect.sleep(isFirst ? 0 : lookEvery).pipe(
          Effect.andThen(patiently(client.supervision.show({ query }), connected)),
          Effect.map((seen) => [[seen], Option.some(false)] as const)
        )
      )
    )
  )

const animate = Effect.fnUntraced(function* (query: ShowSupervision) {
  const { ink } = yield* Output
  const area = yield* LiveArea.make
  const connected = yield* connection((words) => area.print(ink.yellow(words)))
  yield* Stream.runForEach(looks(query, connected), (seen) =>
    area.draw((size) => SupervisionView.frame(seen, size, ink))
  )
}, Effect.scoped)

const narrate = Effect.fnUntraced(function* (query: ShowSupervision) {
  const output = yield* Output
  const connected = yield* connection(output.note)
  yield* looks(query, connected).pipe(
    Stream.changesWith((before, after) => likeness(before) === likeness(after)),
    Stream.runForEach((seen) => output.item(seen, SupervisionView.text))
  )
})

/** All but when it was seen. */
const likeness = ({ at: _, ...seen }: SupervisionTree) => JSON.stringify(seen)
