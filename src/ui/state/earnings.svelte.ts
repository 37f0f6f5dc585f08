/** Owns what the earnings page shows: this device, whom it earns for, and that account as the ledger has it. */
import type { AccountId } from '../../protocol/ledger.ts'
import type { AccountView, LedgerView } from '../../protocol/ledgerApi.ts'
import type { StandingView } from '../../protocol/auditApi.ts'
import type { DeviceView, WalletDevices } from '../../protocol/wallet.ts'
import type { ChainView, PayoutBatch } from '../../protocol/payouts.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { KeptReceipt, ReceiptStore } from '../../store/receipts.ts'
import type { IdentityApi } from '../../wallet/api.ts'
import type { AuditCalls } from '../api/auditCalls.ts'
import type { ApiClient } from '../api/client.ts'
import type { LedgerCalls } from '../api/ledgerCalls.ts'
import type { PayoutCalls } from '../api/payoutCalls.ts'
import type { CreditContext } from '../words/credit.ts'
import { runNames } from '../words/run.ts'
import { whileVisible } from './whileVisible.ts'

const EVERY_MS = 5000
const BATCHES = 50
const RECEIPTS = 10

export interface EarningsSources {
  api: Pick<ApiClient, 'runs'>
  ledger: Pick<LedgerCalls, 'ledger' | 'account'>
  payouts: Pick<PayoutCalls, 'chain' | 'payouts'>
  audits: Pick<AuditCalls, 'standing'>
  identity: Pick<IdentityApi, 'device' | 'devicesOf'>
  /** What this browser profile signed and was answered, kept here and nowhere else. */
  receipts: () => Promise<Pick<ReceiptStore, 'latest' | 'days'>>
  /** The id of this browser profile's device; it is made at the first visit. */
  deviceId: () => Promise<string>
}

export class Earnings {
  deviceId = $state<string | null>(null)
  /** Whom the device belongs to, as the server has it. */
  device = $state.raw<DeviceView | null>(null)
  /** The devices of its wallet, when it has one. */
  wallet = $state.raw<WalletDevices | null>(null)
  account = $state.raw<AccountView | null>(null)
  /** What audits found of this device. */
  standing = $state.raw<StandingView | null>(null)
  ledger = $state.raw<LedgerView | null>(null)
  /** Null where the server has no chain; undefined while it has not said. */
  chain = $state.raw<ChainView | null | undefined>(undefined)
  /** Batches with a transfer to the wallet, newest first. */
  batches = $state.raw<readonly PayoutBatch[]>([])
  /** The newest receipts that this device keeps, newest first. */
  receipts = $state.raw<readonly KeptReceipt[]>([])
  /** What all receipts that this device ever had are worth, in FLOPs. */
  receiptsWorth = $state.raw(0n)
  runNames = $state.raw(runNames([]))
  /** The last failure; what was known before stays on the page. */
  error = $state.raw<ErrorBody | null>(null)
  readonly #sources: EarningsSources

  constructor(sources: EarningsSources) {
    this.#sources = sources
  }

  /** The device earns for a wallet. */
  get bound(): boolean {
    return this.device !== null && this.device.walletId !== null && this.device.revokedAt === null
  }

  /** Its wallet took the device's key out of use, for good. */
  get revoked(): boolean {
    return this.device?.revokedAt != null
  }

  /** Whether the server can pay at all; null while it has not said. */
  get pays(): boolean | null {
    return this.chain === undefined ? null : this.chain !== null
  }

  get context(): CreditContext {
    return { bound: this.bound, epochLength: this.ledger?.epochLength ?? null, pays: this.pays }
  }

  /** The root that a paid batch carried into a block, as the server has it from the chain. */
  anchorOf(epoch: number): { root: string; block: string } | null {
    const batch = this.batches.find((candidate) => candidate.epoch === epoch && candidate.state === 'paid')
    return batch?.block ? { root: batch.root, block: batch.block.hash } : null
  }

  async refresh(): Promise<void> {
    const { api, ledger, identity, payouts, audits } = this.#sources
    try {
      this.deviceId ??= await this.#sources.deviceId()
      const kept = await this.#sources.receipts()
      this.receipts = await kept.latest(RECEIPTS)
      this.receiptsWorth = (await kept.days()).reduce((sum, { credit }) => sum + credit, 0n)
      const device = await identity.device(this.deviceId)
      const bound = device.walletId !== null && device.revokedAt === null
      const id: AccountId = bound ? `wallet:${device.walletId!}` : `device:${this.deviceId}`
      const [account, view, runs, standing, wallet] = await Promise.all([
        ledger.account(id),
        ledger.ledger(),
        // Without their names runs are shown by their ids.
        api.runs().catch(() => null),
        audits.standing(this.deviceId),
        bound ? identity.devicesOf(device.wallet!) : null,
      ])
      this.device = device
      this.wallet = wallet
      this.standing = standing
      this.account = account
      this.ledger = view
      if (runs) this.runNames = runNames(runs)
      // A chain's node out of reach hides nothing of what was earned.
      this.chain = await payouts.chain()
      this.batches = bound ? (await payouts.payouts(BATCHES, device.walletId)).batches : []
      this.error = null
    } catch (caught) {
      this.error = toErrorBody(caught)
    }
  }

  /** Refreshes until the returned function is called; a hidden page asks nothing. */
  follow(): () => void {
    return whileVisible(() => this.refresh(), EVERY_MS)
  }
}
