/** Owns the driver of payouts: carries out what the pure core asks for, and tells it how that went. */
import { fail, toErrorBody } from '../../src/protocol/errors.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { Chain, Signer } from '../chain/port.ts'
import type { PayoutStore } from '../db/payoutStore.ts'
import { initialPayouts, payout } from './payout.ts'
import { fundsLacking, planBatch } from './plan.ts'
import type {
  Attempt,
  Batch,
  Idle,
  PaidEntry,
  PayoutCommand,
  PayoutEvent,
  PayoutLimits,
  PayoutSource,
} from './types.ts'
import type { Inclusion } from '../chain/port.ts'

export interface PayoutDeps {
  chain: Chain
  store: PayoutStore
  source: PayoutSource
  hot: Signer
  limits: PayoutLimits
  /** Unix milliseconds. */
  now: () => number
  log: { info(fields: object, text: string): void; error(fields: object, text: string): void }
}

/** What payouts are doing now, for the console. */
export interface PayoutStatus {
  doing: PayoutCommand['kind'] | null
  finalized: number | null
  idle: Idle | null
  halted: ErrorBody | null
  trouble: ErrorBody | null
}

function paidEntries(batch: Batch, attempt: Attempt, inclusion: Inclusion): PaidEntry[] {
  return batch.transfers.map(({ wallet, planck }) => ({
    kind: 'payout',
    epoch: batch.epoch,
    wallet,
    planck: String(planck),
    // The ledger writes hashes without 0x.
    block: inclusion.block.hash.slice(2),
    extrinsic: attempt.hash.slice(2),
  }))
}

export class Payouts {
  readonly #deps: PayoutDeps
  #state = initialPayouts()
  #unsubscribe: (() => void) | null = null
  #work: Promise<void> = Promise.resolve()
  #closed = false

  constructor(deps: PayoutDeps) {
    this.#deps = deps
  }

  /** Goes on with the batch that was under way, and then with every finalized block. @throws SkeinError `chain.unreachable` */
  async start(): Promise<void> {
    const { chain, store } = this.#deps
    const batch = await store.open()
    this.#take({ kind: 'opened', batch, disputed: await store.disputed(), genesis: chain.info.genesis })
    this.#unsubscribe = await chain.onFinalized((number) => this.#take({ kind: 'finalized', number }))
  }

  status(): PayoutStatus {
    const { awaiting, finalized, idle, halted, trouble } = this.#state
    return { doing: awaiting?.kind ?? null, finalized, idle, halted, trouble }
  }

  /** Resolves when nothing is under way until the next finalized block. */
  async settled(): Promise<void> {
    for (let work; work !== this.#work;) {
      work = this.#work
      await work
    }
  }

  /** Lets what is under way end, and begins nothing more. */
  async close(): Promise<void> {
    this.#closed = true
    this.#unsubscribe?.()
    await this.settled()
  }

  #take(event: PayoutEvent): void {
    if (this.#closed) return
    const { state, commands } = payout(this.#state, event)
    this.#state = state
    for (const command of commands) {
      this.#work = this.#work.then(async () => {
        const { kind } = command
        try {
          const outcome = await this.#carryOut(command)
          this.#deps.log.info({ payout: kind, ...told(command, outcome) }, 'payout')
          this.#take(outcome)
        } catch (caught) {
          const error = toErrorBody(caught)
          this.#deps.log.error({ payout: kind, code: error.code, err: caught }, error.message)
          this.#take({ kind: 'failed', error })
        }
      })
    }
  }

  async #carryOut(command: PayoutCommand): Promise<PayoutEvent> {
    const { chain, store, hot, now } = this.#deps
    switch (command.kind) {
      case 'plan':
        return this.#plan()
      case 'freeze': {
        const payer = { genesis: chain.info.genesis, hot: hot.wallet }
        return { kind: 'frozen', batch: await store.freeze(command.draft, payer, now()) }
      }
      case 'sign':
        return this.#sign(command.batch, command.number)
      case 'persist':
        await store.addAttempt(command.batch.id, command.attempt, now())
        return { kind: 'persisted', attempt: command.attempt }
      case 'submit': {
        const submission = await chain.submit(command.bytes)
        return { kind: 'submitted', refused: submission.accepted ? null : submission.reason }
      }
      case 'scan': {
        const { attempt, from, to } = command
        const birthHash = await chain.blockHash(attempt.birth.number)
        return { kind: 'scanned', to, found: await chain.find(attempt.hash, from, to), birthHash }
      }
      case 'expire':
        await store.expire(command.batch.id, command.attempt.number, now())
        return { kind: 'expired' }
      case 'settle': {
        const { batch, inclusion } = command
        const attempt = batch.attempt!
        await store.settle(batch.id, attempt, inclusion, paidEntries(batch, attempt, inclusion), now())
        return { kind: 'settled' }
      }
      case 'release':
        await store.release(command.batch.id, command.reason, command.inclusion, now())
        return { kind: 'released' }
      case 'dispute':
        await store.dispute(command.batch.id, command.reason, command.inclusion, now())
        return { kind: 'disputed' }
    }
  }

  async #plan(): Promise<PayoutEvent> {
    const { chain, store, source, hot, limits } = this.#deps
    const sealed = await source.sealed()
    if (!sealed) return { kind: 'planned', draft: null, idle: null }
    const owed = await source.owed()
    const balances = await chain.freeBalances([hot.wallet, ...owed.map(({ wallet }) => wallet)])
    const { existentialDeposit } = chain.info
    const plan = planBatch({
      ...sealed,
      owed,
      balances: balances.slice(1),
      existentialDeposit,
      frozenInEpoch: await store.frozenInEpoch(sealed.epoch),
      limits,
    })
    if (!plan.draft) return { kind: 'planned', ...plan }
    const fee = await chain.estimateFee(plan.draft, hot.wallet)
    const idle = fundsLacking(plan.draft, fee, balances[0]!, existentialDeposit)
    return { kind: 'planned', draft: idle ? null : plan.draft, idle }
  }

  async #sign(batch: Batch, number: number): Promise<PayoutEvent> {
    const { chain, hot, limits } = this.#deps
    if (batch.hot !== hot.wallet)
      fail(
        'payout.other_account',
        `Batch ${batch.id} was frozen to be paid by ${chain.addressOf(batch.hot)}, and the hot account is another one now.`,
        'Set SKEIN_PAYOUT_SEED to the key of that account until the batch is paid.',
      )
    const nonce = await chain.nextNonce(hot.wallet)
    const signed = await chain.sign(batch, hot, nonce, limits.eraBlocks)
    const dry = await chain.dryRun(signed.bytes)
    if (dry.outcome === 'fails') return { kind: 'unpayable', reason: `The batch would fail: ${dry.reason}.` }
    return { kind: 'signed', attempt: { ...signed, number } }
  }
}

/** What the log says of a command: never more of the bytes than their hash. */
function told(command: PayoutCommand, outcome: PayoutEvent): object {
  if (command.kind === 'settle') return { batch: command.batch.id, block: command.inclusion.block.hash }
  if (command.kind === 'release' || command.kind === 'dispute')
    return { batch: command.batch.id, reason: command.reason }
  if (outcome.kind === 'frozen') return { batch: outcome.batch.id, transfers: outcome.batch.transfers.length }
  if (outcome.kind === 'persisted') return { extrinsic: outcome.attempt.hash, death: outcome.attempt.death }
  if (outcome.kind === 'submitted') return { refused: outcome.refused }
  return {}
}
