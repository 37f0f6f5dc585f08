/** Owns how a connection's route is told from its statistics: directly to the partner, or through a TURN relay. */
import type { LinkKind } from '../protocol/control.ts'

interface Stat {
  id: string
  type: string
  selectedCandidatePairId?: string
  state?: string
  nominated?: boolean
  localCandidateId?: string
  remoteCandidateId?: string
  candidateType?: string
}

/** Reads the selected candidate pair (W3C webrtc-stats); browsers without a transport report mark it `nominated`. */
export function routeOf(report: Iterable<unknown>): LinkKind {
  const stats = new Map<string, Stat>()
  for (const entry of report as Iterable<Stat>) stats.set(entry.id, entry)
  const transport = [...stats.values()].find((stat) => stat.type === 'transport' && stat.selectedCandidatePairId)
  const pair =
    (transport && stats.get(transport.selectedCandidatePairId!)) ??
    [...stats.values()].find((s) => s.type === 'candidate-pair' && s.state === 'succeeded' && s.nominated)
  if (!pair) return 'unknown'
  const types = [pair.localCandidateId, pair.remoteCandidateId].map((id) => id && stats.get(id)?.candidateType)
  if (types.includes('relay')) return 'relayed'
  return types.every(Boolean) ? 'direct' : 'unknown'
}

const WAYS: readonly LinkKind[] = ['server', 'relayed', 'direct', 'unknown']
const SHORTEST_FIRST: readonly LinkKind[] = ['direct', 'unknown', 'relayed', 'server']

/** Of several ways the shortest; one that is not known yet may be. */
export function shortestWay(kinds: readonly LinkKind[]): LinkKind {
  return SHORTEST_FIRST.find((way) => kinds.includes(way)) ?? 'unknown'
}

/** Of several ways the one that a person should hear of. */
export function longestWay(kinds: readonly LinkKind[]): LinkKind {
  return WAYS.find((way) => kinds.includes(way)) ?? 'unknown'
}
