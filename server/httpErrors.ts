/** Owns how failures become HTTP: one body `{code, message, remedy}`, whatever failed. */
import type { FastifyError, FastifyInstance } from 'fastify'
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod'
import { SkeinError, toErrorBody } from '../src/protocol/errors.ts'
import type { ErrorBody } from '../src/protocol/errors.ts'

const STATUS: Readonly<Record<string, number>> = {
  'access.token_required': 401,
  'access.token_wrong': 403,
  'access.loopback_only': 403,
  'access.node_token': 403,
  'run.unknown': 404,
  'run.no_step': 404,
  'dataset.unknown': 404,
  'blob.missing': 404,
  'export.unknown_file': 404,
  'identity.challenge_unknown': 404,
  'identity.proof_unknown': 404,
  'identity.challenge_used': 409,
  'identity.device_bound': 409,
  'identity.device_revoked': 409,
  'identity.challenge_expired': 410,
  'identity.audience': 421,
  'identity.too_many_challenges': 503,
  'identity.no_chain': 409,
  'ledger.unknown_epoch': 404,
  'ledger.no_leaf': 404,
  'run.ended': 409,
  'run.unpaid': 409,
  'run.budget_lowered': 409,
  'ledger.moved': 409,
  'dataset.too_large': 413,
  'dataset.range': 416,
  'ledger.busy': 503,
  'ledger.fault': 500,
  'blob.corrupt': 500,
  'blob.write': 507,
  'store.corrupt': 500,
  'store.open': 500,
  'store.step_order': 500,
  'checkpoint.incomplete': 500,
  'audit.unknown': 404,
  'audit.exhibit_stranger': 403,
  'audit.exhibit_size': 411,
  'audit.busy': 503,
  'chain.unreachable': 503,
}

/** The status of a refusal: what the code says, else 422, a request that was understood and cannot be granted. */
export const statusOf = (code: string): number => STATUS[code] ?? 422

const megabytes = (bytes: number) => `${Math.round((bytes / 1_048_576) * 10) / 10} MiB`

function bodyOf(error: FastifyError, limit: number): { status: number; body: ErrorBody } {
  if (error instanceof SkeinError) return { status: statusOf(error.code), body: error.toJSON() }
  if (hasZodFastifySchemaValidationErrors(error)) {
    const faults = error.validation.map((issue) => {
      const path = issue.instancePath.split('/').filter(Boolean).join('.')
      return path === '' ? `${issue.message}` : `${path}: ${issue.message}`
    })
    const message = `The ${error.validationContext ?? 'request'} is not valid: ${faults.join('; ')}.`.slice(0, 2000)
    const remedy = 'Correct these fields; /api/v1/openapi.json describes them.'
    return { status: 400, body: { code: 'request.invalid', message, remedy } }
  }
  const status = error.statusCode ?? 500
  if (status === 413) {
    const message = `The body is larger than ${megabytes(limit)}.`
    return { status, body: { code: 'request.too_large', message, remedy: 'Send less at once.' } }
  }
  if (status === 415) {
    const remedy = 'Set Content-Type as /api/v1/openapi.json says: JSON, text/plain or application/octet-stream.'
    return { status, body: { code: 'request.media_type', message: error.message, remedy } }
  }
  if (status === 429) {
    const message = 'Too many requests from this address.'
    return { status, body: { code: 'request.too_many', message, remedy: 'Wait a minute, then go on more slowly.' } }
  }
  if (status < 500) {
    const remedy = 'Correct the request; /api/v1/openapi.json describes it.'
    return { status, body: { code: 'request.invalid', message: error.message.slice(0, 2000), remedy } }
  }
  const internal = toErrorBody(undefined)
  return { status: 500, body: { ...internal, message: 'The server failed at this request; its log says why.' } }
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The code and the remedy of a body over the route's limit. */
    tooLarge?: { code: string; remedy: string }
  }
}

/** Installs the error handler; internals go to the log, never to the caller. */
export function installErrors(app: FastifyInstance): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const { bodyLimit, config } = request.routeOptions
    const { status, body } = bodyOf(error, bodyLimit ?? app.initialConfig.bodyLimit ?? 0)
    if (status === 413) Object.assign(body, config.tooLarge)
    if (status >= 500) request.log.error({ err: error }, body.message)
    else request.log.debug({ code: body.code }, body.message)
    // The status may have no schema in the route; the body is complete as it is.
    return reply.status(status).type('application/json; charset=utf-8').send(JSON.stringify(body))
  })
}

/** The body of a 404 for a path that is nobody's. */
export function notFoundBody(method: string, path: string): ErrorBody {
  return {
    code: 'request.not_found',
    message: `There is nothing at ${method} ${path}.`.slice(0, 500),
    remedy: 'The console is at /console, the description of the API at /api/v1/openapi.json.',
  }
}
