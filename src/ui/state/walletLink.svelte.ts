/** Owns the way from a device to a wallet and back: extensions are asked, an account is chosen, signatures are waited for. */
import { fail, toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { Purpose } from '../../protocol/wallet.ts'
import type { WalletAccount } from '../../wallet/extension.ts'

export interface WalletTask {
  purpose: Purpose
  account: WalletAccount
  device: string
  /** Signed as an extrinsic that is not sent, for a wallet that signs no texts. */
  byRemark?: true
}

/** What the page needs of a wallet. All of it rejects with a SkeinError that can be shown. */
export interface WalletAccess {
  /** Asks every extension; each may ask the person first. There is one at least. */
  accounts(): Promise<readonly WalletAccount[]>
  /** Has the account sign the server's challenge, and for `bind` this device too; sends nothing once `signal` is aborted. */
  carryOut(task: WalletTask, signal: AbortSignal, said: (text: string) => void): Promise<void>
}

type Progress =
  | { name: 'closed' }
  /** Extensions may show a window of their own. */
  | { name: 'looking' }
  | { name: 'choosing'; accounts: readonly WalletAccount[] }
  /** The text is null until the server has given the challenge. */
  | { name: 'signing'; task: WalletTask; text: string | null }

export interface WalletLinkOptions {
  /** Loaded when a person asks for it: it brings the extensions' library with it. */
  load: () => Promise<WalletAccess>
  /** Something was bound or revoked. */
  changed: () => Promise<void>
}

export class WalletLink {
  progress = $state.raw<Progress>({ name: 'closed' })
  error = $state.raw<ErrorBody | null>(null)
  /** What was done last, in a sentence. */
  news = $state('')
  readonly #options: WalletLinkOptions
  /** What was to be signed as a text last. */
  #refused: WalletTask | null = null
  /** Aborted by whatever ends the attempt: its late answers then change nothing. */
  #attempt = new AbortController()

  constructor(options: WalletLinkOptions) {
    this.#options = options
  }

  /** There is no wallet, or none that shows an account: a person can be told what to install. */
  get lacksWallet(): boolean {
    return this.error?.code === 'wallet.none' || this.error?.code === 'wallet.no_account'
  }

  /** The wallet did not sign the text: a Ledger, which cannot, may sign the same as a remark. */
  get offersRemark(): boolean {
    const code = this.error?.code
    return this.#refused !== null && (code === 'wallet.refused' || code === 'wallet.cannot_sign')
  }

  /** Does again, by a remark, what the wallet did not sign as a text. */
  async signAsRemark(): Promise<void> {
    const task = this.#refused
    if (task) await this.#try((access, signal) => this.#sign(access, signal, { ...task, byRemark: true }))
  }

  get busy(): boolean {
    return this.progress.name === 'looking' || this.progress.name === 'signing'
  }

  /** What is being waited for, in a sentence; empty when nothing is. */
  get words(): string {
    const { progress } = this
    switch (progress.name) {
      case 'closed':
        return this.news
      case 'looking':
        return 'Asking your wallet extensions for their accounts. One may open a window and ask you.'
      case 'choosing':
        return progress.accounts.length === 1
          ? 'One account is shared with this site.'
          : `${progress.accounts.length} accounts are shared with this site.`
      case 'signing':
        return progress.text === null
          ? 'Asking the server for a text to sign…'
          : `Waiting for your signature in ${progress.task.account.source}. Read the text there before you sign.`
    }
  }

  /** Looks for accounts, for a person to choose one. */
  connect(): Promise<void> {
    return this.#try(async (access, signal) => {
      const accounts = await access.accounts()
      if (!signal.aborted) this.progress = { name: 'choosing', accounts }
    })
  }

  bind(account: WalletAccount, device: string): Promise<void> {
    return this.#try((access, signal) => this.#sign(access, signal, { purpose: 'bind', account, device }))
  }

  /** @param walletId whose the device is, for nobody else can revoke it */
  revoke(walletId: string, device: string): Promise<void> {
    return this.#try(async (access, signal) => {
      const account = (await access.accounts()).find((candidate) => candidate.walletId === walletId)
      if (!account)
        return fail(
          'wallet.account_missing',
          'No extension shares the account of this wallet with this site, and only that account can revoke its devices.',
          'Open the extension that has the account, allow this site to see it, and try again.',
        )
      if (!signal.aborted) await this.#sign(access, signal, { purpose: 'revoke', account, device })
    })
  }

  /** Ends the attempt. A window that an extension still shows can be closed: signed or not, nothing is sent. */
  cancel(): void {
    this.#attempt.abort()
    this.progress = { name: 'closed' }
    this.error = null
    this.#refused = null
    this.news = ''
  }

  async #sign(access: WalletAccess, signal: AbortSignal, task: WalletTask): Promise<void> {
    this.progress = { name: 'signing', task, text: null }
    this.#refused = task.byRemark || task.account.hardware ? null : task
    await access.carryOut(task, signal, (text) => {
      if (!signal.aborted) this.progress = { name: 'signing', task, text }
    })
    await this.#options.changed()
    if (signal.aborted) return
    this.progress = { name: 'closed' }
    this.news = task.purpose === 'bind' ? 'The device is bound to the wallet.' : 'The device is revoked.'
  }

  async #try(work: (access: WalletAccess, signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#attempt.abort()
    this.#attempt = new AbortController()
    const { signal } = this.#attempt
    this.error = null
    this.news = ''
    this.progress = { name: 'looking' }
    try {
      await work(await this.#options.load(), signal)
    } catch (caught) {
      if (signal.aborted) return
      this.progress = { name: 'closed' }
      this.error = toErrorBody(caught)
    }
  }
}
