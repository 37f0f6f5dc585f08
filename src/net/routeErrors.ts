/** Owns the errors of frames for which there is no link. */
import { SkeinError } from '../protocol/errors.ts'

export const closed = () =>
  new SkeinError({ code: 'net.closed', message: 'The links were closed.', remedy: 'Start again.' })

/** `said`: what the broker answered last, if anything. */
export function brokerUnreachable(said: string | null): SkeinError {
  return new SkeinError({
    code: 'net.broker_unreachable',
    message: `The server's connection broker does not answer. ${said ?? ''}`.trim(),
    remedy: 'Check that WebSockets to the server are not blocked, then reload the page.',
  })
}

export function noRoute(nodeId: string): SkeinError {
  return new SkeinError({
    code: 'net.no_route',
    message: `No connection could be made to ${nodeId}.`,
    remedy: 'A firewall may block WebRTC here or there: try another network, or let the operator add a TURN server.',
  })
}
