/** Owns the proof that binding waits where it says it waits, and that what was cancelled has no effect. */
import { expect, test } from 'vitest'
import { SkeinError } from '../../../src/protocol/errors.ts'
import { WalletLink, type WalletAccess, type WalletTask } from '../../../src/ui/state/walletLink.svelte.ts'

const account = { address: '5Fx', walletId: 'aa', name: 'Savings', source: 'polkadot-js', scheme: 'sr25519' } as const

/** A wallet whose owner takes their time. */
function linked(change: Partial<WalletAccess> = {}) {
  const sent: WalletTask[] = []
  const counts = { loads: 0, changes: 0 }
  let sign = () => {}
  let refuse = (_: Error) => {}
  const access: WalletAccess = {
    accounts: () => Promise.resolve([account]),
    async carryOut(task, signal, said) {
      said('the text')
      await new Promise<void>((resolve, reject) => {
        sign = resolve
        refuse = reject
      })
      signal.throwIfAborted()
      sent.push(task)
    },
    ...change,
  }
  const link = new WalletLink({
    load: () => {
      counts.loads++
      return Promise.resolve(access)
    },
    changed: () => {
      counts.changes++
      return Promise.resolve()
    },
  })
  return { link, sent, counts, sign: () => sign(), refuse: (error: Error) => refuse(error) }
}

const settle = () => new Promise((resolve) => setTimeout(resolve))

test('nothing of wallets is loaded before a person asks', async () => {
  const { link, counts } = linked()
  expect([counts.loads, link.progress.name, link.words]).toEqual([0, 'closed', ''])
  await link.connect()
  expect([counts.loads, link.progress]).toEqual([1, { name: 'choosing', accounts: [account] }])
})

test('a binding shows what is signed while it waits, and then says that it is done', async () => {
  const { link, sent, counts, sign } = linked()
  const binding = link.bind(account, 'd1')
  await settle()
  expect(link.progress).toMatchObject({ name: 'signing', text: 'the text', task: { purpose: 'bind', device: 'd1' } })
  expect([link.busy, link.words]).toEqual([true, expect.stringContaining('signature in polkadot-js')])
  sign()
  await binding
  expect(sent).toEqual([{ purpose: 'bind', account, device: 'd1' }])
  expect([link.busy, link.words, counts.changes]).toEqual([false, 'The device is bound to the wallet.', 1])
})

test('a signature that comes after the cancel is not sent', async () => {
  const { link, sent, counts, sign } = linked()
  const binding = link.bind(account, 'd1')
  await settle()
  link.cancel()
  sign()
  await binding
  expect([sent, counts.changes]).toEqual([[], 0])
  expect([link.progress.name, link.words, link.error]).toEqual(['closed', '', null])
})

test('a refusal in the wallet is shown with its remedy', async () => {
  const { link, refuse } = linked()
  const binding = link.bind(account, 'd1')
  await settle()
  refuse(new SkeinError({ code: 'wallet.refused', message: 'Refused.', remedy: 'Allow it.' }))
  await binding
  expect(link.error).toEqual({ code: 'wallet.refused', message: 'Refused.', remedy: 'Allow it.' })
  expect([link.busy, link.lacksWallet]).toEqual([false, false])
})

test('what the wallet does not sign as a text it may sign as a remark, when the person says so', async () => {
  const { link, sent, sign, refuse } = linked()
  expect(link.offersRemark).toBe(false)
  const binding = link.bind(account, 'd1')
  await settle()
  refuse(new SkeinError({ code: 'wallet.cannot_sign', message: 'Cannot.', remedy: 'Choose another.' }))
  await binding
  expect(link.offersRemark).toBe(true)
  const again = link.signAsRemark()
  await settle()
  expect(link.offersRemark).toBe(false)
  sign()
  await again
  expect(sent).toEqual([{ purpose: 'bind', account, device: 'd1', byRemark: true }])
  expect(link.words).toBe('The device is bound to the wallet.')
})

test('a remark that is refused is not offered again', async () => {
  const { link, refuse } = linked()
  const binding = link.bind({ ...account, hardware: true }, 'd1')
  await settle()
  refuse(new SkeinError({ code: 'wallet.refused', message: 'Refused.', remedy: 'Allow it.' }))
  await binding
  expect([link.error?.code, link.offersRemark]).toEqual(['wallet.refused', false])
})

test('a browser without a wallet is told apart, for a person can install one', async () => {
  const none = new SkeinError({ code: 'wallet.none', message: 'None.', remedy: 'Install one.' })
  const { link } = linked({ accounts: () => Promise.reject(none) })
  await link.connect()
  expect([link.lacksWallet, link.progress.name]).toEqual([true, 'closed'])
})

test('only the account that a device earns for is asked to revoke it', async () => {
  const { link, sent, sign } = linked()
  await link.revoke('bb', 'd1')
  expect([link.error?.code, sent]).toEqual(['wallet.account_missing', []])
  const revoking = link.revoke('aa', 'd1')
  await settle()
  sign()
  await revoking
  expect([sent[0]?.purpose, link.words]).toEqual(['revoke', 'The device is revoked.'])
})
