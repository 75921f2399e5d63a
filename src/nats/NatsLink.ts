/**
 * The connection that the micro service answers on. Given in by the program's composition: the service neither opens nor
 * closes it, and it may be the bus's own or one with fewer rights.
 */
import type { NatsConnection } from "@nats-io/transport-node"
import { Context } from "effect"

export class NatsLink extends Context.Service<NatsLink, NatsConnection>()("datamcp/nats/NatsLink") {}
