/**
 * A small file server on the loopback, for the demonstration's data sets. It serves the files it was given by name and
 * nothing else, and lives as long as its scope.
 */
import { createReadStream, statSync } from "node:fs"
import { createServer } from "node:http"
import { Effect, Schema } from "effect"

export class FileServerProblem extends Schema.TaggedError<FileServerProblem>()("FileServerProblem", {
  message: Schema.String
}) {}

const contentTypes: { readonly [extension: string]: string } = { csv: "text/csv", json: "application/json" }

/** Serves `files` (name in the URL to path) on a free port; gives the URL they stand below, without a slash at its end. */
export const serveFiles = (files: ReadonlyMap<string, string>) =>
  Effect.map(
    Effect.acquireRelease(listen(files), (server) => Effect.sync(server.close)),
    ({ url }) => url
  )

const listen = (files: ReadonlyMap<string, string>) =>
  Effect.callback<{ readonly url: string; readonly close: () => void }, FileServerProblem>((resume) => {
    const server = createServer({ requestTimeout: 30_000 }, (request, response) => {
      const file = files.get((request.url ?? "").slice(1))
      if (request.method !== "GET" || file === undefined) {
        response.writeHead(404).end()
        return
      }
      const type = contentTypes[file.split(".").at(-1) ?? ""] ?? "application/octet-stream"
      response.writeHead(200, { "content-type": type, "content-length": statSync(file).size })
      createReadStream(file)
        .on("error", () => response.destroy())
        .pipe(response)
    })
    server.on("error", (error) => resume(Effect.fail(new FileServerProblem({ message: error.message }))))
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      if (typeof address !== "object" || address === null) return
      resume(
        Effect.succeed({
          url: `http://127.0.0.1:${address.port}`,
          close: () => {
            server.closeAllConnections()
            server.close()
          }
        })
      )
    })
  })
