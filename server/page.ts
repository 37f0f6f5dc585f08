/** Owns how the built page is served: hashed assets for ever, everything else fresh, and one page behind several paths. */
import { existsSync } from 'node:fs'
import { join, sep } from 'node:path'
import fastifyHelmet from '@fastify/helmet'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { notFoundBody } from './httpErrors.ts'

/** Paths that the page itself routes. */
const PAGE_PATHS = ['/', '/console', '/console/*', '/earnings']

const YEAR_SECONDS = 31_536_000

/** Headers that let the page run and little else: its own scripts, its own sockets, no frames. */
async function installHeaders(app: FastifyInstance): Promise<void> {
  await app.register(fastifyHelmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'self'"],
        scriptSrc: ["'self'"],
        // Svelte's templates and uPlot set style attributes.
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:', 'blob:'],
        fontSrc: ["'self'", 'data:'],
        connectSrc: ["'self'", 'ws:', 'wss:'],
        workerSrc: ["'self'", 'blob:'],
        manifestSrc: ["'self'"],
        objectSrc: ["'none'"],
        baseUri: ["'self'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
      },
    },
    // Whoever terminates TLS in front decides on it; on plain HTTP browsers ignore it.
    strictTransportSecurity: false,
  })
}

/** Serves `folder`; API paths that nobody answers get an error body, page paths get `index.html`. */
export async function installPage(app: FastifyInstance, folder: string): Promise<void> {
  await installHeaders(app)
  await app.register(fastifyStatic, {
    root: folder,
    cacheControl: false,
    index: false,
    setHeaders(reply, path) {
      const hashed = path.startsWith(join(folder, 'assets') + sep)
      reply.header('cache-control', hashed ? `public, max-age=${YEAR_SECONDS}, immutable` : 'no-cache')
    },
  })
  const page = async (_request: FastifyRequest, reply: FastifyReply) => {
    if (existsSync(join(folder, 'index.html'))) return reply.sendFile('index.html')
    return reply.status(404).send({
      code: 'page.not_built',
      message: 'The server runs, but its page has not been built.',
      remedy: 'Run npm run build, then reload.',
    })
  }
  for (const path of PAGE_PATHS) app.get(path, { schema: { hide: true } }, page)
  app.setNotFoundHandler((request, reply) =>
    reply.status(404).send(notFoundBody(request.method, request.url.split('?')[0]!)),
  )
}
