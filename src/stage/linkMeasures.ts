/**
 * Owns what a node tells of its links: what those to the neighbouring stages were found to do, and those to the owners of its own
 * stage's shards, which all of the stage have measured: what is common to them says how near those are that have no link.
 */
import type { LinkSpeed } from '../net/link.ts'
import { MAX_LINK_MEASURES, MAX_RTT_MS, type LinkMeasure } from '../protocol/control.ts'
import { laneNeighbours, type StageState } from './machine.ts'

export function linkMeasures<T>(machine: StageState<T>, speedOf: (nodeId: string) => LinkSpeed | null): LinkMeasure[] {
  const measures: LinkMeasure[] = []
  for (const nodeId of new Set([...laneNeighbours(machine), ...machine.owners.flat()])) {
    const speed = measures.length < MAX_LINK_MEASURES ? speedOf(nodeId) : null
    if (speed) measures.push([nodeId, Math.min(speed.rttMs, MAX_RTT_MS), speed.bytesPerSecond])
  }
  return measures
}
