/**
 * Decides where answers may be sent. The service publishes with the node's rights, so a caller who could name any reply
 * subject could have it write to dispatch, events, or JetStream's own interface.
 */

import { nodeInbox } from "../../protocol/Subjects.ts"

/** Inboxes begin with `_`, as those of every NATS client and those that servers make up between accounts do. */
const inbox = /^_[^\s*>]{1,255}$/u

export const isInbox = (subject: string | undefined): subject is string =>
  subject !== undefined && inbox.test(subject) && !subject.startsWith(`${nodeInbox}.`)
