/** Owns the one account of the earnings page, the link to a wallet and the check of its proof. */
import { openDevice } from '../../store/device.ts'
import { openReceipts, type ReceiptStore } from '../../store/receipts.ts'
import { identityApi } from '../../wallet/api.ts'
import { AuditCalls } from '../api/auditCalls.ts'
import { API_ROOT } from '../api/client.ts'
import { LedgerCalls } from '../api/ledgerCalls.ts'
import { PayoutCalls } from '../api/payoutCalls.ts'
import { Earnings } from './earnings.svelte.ts'
import { ProofCheck } from './proofCheck.svelte.ts'
import { api } from './session.svelte.ts'
import { WalletLink } from './walletLink.svelte.ts'

export const identity = identityApi(API_ROOT)
const ledger = new LedgerCalls(api)

let receipts: Promise<ReceiptStore> | null = null

export const earnings = new Earnings({
  api,
  ledger,
  identity,
  payouts: new PayoutCalls(api),
  audits: new AuditCalls(api),
  receipts: () => (receipts ??= openReceipts()),
  deviceId: async () => (await openDevice()).identity.id,
})
export const proof = new ProofCheck(ledger)
export const walletLink = new WalletLink({
  load: async () => (await import('./walletAccess.ts')).walletAccess,
  changed: () => earnings.refresh(),
})
