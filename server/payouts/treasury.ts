/** Owns what the server has to do with money: its chain, its key and its payouts, all of which it works without. */
import { setTimeout as sleep } from 'node:timers/promises'
import { fail, toErrorBody } from '../../src/protocol/errors.ts'
import type { ChainView, PayoutsView } from '../../src/protocol/payouts.ts'
import type { Chain, Signer, WalletId } from '../chain/port.ts'
import { CHAIN_PROFILES } from '../chain/profile.ts'
import type { ServerConfig } from '../config.ts'
import type { PayoutStore } from '../db/payoutStore.ts'
import { watchDeposits } from './deposits.ts'
import type { DepositStore } from '../db/depositStore.ts'
import type { Deposit } from './deposits.ts'
import type { EndedRun } from './refund.ts'
import { Payouts } from './payouts.ts'
import type { PayoutDeps } from './payouts.ts'
import type { BatchState, PayoutSource, RefundSource } from './types.ts'

/** Milliseconds between tries to reach a node that has not answered yet. */
const RETRY_MS = 5000
/** Milliseconds that a connection being made holds up the end. */
const CLOSE_MS = 1000
/** Blocks in which a signed batch can be included. */
const ERA_BLOCKS = 64

export interface TreasuryDeps {
  config: Pick<ServerConfig, 'chainUrl' | 'chainProfile' | 'payouts'>
  store: PayoutStore
  /** Null while there is no ledger to pay from. */
  source: PayoutSource | null
  log: PayoutDeps['log']
  /** Runs that are paid for by deposits, and where to tell what their addresses hold. */
  deposits: {
    store: DepositStore
    open: () => Promise<readonly Deposit[]>
    /** Runs that have ended, the newest first, and what was earned in each. */
    ended: () => Promise<readonly EndedRun[]>
    held: (runId: string, planck: bigint) => Promise<void>
  }
}

export interface PayoutsQuery {
  wallet: WalletId | null
  before: number | null
  limit: number
}

export class Treasury {
  readonly #deps: TreasuryDeps
  #chain: Chain | null = null
  #hot: Signer | null = null
  #payouts: Payouts | null = null
  #unwatch: (() => Promise<void>) | null = null
  #retry: ReturnType<typeof setTimeout> | null = null
  #connecting: Promise<void> | null = null
  #closed = false

  constructor(deps: TreasuryDeps) {
    this.#deps = deps
  }

  /**
   * Begins to connect where a chain is configured; a node out of reach keeps nobody waiting.
   * @throws SkeinError `chain.seed` when the secret is no key
   */
  async open(): Promise<void> {
    const { chainUrl, payouts } = this.#deps.config
    if (chainUrl === null) return
    if (payouts.seed !== null) {
      const { signerFromSecret } = await import('../chain/signer.ts')
      this.#hot = await signerFromSecret(payouts.seed)
    }
    this.#connecting = this.#connect(chainUrl)
  }

