/** Owns the driver of payouts: carries out what the pure core asks for, and tells it how that went. */
import { fail, toErrorBody } from '../../src/protocol/errors.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { Chain, Signer } from '../chain/port.ts'
import type { PayoutStore } from '../db/payoutStore.ts'
import { nodeSha256 } from '../ledger/nodeSha256.ts'
import { initialPayouts, payout } from './payout.ts'
import { fundsLacking, planBatch } from './plan.ts'
import { planRefund } from './refund.ts'
import type {
  Attempt,
  Batch,
  BatchDraft,
  Idle,
  PaidEntry,
  PayoutCommand,
  PayoutEvent,
  PayoutLimits,
  PayoutSource,
  RefundSource,
} from './types.ts'
import type { Inclusion } from '../chain/port.ts'

export interface PayoutDeps {
  chain: Chain
  store: PayoutStore
  source: PayoutSource
  /** Null where nothing is ever deposited. */
  refunds: RefundSource | null
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

/** A refund is no matter of the ledger: nobody was owed it. */
function paidEntries(batch: Batch, attempt: Attempt, inclusion: Inclusion): PaidEntry[] {
  if (batch.refund) return []
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
        const payer = { genesis: chain.info.genesis, hot: command.draft.refund?.from ?? hot.wallet }
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

  /** Who has worked comes before who has deposited. */
  async #plan(): Promise<PayoutEvent> {
    const payout = await this.#planPayout()
    if (payout.draft) return { kind: 'planned', ...payout }
    return { kind: 'planned', draft: await this.#planRefund(), idle: payout.idle }
  }

  async #planRefund(): Promise<BatchDraft | null> {
    const { chain, store, refunds, hot } = this.#deps
    const ended = (await refunds?.ended()) ?? []
    if (ended.length === 0) return null
    const held = await chain.freeBalances(ended.map(({ wallet }) => wallet))
    for (const [i, { runId, wallet, spent }] of ended.entries()) {
      const balance = held[i]!
      if (balance === 0n) continue
      // The first one brought home all that was earned; whatever came since belongs to who sent it since.
      const last = (await store.refundsOf(runId)).at(-1)
      const senders = await refunds!.senders(wallet, last?.block?.number ?? 0)
      const about = { root: nodeSha256.text(`skein-refund-v1\n${runId}`), refund: { run: runId, from: wallet } }
      const widest = { transfers: [{ wallet: hot.wallet, planck: 1n }, ...senders], root: about.root, rest: hot.wallet }
      const plan = planRefund({
        balance,
        due: last ? 0n : spent,
        fee: await chain.estimateFee(widest, wallet),
        hot: hot.wallet,
        senders,
        balances: await chain.freeBalances(senders.map((sender) => sender.wallet)),
        existentialDeposit: chain.info.existentialDeposit,
      })
      if (!plan) continue
      return { epoch: 0, root: about.root, transfers: plan.transfers, refund: { ...about.refund, rest: plan.rest } }
    }
    return null
  }

  async #planPayout(): Promise<{ draft: BatchDraft | null; idle: Idle | null }> {
    const { chain, store, source, hot, limits } = this.#deps
    const sealed = await source.sealed()
    if (!sealed) return { draft: null, idle: null }
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
    if (!plan.draft) return plan
    const fee = await chain.estimateFee(plan.draft, hot.wallet)
    const idle = fundsLacking(plan.draft, fee, balances[0]!, existentialDeposit)
    return { draft: idle ? null : plan.draft, idle }
  }

  async #sign(batch: Batch, number: number): Promise<PayoutEvent> {
    const { chain, limits, refunds } = this.#deps
    const signer = batch.refund && refunds ? await refunds.signer(batch.refund.run) : this.#deps.hot
    if (batch.hot !== signer.wallet)
      fail(
        'payout.other_account',
        `Batch ${batch.id} was frozen to be paid by ${chain.addressOf(batch.hot)}, and the hot account is another one now.`,
        'Set SKEIN_PAYOUT_SEED to the key of that account until the batch is paid.',
      )
    const nonce = await chain.nextNonce(signer.wallet)
    const content = { transfers: batch.transfers, root: batch.root, rest: batch.refund?.rest }
    const signed = await chain.sign(content, signer, nonce, limits.eraBlocks)
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
