/** Owns the routes of the ledger and of accounts: what anybody may read, and check. */
import { Readable } from 'node:stream'
import { z } from 'zod'
import { fail } from '../../src/protocol/errors.ts'
import { accountIdSchema, proofAnswerSchema } from '../../src/protocol/ledger.ts'
import {
  accountViewSchema,
  epochsAnswerSchema,
  epochsQuerySchema,
  ledgerViewSchema,
  rowsAnswerSchema,
  rowsQuerySchema,
} from '../../src/protocol/ledgerApi.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'
import { exportLines } from './exportLines.ts'
import { Proofs } from './proofs.ts'
import { readRow, sealRow } from './readRow.ts'

/** Exports under way at a time, and asked for a minute by one address. */
const EXPORTS = 4
const EXPORTS_PER_MINUTE = 20

const tags = ['ledger']
const proofParams = z.object({ epoch: z.coerce.number().int().min(1), account: accountIdSchema })
const accountParams = z.object({ account: accountIdSchema })

export function ledgerRoutes(app: ApiApp, { store: { ledger: store }, ledger }: AppDeps): void {
  const proofs = new Proofs(store)
  let exporting = 0

  app.get(
    '/ledger',
    { schema: { tags, summary: 'How far the ledger goes, and its last seal.', response: { 200: ledgerViewSchema } } },
    () => ledger.view(),
  )

  app.get(
    '/ledger/rows',
    { schema: { tags, summary: 'Rows in order.', querystring: rowsQuerySchema, response: { 200: rowsAnswerSchema } } },
    async ({ query: { from, limit } }) => {
      const { seq } = await store.head()
      return { rows: (await store.rows(from, limit)).map(readRow), head: seq }
    },
  )

  app.get(
    '/ledger/epochs',
    {
      schema: {
        tags,
        summary: 'The seals, newest first.',
        querystring: epochsQuerySchema,
        response: { 200: epochsAnswerSchema },
      },
    },
    async ({ query: { before, limit } }) => (await store.seals(before ?? null, limit)).map(sealRow),
  )

  app.get(
    '/ledger/epochs/:epoch/proof/:account',
    {
      schema: {
        tags,
        summary: 'That the account is under the root of the epoch, with the figures of its leaf.',
        params: proofParams,
        response: { 200: proofAnswerSchema },
      },
    },
    async ({ params: { epoch, account } }) => proofs.proof(await ledger.sealOf(epoch), account),
  )

  app.get(
    '/ledger/export',
    {
      config: { rateLimit: { max: EXPORTS_PER_MINUTE, timeWindow: 60_000 } },
      schema: {
        tags,
        summary: 'Everything, for `skein ledger verify`: a header, then a row a line.',
        produces: ['application/x-ndjson'],
      },
    },
    async (request, reply) => {
      reply.headers({
        'content-type': 'application/x-ndjson; charset=utf-8',
        'content-disposition': 'attachment; filename="ledger.ndjson"',
        'cache-control': 'no-store',
      })
      if (request.method === 'HEAD') return reply.send()
      if (exporting >= EXPORTS)
        return fail('ledger.busy', `${EXPORTS} exports are under way.`, 'Try again when one of them is done.')
      exporting += 1
      const stream = Readable.from(exportLines(store), { objectMode: false })
      stream.once('close', () => (exporting -= 1))
      return reply.send(stream)
    },
  )

  app.get(
    '/accounts/:account',
    {
      schema: {
        tags,
        summary:
          'What a device or a wallet earned, what of it is pending, verified and paid, and what was voided and why.',
        params: accountParams,
        response: { 200: accountViewSchema },
      },
    },
    ({ params }) => ledger.account(params.account),
  )
}
