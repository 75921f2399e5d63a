/**
 * Owns the bounds of the HTTP server that an operator may tune; those of the contract stand in `protocol/Limits.ts`.
 */
import { Context, Duration } from "effect"

export const HttpLimits = Context.Reference("datamcp/http/HttpLimits", {
  defaultValue: () => ({
    /** From the first byte of a request to the end of its header section. */
    headerTime: Duration.seconds(10),
    /** From the first byte of a request to the end of its body, where the body is a command. */
    bodyTime: Duration.seconds(30),
    /** From the first byte of a request to the end of its body, whatever it is: uploads of artifacts take longest. */
    uploadTime: Duration.seconds(300),
    /** How long a connection may idle between two requests. */
    keepAliveTime: Duration.seconds(5),
    /**
     * How long a connection may neither take nor give a byte while it is answered; above any wait of the contract. One that has
     * taken a part of what is queued for it is given the same time once more: Node looks at what is left only when it is over.
     */
    stallTime: Duration.seconds(75),
    /** Largest header section, in bytes. */
    headerBytesMax: 16 * 1024,
    /** Most connections at a time. */
    connectionsMax: 10_000,
    /** Most bytes of bodies that are being received at a time, over all requests. More answers 429. */
    bufferedBytesMax: 256 * 1024 * 1024,
    /** Submissions with a body above that of other commands that are received and stored at a time. More answers 429. */
    largeSubmissionsMax: 4,
    /** How long connections may idle once the server has begun to stop: the next request may be on its way on one. */
    idleTime: Duration.millis(250),
    /** How long requests in flight may take to end when the server stops. */
    drainTime: Duration.seconds(5),
    /** How often an open event stream is fed a comment and its key asked again. */
    heartbeat: Duration.seconds(5)
  })
})
