/**
 * How webhooks, their deliveries and hooks look. Pure.
 */
import type { CreatedHook, Hook } from "../../protocol/Hook.ts"
import type { CreatedWebhook, Delivery, Webhook } from "../../protocol/Webhook.ts"
import * as Ink from "./Ink.ts"

export const webhooks = (list: ReadonlyArray<Webhook>, ink: Ink.Ink): string =>
  Ink.table(
    ["ID", "NAME", "STATE", "EVENTS", "URL"],
    list.map((webhook) => [
      webhook.id,
      webhook.name,
      stateOf(webhook, ink),
      webhook.filter.events?.join(",") ?? "all",
      Ink.printable(webhook.url)
    ]),
    ink
  )

const stateOf = ({ disabled_reason, enabled }: Webhook, ink: Ink.Ink) =>
  enabled
    ? ink.green("enabled")
    : (disabled_reason === "asked" ? ink.yellow : ink.red)(`disabled (${disabled_reason ?? ""})`)

export const webhook = (shown: Webhook, ink: Ink.Ink): string =>
  Ink.facts(
    [
      ["id", shown.id],
      ["name", shown.name],
      ["url", Ink.printable(shown.url)],
      ["description", Ink.printable(shown.description ?? "")],
      ["state", stateOf(shown, ink)],
      ["since", shown.disabled_at === null ? null : Ink.time(shown.disabled_at)],
      ["filter", Ink.printable(JSON.stringify(shown.filter))],
      ["results", shown.include_result ? "sent with ends" : "left out"],
      ["retry", Ink.printable(JSON.stringify(shown.retry))],
      ["in flight", `at most ${shown.concurrency}, ${shown.timeout_ms} ms each`],
      ["failures", `${shown.failures} in a row; ${shown.disable_after} disable it`],
      ["old secret", shown.previous_secret_until === null ? null : `until ${Ink.time(shown.previous_secret_until)}`],
      ["created", `${Ink.time(shown.created_at)} by ${Ink.printable(shown.created_by)}`],
      ["version", String(shown.version)]
    ],
    ink
  )

export const createdWebhook = (created: CreatedWebhook, ink: Ink.Ink): string =>
  [ink.bold(created.secret), ink.dim(keepIt), webhook(created, ink)].join("\n")

const keepIt = "Keep it now: it cannot be shown again."

export const deliveries = (list: ReadonlyArray<Delivery>, ink: Ink.Ink): string =>
  Ink.table(
    ["ID", "EVENT", "STATUS", "ATTEMPTS", "ANSWER", "TIME", "CREATED", "ERROR"],
    list.map((delivery) => [
      delivery.id,
      Ink.printable(delivery.event),
      statusOf(delivery, ink),
      String(delivery.attempt),
      delivery.response_status === null ? "" : String(delivery.response_status),
      delivery.duration_ms === null ? "" : Ink.duration(delivery.duration_ms),
      Ink.time(delivery.created_at),
      Ink.printable(delivery.error ?? "")
    ]),
    ink
  )

const statusOf = ({ status }: Delivery, ink: Ink.Ink) =>
  status === "delivered" ? ink.green(status) : status === "failed" ? ink.red(status) : ink.cyan(status)

/** One line: what became of it. */
export const delivery = (shown: Delivery, ink: Ink.Ink): string =>
  [
    shown.id,
    statusOf(shown, ink),
    shown.response_status === null ? "" : `answered ${shown.response_status}`,
    shown.duration_ms === null ? "" : `in ${Ink.duration(shown.duration_ms)}`,
    Ink.printable(shown.error ?? "")
  ]
    .filter((part) => part !== "")
    .join("  ")

export const hooks = (list: ReadonlyArray<Hook>, ink: Ink.Ink): string =>
  Ink.table(
    ["ID", "NAME", "AUTHENTICATION", "STATE", "TASK"],
    list.map((hook) => [
      hook.id,
      hook.name,
      hook.authentication,
      hook.enabled ? ink.green("enabled") : ink.yellow("disabled"),
      Ink.printable(JSON.stringify(hook.task)).slice(0, 80)
    ]),
    ink
  )

export const hook = (shown: Hook, ink: Ink.Ink): string =>
  Ink.facts(
    [
      ["id", shown.id],
      ["name", shown.name],
      ["description", Ink.printable(shown.description ?? "")],
      ["authentication", shown.authentication],
      ["state", shown.enabled ? "enabled" : "disabled"],
      ["once per", shown.idempotency_header],
      ["requests", `at most ${shown.per_minute} a minute on each node`],
      ["task", Ink.printable(JSON.stringify(shown.task))],
      ["created", `${Ink.time(shown.created_at)} by ${Ink.printable(shown.created_by)}`],
      ["version", String(shown.version)]
    ],
    ink
  )

export const createdHook = (created: CreatedHook, ink: Ink.Ink): string =>
  [
    `${ink.bold(created.path)}`,
    ...(created.authentication === "secret" ? [] : [`secret ${ink.bold(created.secret)}`]),
    ink.dim(keepIt),
    hook(created, ink)
  ].join("\n")
