/** Owns the route by which a page that goes away says so. */
import { z } from 'zod'
import { fail } from '../../src/protocol/errors.ts'
import type { ApiApp, AppDeps } from '../appDeps.ts'

/** `navigator.sendBeacon` sends text without headers of its own, so the token is the body. */
export function leaveRoute(app: ApiApp, { runs, tokens }: Pick<AppDeps, 'runs' | 'tokens'>): void {
  app.post(
    '/leave',
    {
      bodyLimit: 1024,
      schema: {
        tags: ['nodes'],
        summary: 'Ends the session of the node whose token is the body: its page goes away.',
        consumes: ['text/plain'],
        body: z.string().min(1).max(300),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const nodeId = tokens.nodeOf(request.body)
      if (nodeId === null)
        return fail(
          'access.node_token',
          'The node token is not valid or has expired.',
          'Nothing to do: the session ends by itself.',
        )
      runs.nodeLeft(nodeId)
      return reply.status(204).send(null)
    },
  )
}
