/** Owns the routes of audits: what was found, what claimants show, and the operator's word that something is broken. */
import { z } from 'zod'
import {
  auditsQuerySchema,
  auditsViewSchema,
  incidentRequestSchema,
  incidentSchema,
  standingViewSchema,
} from '../../../src/protocol/auditApi.ts'
import { stepCredit } from '../../../src/model/credit.ts'
import { exhibitKindSchema } from '../../../src/protocol/audit.ts'
import { fail } from '../../../src/protocol/errors.ts'
import { deviceIdSchema } from '../../../src/protocol/identity.ts'
import { bearerOf, requireAdmin } from '../../access.ts'
import { bulkRate } from '../../appDeps.ts'
import type { ApiApp, AppDeps } from '../../appDeps.ts'

/** Of an exhibit: what a frame between nodes can hold. Each is only read up to the size that it has to have. */
const MAX_EXHIBIT_BYTES = 256 * 1024 * 1024

const tags = ['audits']
const exhibitParams = z.object({ audit: z.string().regex(/^[0-9a-f]{64}$/), kind: exhibitKindSchema })
const deviceParams = z.object({ device: deviceIdSchema })

export function auditRoutes(app: ApiApp, deps: AppDeps): void {
  const { config, store, tokens, audits } = deps
  const admin = async (request: Parameters<typeof requireAdmin>[1]) => requireAdmin(config, request)

  app.get(
    '/audits',
    {
      schema: {
        tags,
        summary: 'Audits, newest first, of a run or of a device; what they found together, and what they cost.',
        querystring: auditsQuerySchema,
        response: { 200: auditsViewSchema },
      },
    },
    async ({ query: { run: id, device = null, before = null, limit } }) => {
      const run = id === undefined ? null : await store.run(id)
      if (id !== undefined && !run)
        return fail('run.unknown', `There is no run ${id}.`, 'Look it up with GET /api/v1/runs.')
      const filter = { run: id ?? null, device }
      const { recomputed, ...counts } = await store.audits.totals(filter)
      const trained = run && device === null ? String(stepCredit(run.config) * BigInt(run.step)) : null
      return {
        audits: await store.audits.audits(filter, before, limit),
        totals: { ...counts, recomputed: String(recomputed), trained },
        drawn: config.audits !== null,
        incident: audits.incident,
      }
    },
  )

  app.get(
    '/audits/standings/:device',
    {
      schema: {
        tags,
        summary: 'How a device stands: its audits, how often it is audited, and until when it is shut out.',
        params: deviceParams,
        response: { 200: standingViewSchema },
      },
    },
    ({ params }) => audits.standing(params.device),
  )

  app.post(
    '/audits/incident',
    {
      schema: {
        tags,
        summary: 'Says that something here is broken: nobody is punished from then on until it is over.',
        body: incidentRequestSchema,
        response: { 201: incidentSchema },
      },
      onRequest: admin,
    },
    async ({ body: { reason, since } }, reply) => reply.status(201).send(await audits.declareIncident(reason, since)),
  )

  app.delete(
    '/audits/incident',
    { schema: { tags, summary: 'Ends the incident.', response: { 204: z.null() } }, onRequest: admin },
    async (_request, reply) => {
      await audits.endIncident()
      return reply.status(204).send(null)
    },
  )

  app.register(async (scope: ApiApp) => {
    scope.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    )
    scope.put(
      '/audits/:audit/exhibits/:kind',
      {
        bodyLimit: MAX_EXHIBIT_BYTES,
        config: { rateLimit: bulkRate(config) },
        schema: {
          tags,
          summary: 'Takes bytes that a node signed for; needs its token.',
          consumes: ['application/octet-stream'],
          params: exhibitParams,
          response: { 204: z.null() },
        },
        onRequest: async (request, reply) => {
          const named = exhibitParams.safeParse(request.params)
          if (!named.success)
            return fail(
              'audit.unknown',
              'There is no such exhibit.',
              'Name the audit and the kind that were asked for.',
            )
          const { audit, kind } = named.data
          audits.expect(audit, kind, nodeOf(request), lengthOf(request.headers['content-length']))
          reply.raw.once('close', audits.taking())
        },
      },
      async (request, reply) => {
        const { body, params } = request
        if (!(body instanceof Uint8Array))
          return fail('request.media_type', 'An exhibit is bytes.', 'Set Content-Type to application/octet-stream.')
        audits.show(params.audit, params.kind, nodeOf(request), body)
        return reply.status(204).send(null)
      },
    )
  })

  function nodeOf(request: Parameters<typeof bearerOf>[0]): string {
    const token = bearerOf(request)
    return (
      (token === null ? null : tokens.nodeOf(token)) ??
      fail(
        'access.node_token',
        'The node token is not valid or has expired.',
        'Reload the page: a new session gets a new token.',
      )
    )
  }
}

const lengthOf = (header: string | undefined) =>
  header !== undefined && /^\d{1,12}$/.test(header) ? Number(header) : null
