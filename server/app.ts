/** Owns the HTTP application: which plugins and routes it has, in which order, under which limits. */
import fastifyRateLimit from '@fastify/rate-limit'
import fastifySwagger from '@fastify/swagger'
import Fastify, { LogController } from 'fastify'
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { PROTOCOL_VERSION } from '../src/protocol/version.ts'
import type { ApiApp, AppDeps } from './appDeps.ts'
import { auditRoutes } from './audits/desk/routes.ts'
import { blobRoutes } from './checkpoints/routes.ts'
import { datasetRoutes } from './datasets/routes.ts'
import { leaveRoute } from './control/routes.ts'
import { installErrors } from './httpErrors.ts'
import { identityRoutes } from './identity/routes.ts'
import { ledgerRoutes } from './ledger/routes.ts'
import { installPage } from './page.ts'
import { payoutRoutes } from './payouts/routes.ts'
import { runRoutes } from './runs/routes.ts'

/** Bytes of an ordinary JSON body. */
const BODY_LIMIT = 1_048_576
/** Milliseconds in which a request's body has to arrive; a large upload over a slow line needs minutes. */
const REQUEST_MS = 600_000

/** Builds the application; it listens nowhere until `listen`. Closing it ends the live streams. */
export async function buildApp(deps: AppDeps): Promise<ApiApp> {
  const { config, metrics, runs } = deps
  const app = Fastify({
    logger: {
      level: config.logLevel,
      redact: ['req.headers.authorization', 'headers.authorization'],
    },
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: config.trustProxy,
    bodyLimit: BODY_LIMIT,
    requestTimeout: REQUEST_MS,
    routerOptions: { maxParamLength: 128 },
  }).withTypeProvider<ZodTypeProvider>()
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  installErrors(app)
  metrics.watchFleet(() => runs.fleet())

  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none'
    const seconds = reply.elapsedTime / 1000
    metrics.httpRequest(route, request.method, reply.statusCode, seconds)
    const line = { method: request.method, route, path: request.url, status: reply.statusCode, ms: reply.elapsedTime }
    if (request.method === 'GET' || request.method === 'HEAD') request.log.debug(line, 'answered')
    else request.log.info(line, 'answered')
  })

  await app.register(fastifyRateLimit, {
    max: config.ratePerMinute,
    timeWindow: 60_000,
    // Each bulk route counts for itself, so that fetching weights does not use up the console's share.
    keyGenerator: (request) => request.ip,
  })
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Skein',
        description: 'Launch runs, watch them live, export what they learned. Errors are {code, message, remedy}.',
        version: `1.${PROTOCOL_VERSION}`,
      },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
    },
    transform: jsonSchemaTransform,
  })
  await installPage(app, config.staticFolder)

  await app.register(
    async (api: ApiApp) => {
      datasetRoutes(api, deps)
      runRoutes(api, deps)
      blobRoutes(api, deps)
      leaveRoute(api, deps)
      identityRoutes(api, deps)
      ledgerRoutes(api, deps)
      payoutRoutes(api, deps)
      auditRoutes(api, deps)
      api.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
    },
    { prefix: '/api/v1' },
  )
  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) =>
    reply.type(metrics.contentType).send(await metrics.text()),
  )
  app.get('/healthz', { schema: { hide: true }, config: { rateLimit: false } }, async () => ({ ok: true }))
  await app.ready()
  return app
}
