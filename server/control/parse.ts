/** Owns what is believed of a text off a control socket: JSON, of this protocol's version, that fits the schema. */
import { clientMessageSchema, type ClientMessage } from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { envelopeSchema, type Envelope } from '../../src/protocol/mailbox.ts'
import { PROTOCOL_VERSION } from '../../src/protocol/version.ts'

export type Hello = Extract<ClientMessage, { type: 'hello' }>

const RELOAD = 'Reload the page to get the current version; agents are updated and started again.'

function invalid(message: string): ErrorBody {
  return { code: 'control.invalid', message, remedy: RELOAD }
}

const envelopeOfClient = envelopeSchema(clientMessageSchema)

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function firstFault(issues: readonly { path: PropertyKey[]; message: string }[]): ErrorBody {
  const { path, message } = issues[0]!
  return invalid(`A control message is not valid: ${path.join('.')}: ${message}`.slice(0, 500))
}

const NOT_JSON = 'A control message is not JSON text.'

/** The version is looked at before the schema: an old client is to read that it is old, not that a field is missing. */
export function parseHello(text: string): { hello: Hello } | { error: ErrorBody } {
  const json = parseJson(text)
  if (json === undefined) return { error: invalid(NOT_JSON) }
  const { type, protocol } = (json ?? {}) as Record<string, unknown>
  if (type === 'hello' && protocol !== PROTOCOL_VERSION)
    return {
      error: {
        code: 'control.protocol',
        message: `This client speaks protocol ${String(protocol).slice(0, 20)}, the server ${PROTOCOL_VERSION}.`,
        remedy: RELOAD,
      },
    }
  const parsed = clientMessageSchema.safeParse(json)
  if (!parsed.success) return { error: firstFault(parsed.error.issues) }
  if (parsed.data.type !== 'hello') return { error: invalid('The first message has to be a hello.') }
  return { hello: parsed.data }
}

export function parseEnvelope(text: string): { envelope: Envelope<ClientMessage> } | { error: ErrorBody } {
  const json = parseJson(text)
  if (json === undefined) return { error: invalid(NOT_JSON) }
  const parsed = envelopeOfClient.safeParse(json)
  return parsed.success ? { envelope: parsed.data } : { error: firstFault(parsed.error.issues) }
}
