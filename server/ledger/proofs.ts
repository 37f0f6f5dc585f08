/** Owns the inclusion proofs of sealed epochs; the trees of the last few that were asked about are kept. */
import type { LeafBody } from '../../src/ledger/leaves.ts'
import { treeOf } from '../../src/ledger/leaves.ts'
import { auditPath, merkleRoot } from '../../src/ledger/merkle.ts'
import type { MerkleTree } from '../../src/ledger/merkle.ts'
import { fail } from '../../src/protocol/errors.ts'
import { leafSchema } from '../../src/protocol/ledger.ts'
import type { AccountId, ProofAnswer, SealRow } from '../../src/protocol/ledger.ts'
import type { LedgerStore } from '../db/ledgerStore.ts'
import { nodeSha256 } from './nodeSha256.ts'

const TREES_KEPT = 4

interface SealedTree {
  bodies: LeafBody[]
  places: Map<string, number>
  tree: MerkleTree
}

export class Proofs {
  readonly #store: LedgerStore
  readonly #trees = new Map<number, Promise<SealedTree>>()

  constructor(store: LedgerStore) {
    this.#store = store
  }

  /** @throws SkeinError `ledger.no_leaf`, and `store.corrupt` when the leaves do not give the sealed root */
  async proof(seal: SealRow, account: AccountId): Promise<ProofAnswer> {
    const { epoch } = seal.entry
    let sealed = this.#trees.get(epoch)
    if (!sealed) {
      sealed = this.#build(seal)
      this.#trees.set(epoch, sealed)
      sealed.catch(() => this.#trees.delete(epoch))
      if (this.#trees.size > TREES_KEPT) this.#trees.delete(this.#trees.keys().next().value!)
    }
    const { bodies, places, tree } = await sealed
    const index = places.get(account)
    if (index === undefined)
      return fail('ledger.no_leaf', `${account} held nothing when epoch ${epoch} was sealed.`, 'Ask for a later epoch.')
    return { proof: { leaf: { ...bodies[index]!, epoch }, index, path: auditPath(tree, index) }, seal }
  }

  async #build({ entry: { epoch, root } }: SealRow): Promise<SealedTree> {
    const bodies: LeafBody[] = []
    for (const text of await this.#store.leaves(epoch)) {
      const { epoch: _, ...body } = leafSchema.parse({ ...JSON.parse(text), epoch })
      bodies.push(body)
    }
    const tree = treeOf(nodeSha256, epoch, bodies)
    if (merkleRoot(nodeSha256, tree) !== root)
      fail(
        'store.corrupt',
        `The kept leaves of epoch ${epoch} do not give its root.`,
        'Restore the data folder from a backup.',
      )
    return { bodies, places: new Map(bodies.map(({ account }, i) => [account, i])), tree }
  }
}