  /** Null without a chain. @throws SkeinError `chain.unreachable` */
  async chainView(): Promise<ChainView | null> {
    if (this.#deps.config.chainUrl === null) return null
    const chain = this.#connected()
    const { existentialDeposit, blockMs: _, ...info } = chain.info
    const hot = this.#hot
    const balance = hot ? (await chain.freeBalances([hot.wallet]))[0]! : 0n
    return {
      ...info,
      existentialDeposit: String(existentialDeposit),
      finalized: (await chain.finalized()).number,
      hot: hot && { address: chain.addressOf(hot.wallet), wallet: hot.wallet, balance: String(balance) },
    }
  }

  /** Of the last finalized block. @throws SkeinError `chain.unreachable` */
  async height(): Promise<number> {
    return (await this.#connected().finalized()).number
  }

  /** SS58 prefix of the chain's addresses. @throws SkeinError `chain.unreachable` */
  prefix(): number {
    return this.#connected().info.prefix
  }

  /** What wallets' remarks are written and read by; null without a chain. @throws SkeinError `chain.unreachable` */
  remarks(): Pick<Chain, 'info' | 'remarkOf' | 'readPayload' | 'runtimeVersion'> | null {
    return this.#deps.config.chainUrl === null ? null : this.#connected()
  }

  /** Where a run's money is sent; null without a chain or a key. */
  async depositWallet(runId: string): Promise<WalletId | null> {
    const { chainUrl, payouts } = this.#deps.config
    if (chainUrl === null || payouts.seed === null) return null
    return (await this.#depositSigner(payouts.seed, runId)).wallet
  }

  async #depositSigner(seed: string, runId: string): Promise<Signer> {
    const { depositSecret, signerFromSecret } = await import('../chain/signer.ts')
    return signerFromSecret(depositSecret(seed, runId))
  }

  /** What was sent back of a run's deposits, the newest last. */
  async refundsOf(runId: string): Promise<{ state: BatchState; block: number | null; extrinsic: string | null }[]> {
    const records = await this.#deps.store.refundsOf(runId)
    return records.map(({ state, block, extrinsic }) => ({ state, block: block?.number ?? null, extrinsic }))
  }

  /** SS58, with the chain's prefix; null while the chain has not answered yet. */
  addressOf(wallet: WalletId): string | null {
    return this.#chain?.addressOf(wallet) ?? null
  }

  #connected(): Chain {
    return (
      this.#chain ??
      fail(
        'chain.unreachable',
        'The chain’s node has not answered yet.',
        'Check that the node behind SKEIN_CHAIN_URL runs; the server goes on trying.',
      )
    )
  }

  async payoutsView({ wallet, before, limit }: PayoutsQuery): Promise<PayoutsView> {
    const { store } = this.#deps
    const records = await store.batches(limit, before, wallet)
    const ids = records.map(({ id }) => id)
    const amounts = wallet === null ? null : await store.amountsOf(wallet, ids)
    const batches = records.map((record) => ({
      ...record,
      total: String(record.total),
      amount: amounts ? String(amounts.get(record.id) ?? 0n) : null,
    }))
    return { status: this.#payouts?.status() ?? null, batches }
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#retry) clearTimeout(this.#retry)
    // Whoever does not answer now is not waited for; what it answers later is closed at once.
    await Promise.race([this.#connecting, sleep(CLOSE_MS)])
    await this.#payouts?.close()
    await this.#unwatch?.()
    await this.#chain?.close()
  }

  async #connect(url: string): Promise<void> {
    const { log } = this.#deps
    try {
      const { connectChain } = await import('../chain/polkadotChain.ts')
      const profile = this.#deps.config.chainProfile
      this.#chain ??= await connectChain(url, profile && CHAIN_PROFILES[profile])
      if (this.#closed) return await this.#chain.close()
      await this.#startPayouts(this.#chain)
      if (this.#closed) return
      const { deposits } = this.#deps
      this.#unwatch ??= await watchDeposits({ chain: this.#chain, ...deposits, log })
      log.info({ chain: this.#chain.info.name, genesis: this.#chain.info.genesis }, 'chain connected')
    } catch (caught) {
      const { code, message } = toErrorBody(caught)
      log.error({ code }, message)
      if (this.#closed) return
      this.#retry = setTimeout(() => (this.#connecting = this.#connect(url)), RETRY_MS)
    }
  }

  async #startPayouts(chain: Chain): Promise<void> {
    const { store, source, log, config } = this.#deps
    // A second driver would pay what the first one pays.
    if (!source || !this.#hot || this.#closed || this.#payouts) return
    const { batch, epochCap, least } = config.payouts
    const limits = { batch, epochCap, least, eraBlocks: ERA_BLOCKS }
    const { deposits } = this.#deps
    const refunds: RefundSource = {
      ended: deposits.ended,
      senders: (wallet, after) => deposits.store.senders(wallet, after),
      signer: (runId) => this.#depositSigner(config.payouts.seed!, runId),
    }
    const payouts = new Payouts({ chain, store, source, refunds, hot: this.#hot, limits, now: Date.now, log })
    await payouts.start()
    this.#payouts = payouts
  }
}
