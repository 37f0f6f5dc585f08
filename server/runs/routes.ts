/** Owns the routes of runs, of the fleet that computes them, and of what they leave behind. */
import { Readable } from 'node:stream'
import { z } from 'zod'
import {
  fleetSchema,
  launchRequestSchema,
  nodeViewSchema,
  runDetailSchema,
  runSummarySchema,
  stepMetricSchema,
} from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import { budgetRequestSchema } from '../../src/protocol/payment.ts'
import { quoteRequestSchema, quoteSchema } from '../../src/protocol/quote.ts'
import { runTimelineSchema } from '../../src/protocol/timeline.ts'
import { requireAdmin } from '../access.ts'
import { bulkRate } from '../appDeps.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'
import { exportFiles } from './export.ts'
import { createLiveStreams } from './live.ts'

const idParams = z.object({ id: z.string().max(64) })
const fileParams = idParams.extend({ file: z.string().max(64) })
/** The checkpoint to export; the latest when left out. */
const stepQuery = z.object({ step: z.coerce.number().int().min(0).optional() })
const fileSchema = z.object({ name: z.string(), bytes: z.number() })

export function runRoutes(app: ApiApp, deps: AppDeps): void {
  const { config, store, runs, timelines } = deps
  const live = createLiveStreams(runs)
  app.addHook('preClose', async () => live.close())
  const admin = async (request: Parameters<typeof requireAdmin>[1]) => requireAdmin(config, request)

  app.get('/runs', { schema: { tags: ['runs'], response: { 200: z.array(runSummarySchema) } } }, () => runs.summaries())

  app.post(
    '/runs',
    {
      schema: {
        tags: ['runs'],
        summary: 'Launches a run; what the config leaves out takes its default.',
        body: launchRequestSchema,
        response: { 201: runSummarySchema },
      },
      onRequest: admin,
    },
    async (request, reply) => reply.status(201).send(await runs.launch(request.body)),
  )

  app.post(
    '/quote',
    {
      schema: {
        tags: ['runs'],
        summary: 'What a run of this configuration would cost and take, and the same on rented GPUs; launches nothing.',
        body: quoteRequestSchema,
        response: { 200: quoteSchema },
      },
    },
    (request) => runs.quote(request.body),
  )

  app.get(
    '/runs/:id',
    { schema: { tags: ['runs'], params: idParams, response: { 200: runDetailSchema } } },
    (request) => runs.detail(request.params.id),
  )

  app.post(
    '/runs/:id/cancel',
    { schema: { tags: ['runs'], params: idParams, response: { 200: runSummarySchema } }, onRequest: admin },
    (request) => runs.cancel(request.params.id),
  )

  app.post(
    '/runs/:id/budget',
    {
      schema: {
        tags: ['runs'],
        summary: 'Raises what the run may cost in all, in planck; a run that paused for want of it goes on.',
        params: idParams,
        body: budgetRequestSchema,
        response: { 200: runSummarySchema },
      },
      onRequest: admin,
    },
    (request) => runs.raiseBudget(request.params.id, request.body.budget),
  )

  app.post(
    '/runs/:id/checkpoint',
    {
      schema: {
        tags: ['runs'],
        summary: 'Asks for a checkpoint right after the next step; the answer does not wait for it.',
        params: idParams,
        response: { 200: runSummarySchema },
      },
      onRequest: admin,
    },
    (request) => runs.checkpoint(request.params.id),
  )

  app.get(
    '/runs/:id/metrics',
    { schema: { tags: ['runs'], params: idParams, response: { 200: z.array(stepMetricSchema) } } },
    async (request) => {
      const { id } = request.params
      if (!(await store.run(id))) fail('run.unknown', `There is no run ${id}.`, 'Look it up with GET /api/v1/runs.')
      return store.metrics(id)
    },
  )

  app.get(
    '/runs/:id/timeline',
    {
      schema: {
        tags: ['runs'],
        summary: 'Where the time of the last traced steps went, by node; kept in memory alone.',
        params: idParams,
        response: { 200: runTimelineSchema },
      },
    },
    async (request) => {
      const { id } = request.params
      if (!(await store.run(id))) fail('run.unknown', `There is no run ${id}.`, 'Look it up with GET /api/v1/runs.')
      return timelines.of(id)
    },
  )

  app.get(
    '/runs/:id/live',
    {
      schema: {
        tags: ['runs'],
        summary: 'Server-sent events: a snapshot, then every change.',
        produces: ['text/event-stream'],
        params: idParams,
      },
    },
    async (request, reply) => {
      if (request.method === 'HEAD') return reply.type('text/event-stream').send()
      const stream = await live.open(request.params.id)
      // Proxies such as nginx would hold the stream back until it fills a buffer.
      // The connection ends with the stream: kept alive after it, it would hold up a closing server.
      reply.headers({ 'cache-control': 'no-store', 'x-accel-buffering': 'no', connection: 'close' })
      return reply.type('text/event-stream; charset=utf-8').send(stream)
    },
  )

  app.get(
    '/runs/:id/export',
    {
      schema: {
        tags: ['runs'],
        summary: 'The files of the Hugging Face folder; the X-Skein-Step header names the checkpoint.',
        params: idParams,
        querystring: stepQuery,
        response: { 200: z.array(fileSchema) },
      },
    },
    async (request, reply) => {
      const { step, files } = await exportFiles(deps, request.params.id, request.query.step)
      return reply.header('x-skein-step', step).send(files.map(({ name, bytes }) => ({ name, bytes })))
    },
  )

  app.get(
    '/runs/:id/export/:file',
    {
      config: { rateLimit: bulkRate(config) },
      schema: { tags: ['runs'], summary: 'One file of the export.', params: fileParams, querystring: stepQuery },
    },
    async (request, reply) => {
      const { step, files } = await exportFiles(deps, request.params.id, request.query.step)
      const file = files.find(({ name }) => name === request.params.file)
      if (!file)
        return fail(
          'export.unknown_file',
          `An export has no file ${request.params.file}.`,
          `It has ${files.map(({ name }) => name).join(', ')}.`,
        )
      reply.headers({
        'content-type': file.contentType,
        'content-length': file.bytes,
        'content-disposition': `attachment; filename="${file.name}"`,
        'cache-control': 'no-cache',
        'x-skein-step': step,
      })
      return reply.send(Readable.from(file.content(), { objectMode: false }))
    },
  )

  app.get('/nodes', { schema: { tags: ['fleet'], response: { 200: z.array(nodeViewSchema) } } }, async () =>
    runs.nodes(),
  )
  app.get('/fleet', { schema: { tags: ['fleet'], response: { 200: fleetSchema } } }, async () => runs.fleet())
}
