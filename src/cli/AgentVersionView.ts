/**
 * How the versions of an agent's definition look. Pure.
 */
import type { AgentVersion, AgentVersions, VersionFigures } from "../../protocol/AgentVersion.ts"
import * as Ink from "./Ink.ts"

export const list = ({ data }: AgentVersions, ink: Ink.Ink): string =>
  Ink.table(
    ["VERSION", "SHARE", "COMPLETED", "FAILED", "TIMED OUT", "SUCCESS", "MEAN TIME", "CREATED", "BY"],
    data.map(({ actor, created_at, figures, restores, share_percent, version }) => [
      restores === null ? String(version) : `${version} (is ${restores})`,
      share_percent === 0 ? "" : `${share_percent} %`,
      String(figures.completed),
      String(figures.failed),
      String(figures.timed_out),
      success(figures),
      figures.response_time_mean_ms === null ? "" : Ink.duration(figures.response_time_mean_ms),
      Ink.time(created_at),
      actor ?? ""
    ]),
    ink
  )

export const details = (kept: AgentVersion, ink: Ink.Ink): string =>
  [
    Ink.facts(
      [
        ["version", String(kept.version)],
        ["created", Ink.time(kept.created_at)],
        ["by", kept.actor],
        ["brings back", kept.restores === null ? null : `version ${kept.restores}`],
        ["share", `${kept.share_percent} % of new tasks`],
        ["completed", String(kept.figures.completed)],
        ["failed", String(kept.figures.failed)],
        ["timed out", String(kept.figures.timed_out)],
        ["success", success(kept.figures)]
      ],
      ink
    ),
    JSON.stringify(kept.definition, undefined, 2).split("\n").map(Ink.printable).join("\n")
  ].join("\n")

const success = ({ success_rate }: VersionFigures) =>
  success_rate === null ? "" : `${(success_rate * 100).toFixed(1)} %`
