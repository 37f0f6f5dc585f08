/** Owns the proof that only the owner of a wallet and the owner of a device can join them, and what each forgery is told. */
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { IdentityEntry } from '../../../server/db/identityStore.ts'
import { REGISTRY_LIMITS } from '../../../server/identity/registry.ts'
import { SIGNING_RATE } from '../../../server/identity/routes.ts'
import type { Challenge, DeviceView, WalletDevices } from '../../../src/protocol/wallet.ts'
import { testDevice, type TestDevice } from '../deviceKeys.ts'
import { local, openFixture, type Fixture } from '../server/appFixture.ts'
import { agree, testWallet, type TestWallet } from './wallets.ts'

type Offered = Challenge & { text: string }

const alice = testWallet(1)
const bob = testWallet(2)
const laptop = testDevice(1)
const phone = testDevice(2)

let fixture: Fixture
/** The server's clock. */
let time: number
let entries: IdentityEntry[]
let expelled: string[]

beforeEach(async () => {
  time = Date.UTC(2030, 0, 1)
  entries = []
  expelled = []
  fixture = await openFixture(
    {},
    {
      now: () => time,
      recorded: (entry) => Promise.resolve(void entries.push(entry)),
      revoked: (deviceId) => expelled.push(deviceId),
    },
  )
})
afterEach(() => fixture.close())

let caller = 0

/** Each call comes from an address of its own, but where the rate is what is tried. */
async function post(path: string, payload: object, headers: object = local, remoteAddress?: string) {
  caller += 1
  const from = remoteAddress ?? `10.0.${caller >> 8}.${caller & 255}`
  const url = `/api/v1/wallet/${path}`
  const answer = await fixture.app.inject({
    method: 'POST',
    url,
    payload,
    headers: { ...headers },
    remoteAddress: from,
  })
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() }
}

async function offer(wallet: TestWallet = alice, devices = [laptop], purpose = 'bind'): Promise<Offered> {
  const request = { purpose, wallet: wallet.address(), devices: devices.map(({ id }) => id) }
  const { status, body } = await post('challenge', request)
  expect(status, JSON.stringify(body)).toBe(201)
  return body as unknown as Offered
}

const signed = (challenge: Offered, wallet: TestWallet = alice, devices: TestDevice[] = [laptop]) => ({
  challenge: challenge.id,
  scheme: wallet.scheme,
  signature: wallet.sign(challenge.text),
  proofs: devices.map((device) => agree(device, challenge.text)),
})

async function bind(wallet = alice, devices = [laptop]) {
  return post('bind', signed(await offer(wallet, devices), wallet, devices))
}

async function revoke(wallet = alice, devices = [laptop]) {
  return post('revoke', signed(await offer(wallet, devices, 'revoke'), wallet, []))
}

const deviceOf = async (device: TestDevice) =>
  (await fixture.app.inject({ url: `/api/v1/devices/${device.id}` })).json<DeviceView>()

/** Whatever was refused left everything as it was. */
async function unbound(device = laptop) {
  expect(await deviceOf(device)).toMatchObject({ wallet: null, walletId: null, boundAt: null, revokedAt: null })
  expect(entries).toEqual([])
}

