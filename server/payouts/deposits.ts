/** Owns the watch over deposit addresses: what finalized blocks say that they hold is told, block after block. */
import { toErrorBody } from '../../src/protocol/errors.ts'
import type { Chain, WalletId } from '../chain/port.ts'

export interface Deposit {
  runId: string
  wallet: WalletId
}

export interface DepositDeps {
  chain: Pick<Chain, 'onFinalized' | 'freeBalances'>
  /** The addresses of runs that have not ended. */
  open: () => Promise<readonly Deposit[]>
  /** Told of every address at every look, whether it changed or not. */
  held: (runId: string, planck: bigint) => Promise<void>
  log: { error(fields: object, text: string): void }
}

/** Looks at each finalized block, one look at a time. @returns what ends the watch. @throws SkeinError `chain.unreachable` */
export async function watchDeposits({ chain, open, held, log }: DepositDeps): Promise<() => Promise<void>> {
  let looking: Promise<void> | null = null
  let again = false
  let closed = false
  const look = async () => {
    const deposits = await open()
    if (deposits.length === 0) return
    const balances = await chain.freeBalances(deposits.map(({ wallet }) => wallet))
    for (const [i, { runId }] of deposits.entries()) if (!closed) await held(runId, balances[i]!)
  }
  const start = () => {
    looking = look()
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
  const unsubscribe = await chain.onFinalized(() => {
    if (closed) return
    if (looking) again = true
    else start()
  })
  return async () => {
    closed = true
    unsubscribe()
    await looking
  }
}
