/** Owns the routes of blobs: nodes store and fetch the chunks of checkpoints by their hashes. */
import { z } from 'zod'
import { fail } from '../../src/protocol/errors.ts'
import { requireNode } from '../access.ts'
import { bulkRate } from '../appDeps.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'
import { HASH_PATTERN, hashOf } from './folderBlobs.ts'

/** Largest blob that travels by HTTP; nodes cut their shards into smaller chunks. */
export const MAX_BLOB_BYTES = 16 * 1024 * 1024

const hashParams = z.object({ hash: z.string().regex(HASH_PATTERN, 'must be a SHA-256 in lower-case hex') })
const stored = z.object({ hash: z.string(), bytes: z.number() })

export function blobRoutes(app: ApiApp, { config, blobs, tokens, metrics }: AppDeps): void {
  app.register(async (scope: ApiApp) => {
    scope.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    )
    scope.put(
      '/blobs/:hash',
      {
        bodyLimit: MAX_BLOB_BYTES,
        config: {
          rateLimit: bulkRate(config),
          tooLarge: { code: 'blob.too_large', remedy: 'Cut it into chunks of at most 16 MiB.' },
        },
        schema: {
          tags: ['blobs'],
          summary: 'Stores bytes under their SHA-256; needs the token of a node.',
          consumes: ['application/octet-stream'],
          params: hashParams,
          response: { 201: stored },
        },
        onRequest: async (request) => requireNode(config, tokens, request),
      },
      async (request, reply) => {
        const { body, params } = request
        if (!(body instanceof Uint8Array))
          return fail('request.media_type', 'A blob is bytes.', 'Set Content-Type to application/octet-stream.')
        const actual = hashOf(body)
        if (actual !== params.hash)
          fail(
            'blob.hash_mismatch',
            `The ${body.byteLength} bytes hash to ${actual}, not to ${params.hash}.`,
            'Send them again: they were damaged on the way or hashed before they changed.',
          )
        await blobs.put(body)
        metrics.blobBytes('in', body.byteLength)
        return reply.status(201).send({ hash: actual, bytes: body.byteLength })
      },
    )
  })

  app.get(
    '/blobs/:hash',
    {
      config: { rateLimit: bulkRate(config) },
      schema: {
        tags: ['blobs'],
        summary: 'The bytes of this SHA-256, checked on the way out.',
        produces: ['application/octet-stream'],
        params: hashParams,
      },
    },
    async (request, reply) => {
      const etag = `"${request.params.hash}"`
      const bytes = await blobs.get(request.params.hash)
      reply.headers({ etag, 'cache-control': 'public, max-age=31536000, immutable' })
      if (request.headers['if-none-match'] === etag) return reply.status(304).send()
      metrics.blobBytes('out', bytes.byteLength)
      return reply.type('application/octet-stream').send(bytes)
    },
  )
}