describe('a wallet and its devices', () => {
  it('are joined by the signatures of all of them over a text that says so', async () => {
    const challenge = await offer(alice, [laptop, phone])
    const { text } = challenge
    expect(text).not.toMatch(/^0x/)
    for (const part of ['127.0.0.1:8080', alice.address(), laptop.id, phone.id, challenge.nonce, 'bind'])
      expect(text).toContain(part)
    expect(text).toContain('Expires: 2030-01-01T00:10:00.000Z')
    const { status, body } = await post('bind', signed(challenge, alice, [phone, laptop]))
    expect(status, JSON.stringify(body)).toBe(200)
    const { walletId, devices } = body as unknown as WalletDevices
    expect(walletId).toBe(alice.walletId)
    expect(devices.map(({ deviceId }) => deviceId)).toEqual([laptop.id, phone.id])
    const { proof } = devices[0]!
    expect(entries).toEqual(
      [laptop, phone].map(({ id }) => ({ kind: 'bind', device: id, wallet: alice.walletId, proof: proof! })),
    )
    const evidence = await fixture.app.inject({ url: `/api/v1/wallet/proofs/${proof}` })
    expect(createHash('sha256').update(evidence.body).digest('hex')).toBe(proof)
    expect(evidence.json()).toMatchObject({ text, wallet: alice.walletId, scheme: 'sr25519' })
    expect(await deviceOf(phone)).toMatchObject({ wallet: alice.address(), boundAt: time, revokedAt: null })
    const listed = await fixture.app.inject({ url: `/api/v1/wallets/${alice.address()}/devices` })
    expect(listed.json<WalletDevices>().devices).toHaveLength(2)
  })

  it('are joined by an ed25519 account too', async () => {
    const wallet = testWallet(3, 'ed25519')
    expect((await bind(wallet)).status).toBe(200)
    expect(await deviceOf(laptop)).toMatchObject({ walletId: wallet.walletId })
  })

  it('stay joined when they are joined again, which the ledger hears once', async () => {
    const first = await bind()
    time += 1000
    const again = await bind()
    expect(again).toEqual(first)
    expect(entries).toHaveLength(1)
    await bind(alice, [laptop, phone])
    expect(entries.map((entry) => entry.device)).toEqual([laptop.id, phone.id])
  })

  it('are parted for good by the wallet, by a challenge for that', async () => {
    await bind()
    time += 5
    const { status, body } = await revoke()
    expect(status, JSON.stringify(body)).toBe(200)
    expect(await deviceOf(laptop)).toMatchObject({ wallet: alice.address(), revokedAt: time })
    expect(entries.at(-1)).toEqual({ kind: 'revoke', device: laptop.id })
    expect(expelled).toEqual([laptop.id])
    await revoke()
    expect(entries).toHaveLength(2)
  })
})

