/** Owns the routes of datasets: upload, list, and the tokens that nodes read in ranges. */
import { Readable } from 'node:stream'
import { z } from 'zod'
import { datasetSchema, tokenizerKindSchema } from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import { requireAdmin } from '../access.ts'
import { bulkRate } from '../appDeps.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'
import type { BlobStore } from '../db/store.ts'
import { datasetView } from '../db/rows.ts'
import { BYTES_PER_TOKEN, ingestText } from './ingest.ts'
import { readRange } from './range.ts'

const PIECE_BYTES = 1_048_576
const idParams = z.object({ id: z.string().max(64) })
const uploadQuery = z.object({
  name: z.string().trim().min(1).max(120),
  tokenizer: tokenizerKindSchema
    .default('byte')
    .describe(
      'What a token is: a byte of UTF-8, or a character out of those the text holds (at most 4096 different ones).',
    ),
})

async function* piecesOf(blobs: BlobStore, hash: string, offset: number, length: number) {
  for (let done = 0; done < length; done += PIECE_BYTES)
    yield await blobs.getRange(hash, offset + done, Math.min(PIECE_BYTES, length - done))
}

export function datasetRoutes(app: ApiApp, deps: AppDeps): void {
  const { config, store, blobs, metrics } = deps
  const find = async (id: string) =>
    (await store.dataset(id)) ??
    fail('dataset.unknown', `There is no dataset ${id}.`, 'Look it up with GET /api/v1/datasets, or upload it again.')

  app.get('/datasets', { schema: { tags: ['datasets'], response: { 200: z.array(datasetSchema) } } }, () =>
    store.datasets(),
  )

  app.get(
    '/datasets/:id',
    { schema: { tags: ['datasets'], params: idParams, response: { 200: datasetSchema } } },
    async (request) => datasetView(await find(request.params.id)),
  )

  app.register(async (scope: ApiApp) => {
    // Raw bytes: decoding first would hide what is not UTF-8.
    scope.addContentTypeParser('text/plain', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    scope.post(
      '/datasets',
      {
        bodyLimit: config.maxDatasetBytes,
        config: {
          tooLarge: { code: 'dataset.too_large', remedy: 'Upload a part of it, or raise SKEIN_MAX_DATASET_BYTES.' },
        },
        schema: {
          tags: ['datasets'],
          summary:
            'Uploads UTF-8 text as text/plain; a token is a byte or a character, the last tenth of them is held out.',
          consumes: ['text/plain'],
          querystring: uploadQuery,
          response: { 201: datasetSchema },
        },
        onRequest: async (request) => requireAdmin(config, request),
      },
      async (request, reply) => {
        const body = request.body ?? new Uint8Array(0)
        if (!(body instanceof Uint8Array))
          return fail('request.media_type', 'A dataset is uploaded as text.', 'Set Content-Type to text/plain.')
        return reply.status(201).send(await ingestText(deps, request.query.name, body, request.query.tokenizer))
      },
    )
  })

  app.get(
    '/datasets/:id/tokens',
    {
      config: { rateLimit: bulkRate(config) },
      schema: {
        tags: ['datasets'],
        summary: 'Token ids as little-endian uint16; takes one byte range.',
        produces: ['application/octet-stream'],
        params: idParams,
      },
    },
    async (request, reply) => {
      const { tokens, tokensHash } = await find(request.params.id)
      const size = tokens * BYTES_PER_TOKEN
      const etag = `"${tokensHash}"`
      reply.headers({
        etag,
        'accept-ranges': 'bytes',
        'cache-control': 'public, max-age=31536000, immutable',
        'content-type': 'application/octet-stream',
      })
      if (request.headers['if-none-match'] === etag) return reply.status(304).send()
      const ifRange = request.headers['if-range']
      const range = readRange(ifRange === undefined || ifRange === etag ? request.headers.range : undefined, size)
      if (range.kind === 'unsatisfiable') {
        reply.header('content-range', `bytes */${size}`)
        fail('dataset.range', `The range is not within the ${size} bytes of tokens.`, 'Ask for a range inside it.')
      }
      const { offset, length } = range.kind === 'part' ? range : { offset: 0, length: size }
      if (range.kind === 'part')
        reply.status(206).header('content-range', `bytes ${offset}-${offset + length - 1}/${size}`)
      metrics.blobBytes('out', length)
      reply.header('content-length', length)
      return reply.send(Readable.from(piecesOf(blobs, tokensHash, offset, length), { objectMode: false }))
    },
  )
}
