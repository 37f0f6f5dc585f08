/** Owns the watch over deposit addresses: what finalized blocks say that they hold is told, block after block. */
import { toErrorBody } from '../../src/protocol/errors.ts'
import type { Chain, WalletId } from '../chain/port.ts'
import type { DepositStore } from '../db/depositStore.ts'

/** Blocks after which a node that keeps no archive may have dropped a block's events. */
const FORGOTTEN_BLOCKS = 250
const KEPT_EVERY = 100

export interface Deposit {
  runId: string
  wallet: WalletId
}

export interface DepositDeps {
  chain: Pick<Chain, 'onFinalized' | 'freeBalances' | 'transfersTo'>
  store: DepositStore
  /** The addresses of runs that have not ended. */
  open: () => Promise<readonly Deposit[]>
  /** Those of runs that have ended: what still comes there is sent back, so its senders have to be known. */
  ended: () => Promise<readonly Deposit[]>
  /** Told of every address at every look, whether it changed or not. */
  held: (runId: string, planck: bigint) => Promise<void>
  log: { error(fields: object, text: string): void }
}

/** Looks at each finalized block, one look at a time. @returns what ends the watch. @throws SkeinError `chain.unreachable` */
export async function watchDeposits({
  chain,
  store,
  open,
  ended,
  held,
  log,
}: DepositDeps): Promise<() => Promise<void>> {
  let looking: Promise<void> | null = null
  let again = false
  let closed = false
  let latest = 0
  /** Keeps who sent what in every block since the last that was looked at. */
  const attribute = async (deposits: readonly Deposit[], finalized: number) => {
    const wallets = new Set([...deposits, ...(await ended())].map(({ wallet }) => wallet))
    const from = wallets.size === 0 ? finalized : ((await store.scanned()) ?? finalized - 1) + 1
    for (let block = from; block <= finalized && !closed; block++) {
      const found = await transfersOf(wallets, block, finalized)
      // Between blocks in which nothing came only the last one has to be known.
      if (found.length > 0 || block === finalized || block % KEPT_EVERY === 0) await store.record(block, found)
    }
  }
  const transfersOf = async (wallets: ReadonlySet<WalletId>, block: number, finalized: number) => {
    if (wallets.size === 0) return []
    try {
      return await chain.transfersTo(wallets, block)
    } catch (caught) {
      if (finalized - block < FORGOTTEN_BLOCKS) throw caught
      log.error({ block }, 'the node has forgotten this block: who deposited in it stays unknown')
      return []
    }
  }
  const look = async (finalized: number) => {
    const deposits = await open()
    await attribute(deposits, finalized)
    if (deposits.length === 0) return
    const balances = await chain.freeBalances(deposits.map(({ wallet }) => wallet))
    for (const [i, { runId }] of deposits.entries()) if (!closed) await held(runId, balances[i]!)
  }
  const start = () => {
    looking = look(latest)
      .catch((caught: unknown) => {
        const { code, message } = toErrorBody(caught)
        // The next finalized block brings another look.
        log.error({ code }, `deposits could not be read: ${message}`)
      })
      .finally(() => {
        looking = null
        if (!again || closed) return
        again = false
        start()
      })
  }
  const unsubscribe = await chain.onFinalized((number) => {
    if (closed) return
    latest = Math.max(latest, number)
    if (looking) again = true
    else start()
  })
  return async () => {
    closed = true
    unsubscribe()
    await looking
  }
}