describe('refused, with a code of its own:', () => {
  const refusals: [string, string, () => Promise<{ body: object }>][] = [
    [
      'the signature of another wallet',
      'wallet_signature',
      async () => {
        const challenge = await offer()
        return post('bind', { ...signed(challenge), signature: bob.sign(challenge.text) })
      },
    ],
    [
      'a signature over another challenge',
      'wallet_signature',
      async () => {
        const [challenge, other] = [await offer(), await offer()]
        return post('bind', { ...signed(challenge), signature: alice.sign(other.text) })
      },
    ],
    [
      'a signature of the right key in another scheme',
      'wallet_signature',
      async () => post('bind', { ...signed(await offer()), scheme: 'ed25519' }),
    ],
    [
      'a signature that is not over the wrapped text',
      'raw_signature',
      async () => {
        const challenge = await offer()
        return post('bind', { ...signed(challenge), signature: alice.signUnwrapped(challenge.text) })
      },
    ],
    [
      'the same of an ed25519 account',
      'raw_signature',
      async () => {
        const wallet = testWallet(3, 'ed25519')
        const challenge = await offer(wallet)
        return post('bind', { ...signed(challenge, wallet), signature: wallet.signUnwrapped(challenge.text) })
      },
    ],
    [
      'a remark, where there is no chain to read it by',
      'no_chain',
      async () => {
        const challenge = await offer()
        const asked = await fixture.app.inject({ url: `/api/v1/wallet/challenges/${challenge.id}/remark` })
        expect(asked.json()).toMatchObject({ code: 'identity.challenge_domain' })
        const here = { url: `/api/v1/wallet/challenges/${challenge.id}/remark`, headers: { ...local } }
        expect((await fixture.app.inject(here)).json()).toMatchObject({ code: 'identity.no_chain' })
        const hash = `0x${'00'.repeat(32)}`
        const numbers = {
          blockNumber: '0x01',
          nonce: '0x00',
          specVersion: '0x01',
          tip: '0x00',
          transactionVersion: '0x01',
        }
        const about = { address: alice.address(), blockHash: hash, genesisHash: hash, era: '0x00', method: '0x0000' }
        return post('bind', {
          ...signed(challenge),
          remark: { ...about, ...numbers, signedExtensions: [], version: 4 },
        })
      },
    ],
    [
      'a challenge that nobody gave',
      'challenge_unknown',
      async () => post('bind', { ...signed(await offer()), challenge: '0'.repeat(32) }),
    ],
    [
      'a challenge of another domain',
      'challenge_domain',
      async () => post('bind', signed(await offer()), { host: 'evil.example' }),
    ],
    [
      'what another domain had signed for this challenge',
      'wallet_signature',
      async () => {
        const challenge = await offer()
        const elsewhere = challenge.text.replaceAll('127.0.0.1:8080', 'evil.example')
        return post('bind', { ...signed(challenge), signature: alice.sign(elsewhere) })
      },
    ],
    [
      'a challenge for something else',
      'challenge_purpose',
      async () => post('bind', signed(await offer(alice, [laptop], 'revoke'))),
    ],
    [
      'a challenge that has expired by the server’s clock',
      'challenge_expired',
      async () => {
        const request = signed(await offer())
        time += REGISTRY_LIMITS.challengeMs
        return post('bind', request)
      },
    ],
    [
      'a challenge from the future, as a clock that was set back makes it',
      'clock_skew',
      async () => {
        const request = signed(await offer())
        time -= REGISTRY_LIMITS.skewMs + 1
        return post('bind', request)
      },
    ],
    [
      'a device that has not agreed',
      'device_proof_missing',
      async () => post('bind', { ...signed(await offer(alice, [laptop, phone])), proofs: [] }),
    ],
    [
      'a stranger’s device, agreed to by one’s own',
      'device_proof',
      async () => {
        const challenge = await offer(alice, [phone])
        const { signature } = agree(laptop, challenge.text)
        return post('bind', { ...signed(challenge), proofs: [{ device: phone.id, signature }] })
      },
    ],
    [
      'what a device signed for its session, or as a bare text',
      'device_proof',
      async () => {
        const challenge = await offer()
        const signature = laptop.signHex(new TextEncoder().encode(challenge.text))
        return post('bind', { ...signed(challenge), proofs: [{ device: laptop.id, signature }] })
      },
    ],
    [
      'an address of another chain',
      'ss58_prefix',
      () => post('challenge', { wallet: alice.address(0), devices: [laptop.id] }),
    ],
    [
      'an address with a wrong letter',
      'ss58',
      () =>
        post('challenge', {
          wallet: alice.address().replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')),
          devices: [laptop.id],
        }),
    ],
    [
      'a key in place of an address',
      'ss58',
      () => post('challenge', { wallet: `0x${alice.walletId.slice(0, 60)}`, devices: [laptop.id] }),
    ],
    [
      'a device with a key that anybody can sign with',
      'device_key',
      () => post('challenge', { wallet: alice.address(), devices: [`01${'00'.repeat(31)}`] }),
    ],
  ]
  it.each(refusals)('%s', async (_name, code, attempt) => {
    expect((await attempt()).body).toMatchObject({ code: `identity.${code}`, remedy: expect.any(String) as string })
    await unbound()
    await unbound(phone)
  })

  it('a challenge that was used, whoever sends it again', async () => {
    const request = signed(await offer())
    const [one, other] = await Promise.all([post('bind', request), post('bind', request)])
    expect([one.status, other.status].sort()).toEqual([200, 409])
    expect([one, other].find(({ status }) => status === 409)!.body).toMatchObject({ code: 'identity.challenge_used' })
    expect((await post('bind', request)).body).toMatchObject({ code: 'identity.challenge_used' })
    expect(entries).toHaveLength(1)
  })

  it('a device that belongs to another wallet, and all that came with it', async () => {
    await bind()
    const { status, body } = await bind(bob, [phone, laptop])
    expect([status, body.code]).toEqual([409, 'identity.device_bound'])
    expect(await deviceOf(laptop)).toMatchObject({ walletId: alice.walletId })
    expect(await deviceOf(phone)).toMatchObject({ walletId: null })
    expect(entries).toHaveLength(1)
    // The challenge was not used up by it: without the device it can be asked for anew, and the old one is still unspent.
    expect((await bind(bob, [phone])).status).toBe(200)
  })

  it('a device that was revoked, by its wallet and by any other', async () => {
    await bind()
    await revoke()
    for (const wallet of [alice, bob]) {
      const { status, body } = await bind(wallet)
      expect([status, body.code]).toEqual([409, 'identity.device_revoked'])
    }
    expect(await fixture.app.inject({ url: `/api/v1/devices/${laptop.id}` }).then((a) => a.json())).toMatchObject({
      walletId: alice.walletId,
    })
  })

  it('revoking what another wallet has, or with a challenge to bind', async () => {
    await bind()
    expect((await revoke(bob)).body).toMatchObject({ code: 'identity.not_bound' })
    expect((await post('revoke', signed(await offer()))).body).toMatchObject({ code: 'identity.challenge_purpose' })
    expect(await deviceOf(laptop)).toMatchObject({ revokedAt: null })
    expect(expelled).toEqual([])
  })

  it.each([
    ['no device', { devices: [] }],
    ['a device twice', { devices: [laptop.id, laptop.id] }],
    ['more devices than a person reads', { devices: Array.from({ length: 33 }, (_, i) => testDevice(i + 1).id) }],
    ['a device in capitals', { devices: [laptop.id.toUpperCase()] }],
    ['an endless address', { wallet: '5'.repeat(10_000) }],
  ])('a request with %s', async (_name, change) => {
    const { status, body } = await post('challenge', { wallet: alice.address(), devices: [laptop.id], ...change })
    expect([status, body.code]).toEqual([400, 'request.invalid'])
  })

  it('more challenges than a person needs', async () => {
    const request = { wallet: alice.address(), devices: [laptop.id] }
    for (let i = 0; i < SIGNING_RATE.max; i++)
      expect((await post('challenge', request, local, '10.9.9.9')).status).toBe(201)
    expect(await post('challenge', request, local, '10.9.9.9')).toMatchObject({
      status: 429,
      body: { code: 'request.too_many' },
    })
    expect((await post('challenge', request, local, '10.9.9.8')).status).toBe(201)
  })

  it('more open challenges than are kept, until some have expired', async () => {
    const kept = REGISTRY_LIMITS.open
    REGISTRY_LIMITS.open = 3
    try {
      for (let i = 0; i < 3; i++) await offer()
      const { status, body } = await post('challenge', { wallet: alice.address(), devices: [laptop.id] })
      expect([status, body.code]).toEqual([503, 'identity.too_many_challenges'])
      time += REGISTRY_LIMITS.challengeMs
      await offer()
    } finally {
      REGISTRY_LIMITS.open = kept
    }
  })
})

describe('a server that knows its names', () => {
  it('gives no challenge to who called it otherwise', async () => {
    await fixture.close()
    fixture = await openFixture({ hosts: ['skein.example'] })
    const request = { wallet: alice.address(), devices: [laptop.id] }
    expect(await post('challenge', request)).toMatchObject({ status: 421, body: { code: 'identity.audience' } })
    const { body } = await post('challenge', request, { host: 'skein.example' })
    expect(body).toMatchObject({ site: 'skein.example' })
  })

  it('takes addresses of its chain', async () => {
    await fixture.close()
    fixture = await openFixture({ ss58Prefix: 0 })
    const request = { wallet: alice.address(0), devices: [laptop.id] }
    expect((await post('challenge', request)).status).toBe(201)
    expect((await fixture.app.inject({ url: '/api/v1/wallet' })).json()).toEqual({ ss58Prefix: 0 })
  })
})
