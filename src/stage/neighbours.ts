/** Owns whom a node is worth being connected to before it has anything to say to them, from what the server tells it. */
import type { LeaseTable, ServerMessage, ShardOwners } from '../protocol/control.ts'

export class Neighbours {
  /** Owners of the same microbatches at the stages before and after. */
  #lanes: readonly string[] = []
  /** Who sums, updates and keeps this stage's shards: parameters come from them, gradients go to them. */
  #owners: readonly string[] = []
  /** Who keeps the inputs of claims that this node recomputes. */
  #witnesses: readonly string[] = []
  /** Whose gradients this node sums, or who takes its parameters. */
  #merging: readonly string[] = []

  /** All of them, the nearest first, after `message`. */
  hear(message: ServerMessage): string[] {
    switch (message.type) {
      case 'step':
        this.#lanes = laneNeighbours(message)
        this.#owners = all(message.owners)
        this.#merging = []
        this.#witnesses = []
        break
      case 'leases':
        this.#lanes = laneNeighbours(message)
        break
      case 'recompute':
        this.#witnesses = [...this.#witnesses, ...message.peers]
        break
      case 'owners':
        this.#owners = all(message.owners)
        break
      case 'reduce':
        this.#merging = message.contributors.map(([nodeId]) => nodeId)
        break
      case 'apply':
        this.#owners = all(message.owners)
        this.#merging = message.receivers
        break
    }
    return [...new Set([...this.#lanes, ...this.#owners, ...this.#witnesses, ...this.#merging])]
  }
}

const all = (owners: ShardOwners) => [...new Set(owners.flat())]

function laneNeighbours({ peers, leases }: LeaseTable): string[] {
  const places = new Set(leases.flatMap(([, up, down]) => [up, down]))
  return [...places].flatMap((place) => peers[place] ?? [])
}
