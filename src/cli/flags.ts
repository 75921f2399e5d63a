/**
 * Flags that every command knows.
 */
import { Flag, GlobalFlag } from "effect/cli"

export const defaultUrl = "http://127.0.0.1:8002"

export const Json = GlobalFlag.Setting("json")({
  flag: Flag.Boolean("json").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Print JSON and nothing else; a line for each where it streams")
  )
})

export const Url = GlobalFlag.Setting("url")({
  flag: Flag.String("url").pipe(
    Flag.optional,
    Flag.withDescription(`Where the server is; else DATAMCP_URL, else where one was started here, else ${defaultUrl}`)
  )
})

export const Key = GlobalFlag.Setting("key")({
  flag: Flag.Redacted("key").pipe(
    Flag.optional,
    Flag.withDescription(
      "API key; others on this machine can see it in the list of processes: prefer DATAMCP_API_KEY, or the file " +
        ".datamcp/admin.key that `up` writes"
    )
  )
})
