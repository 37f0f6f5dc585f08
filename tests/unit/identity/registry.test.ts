/** Owns the proof that the ledger hears of every binding, in order, whatever fails, and that a revoked device stays out. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { IdentityEntry } from '../../../server/db/identityStore.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { Store } from '../../../server/db/store.ts'
import { Registry, type RegistryOptions } from '../../../server/identity/registry.ts'
import { challengeText } from '../../../src/protocol/wallet.ts'
import { testDevice } from '../deviceKeys.ts'
import { agree, testWallet } from './wallets.ts'

const alice = testWallet(1)
const site = 'skein.example'
let store: Store
let failures: unknown[]

beforeEach(async () => {
  store = await openSqliteStore(':memory:')
  failures = []
})
afterEach(() => store.close())

const open = (recorded: RegistryOptions['recorded']) =>
  new Registry({
    store: store.identity,
    ss58Prefix: () => 42,
    remarks: () => null,
    recorded,
    revoked: () => {},
    failed: (error) => failures.push(error),
  })

async function sign(registry: Registry, purpose: 'bind' | 'revoke', device: ReturnType<typeof testDevice>) {
  const challenge = await registry.challenge(site, purpose, alice.address(), [device.id])
  const text = challengeText(challenge)
  const signed = { challenge: challenge.id, scheme: alice.scheme, signature: alice.sign(text) }
  if (purpose === 'revoke') return registry.revoke(site, signed)
  return registry.bind(site, { ...signed, proofs: [agree(device, text)] })
}

it('a binding holds although the ledger fails, which gets it again later, in the next process too, in order', async () => {
  const offered: IdentityEntry[] = []
  let works = false
  const failing = open((entry) => {
    offered.push(entry)
    return works ? Promise.resolve() : Promise.reject(new Error('disk full'))
  })
  const [one, two, three] = [testDevice(1), testDevice(2), testDevice(3)]
  await sign(failing, 'bind', one)
  await sign(failing, 'bind', two)
  expect(await failing.binding(two.id)).toMatchObject({ walletId: alice.walletId })
  expect(failures).toHaveLength(2)
  // Never the second before the first.
  expect(offered.map(({ device }) => device)).toEqual([one.id, one.id])
  works = true
  await sign(failing, 'bind', three)
  expect(offered.slice(2).map(({ device }) => device)).toEqual([one.id, two.id, three.id])

  const without = open(null)
  await sign(without, 'revoke', one)
  expect(offered).toHaveLength(5)
  const later: IdentityEntry[] = []
  const next = open((entry) => Promise.resolve(void later.push(entry)))
  await Promise.all([next.record(), next.record()])
  expect(later).toEqual([{ kind: 'revoke', device: one.id }])
})

it('a device is barred once it is revoked, and no other', async () => {
  const registry = open(null)
  const [one, two] = [testDevice(1), testDevice(2)]
  await sign(registry, 'bind', one)
  await sign(registry, 'bind', two)
  await sign(registry, 'revoke', one)
  expect(await registry.barred(one.id)).toMatchObject({ code: 'identity.device_revoked' })
  expect(await registry.barred(two.id)).toBeNull()
  expect(await registry.barred(testDevice(3).id)).toBeNull()
})
