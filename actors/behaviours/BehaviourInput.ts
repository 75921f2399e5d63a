/**
 * Owns how a built-in behaviour reads what it is given: payloads and settings become checked values, closed and with all
 * faults at once, and the same schema tells people and tools what may stand in them.
 */
import { Effect, Result, Schema } from "effect"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import { BehaviourFailure, SettingsInvalid } from "../Behaviour.ts"

type Readable = Schema.ConstraintDecoder<unknown>

/** Payloads that break the schema fail with code `payload_invalid`: another attempt cannot help. */
export const payloadDecoder = <S extends Readable>(schema: S) => {
  const decode = inputDecoder(schema)
  return (payload: Schema.Json): Effect.Effect<S["Type"], BehaviourFailure> => {
    const decoded = decode(payload)
    return Result.isSuccess(decoded)
      ? Effect.succeed(decoded.success)
      : Effect.fail(
          new BehaviourFailure({
            code: "payload_invalid",
            message: `the payload is refused: ${told(decoded.failure)}`,
            retryable: false,
            details: { errors: decoded.failure.errors }
          })
        )
  }
}

export const settingsDecoder = <S extends Readable>(schema: S) => {
  const decode = inputDecoder(schema)
  return (settings: Schema.Json): Effect.Effect<S["Type"], SettingsInvalid> => {
    const decoded = decode(settings)
    return Result.isSuccess(decoded)
      ? Effect.succeed(decoded.success)
      : Effect.fail(new SettingsInvalid({ message: told(decoded.failure) }))
  }
}

/** Faults that a message names; all of them stand in the details. */
const faultsMax = 5

const told = ({ errors }: InvalidInput): string => {
  const faults = errors
    .slice(0, faultsMax)
    .map(({ field, message }) => (field === "" ? message : `${field}: ${message}`))
  return [...faults, ...(errors.length > faultsMax ? [`and ${errors.length - faultsMax} more`] : [])].join("; ")
}

/** JSON Schema (draft 2020-12) of a payload, for `Capability.parameters`. */
export const parametersOf = (schema: Schema.Constraint): Schema.Json => {
  const { definitions, schema: root } = Schema.toJsonSchemaDocument(schema, { onExcessProperty: "error" })
  const whole = Object.keys(definitions).length === 0 ? root : { ...root, $defs: definitions }
  return asJson(whole)
}

const asJson = Schema.decodeUnknownSync(Schema.Json)
