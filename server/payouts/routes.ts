/** Owns the routes of the chain and of payouts. */
import { chainViewSchema, payoutsQuerySchema, payoutsViewSchema } from '../../src/protocol/payouts.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'

export function payoutRoutes(app: ApiApp, { treasury }: Pick<AppDeps, 'treasury'>): void {
  app.get(
    '/chain',
    {
      schema: {
        tags: ['payouts'],
        summary: 'The chain that payouts are made on, and the account they come from; null without one.',
        response: { 200: chainViewSchema.nullable() },
      },
    },
    async (_request, reply) => {
      const view = await treasury.chainView()
      // A null body would be no body at all.
      if (view === null)
        return reply
          .type('application/json; charset=utf-8')
          .serializer(String)
          .send('null' as never)
      return view
    },
  )

  app.get(
    '/payouts',
    {
      schema: {
        tags: ['payouts'],
        summary: 'Batches, newest first, with their state and where they are on chain.',
        querystring: payoutsQuerySchema,
        response: { 200: payoutsViewSchema },
      },
    },
    ({ query }) =>
      treasury.payoutsView({ wallet: query.wallet ?? null, before: query.before ?? null, limit: query.limit }),
  )
}
