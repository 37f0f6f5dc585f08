/** Owns what the earnings page shows: this device, whom it earns for, and that account as the ledger has it. */
import type { AccountId } from '../../protocol/ledger.ts'
import type { AccountView, LedgerView } from '../../protocol/ledgerApi.ts'
import type { DeviceView, WalletDevices } from '../../protocol/wallet.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { IdentityApi } from '../../wallet/api.ts'
import type { ApiClient } from '../api/client.ts'
import type { LedgerCalls } from '../api/ledgerCalls.ts'
import type { CreditContext } from '../words/credit.ts'

const EVERY_MS = 5000

export interface EarningsSources {
  api: Pick<ApiClient, 'runs'>
  ledger: Pick<LedgerCalls, 'ledger' | 'account'>
  identity: Pick<IdentityApi, 'device' | 'devicesOf'>
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
  ledger = $state.raw<LedgerView | null>(null)
  runNames = $state.raw<ReadonlyMap<string, string>>(new Map())
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

  get context(): CreditContext {
    return { bound: this.bound, epochLength: this.ledger?.epochLength ?? null, pays: null }
  }

  async refresh(): Promise<void> {
    const { api, ledger, identity } = this.#sources
    try {
      this.deviceId ??= await this.#sources.deviceId()
      const device = await identity.device(this.deviceId)
      const bound = device.walletId !== null && device.revokedAt === null
      const id: AccountId = bound ? `wallet:${device.walletId!}` : `device:${this.deviceId}`
      const [account, view, runs, wallet] = await Promise.all([
        ledger.account(id),
        ledger.ledger(),
        // Without their names runs are shown by their ids.
        api.runs().catch(() => null),
        bound ? identity.devicesOf(device.wallet!) : null,
      ])
      this.device = device
      this.wallet = wallet
      this.account = account
      this.ledger = view
      if (runs) this.runNames = new Map(runs.map((run) => [run.id, run.name]))
      this.error = null
    } catch (caught) {
      this.error = toErrorBody(caught)
    }
  }

  /** Refreshes until the returned function is called; a hidden page asks nothing. */
  follow(): () => void {
    let stopped = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const round = async () => {
      if (!document.hidden) await this.refresh()
      if (!stopped) timer = setTimeout(() => void round(), EVERY_MS)
    }
    void round()
    return () => {
      stopped = true
      clearTimeout(timer)
    }
  }
}
