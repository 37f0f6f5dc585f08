/** Owns what every identity store must do, whichever database it is. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ChallengeRecord, Signed } from '../../../server/db/identityStore.ts'
import type { Store } from '../../../server/db/store.ts'

const hex = (digit: string) => digit.repeat(64)
const ALICE = hex('a')
const BOB = hex('b')
const HOUR = 3_600_000

const challenge = (id: string, change: Partial<ChallengeRecord> = {}): ChallengeRecord => ({
  id: id.padStart(32, '0'),
  purpose: 'bind',
  site: 'skein.example',
  wallet: 'address',
  walletId: ALICE,
  devices: [hex('1')],
  nonce: hex('f'),
  issuedAt: 1000,
  expiresAt: 2000,
  ...change,
})

export function describeIdentityStore(
  name: string,
  open: () => Promise<{ store: Store; clean(): Promise<void> }>,
): void {
  describe(`identity store: ${name}`, () => {
    let store: Store
    let clean: () => Promise<void>
    let made = 0
    beforeEach(async () => {
      ;({ store, clean } = await open())
    })
    afterEach(async () => {
      await store.close()
      await clean()
    })

    const add = (record: ChallengeRecord) => store.identity.addChallenge(record, 1000, HOUR)

    async function sign(walletId: string, devices: string[], at = 1500): Promise<Signed> {
      const record = challenge((made += 1).toString(16), { walletId, devices })
      await add(record)
      return { challenge: record, evidence: { hash: (0xabc0 + made).toString(16).padStart(64, '0'), body: '{}' }, at }
    }
    const refused = (code: string) => ({ code: `identity.${code}` })

    it('keeps every field of a challenge, and knows whether it was used', async () => {
      const signed = await sign(ALICE, [hex('1')])
      const { id } = signed.challenge
      expect(await store.identity.challenge(id)).toEqual({ ...signed.challenge, usedAt: null, proofs: [] })
      await store.identity.bind(signed)
      expect(await store.identity.challenge(id)).toEqual({ ...signed.challenge, usedAt: 1500, proofs: [] })
      expect(await store.identity.challenge(hex('0').slice(32))).toBeNull()
    })

    it('keeps one agreement of each device with a challenge, as long as the challenge', async () => {
      const { id } = (await sign(ALICE, [hex('1'), hex('2')])).challenge
      const proof = (device: string, digit: string) => ({ device: hex(device), signature: digit.repeat(128) })
      await store.identity.addProof(id, proof('2', 'a'))
      await store.identity.addProof(id, proof('1', 'b'))
      await store.identity.addProof(id, proof('2', 'c'))
      expect((await store.identity.challenge(id))!.proofs).toEqual([proof('1', 'b'), proof('2', 'c')])
      await add(challenge('99', { issuedAt: 2001 + HOUR, expiresAt: 2002 + HOUR }))
      expect(await store.identity.challenge(id)).toBeNull()
    })

    it('keeps so many open challenges and no more, and forgets those that expired long ago', async () => {
      const keep = (id: string, issuedAt: number) =>
        store.identity.addChallenge(challenge(id, { issuedAt, expiresAt: issuedAt + 1000 }), 2, HOUR)
      expect(await keep('1', 0)).toBe(true)
      expect(await keep('2', 500)).toBe(true)
      expect(await keep('3', 600)).toBe(false)
      expect(await keep('4', 1000)).toBe(true)
      expect(await store.identity.challenge(challenge('1').id)).not.toBeNull()
      expect(await keep('5', 1000 + HOUR + 1)).toBe(true)
      expect(await store.identity.challenge(challenge('1').id)).toBeNull()
      expect(await store.identity.challenge(challenge('4').id)).not.toBeNull()
    })

    it('does not count those that were used as open', async () => {
      const signed = await sign(ALICE, [hex('1')])
      await store.identity.bind(signed)
      expect(await store.identity.addChallenge(challenge('99'), 1, HOUR)).toBe(true)
    })

    it('binds once: what a device has stays as it was, and each new device is an entry', async () => {
      const first = await sign(ALICE, [hex('1'), hex('2')])
      const bound = await store.identity.bind(first)
      const binding = (deviceId: string, proof: string, boundAt: number) => ({
        deviceId,
        walletId: ALICE,
        proof,
        boundAt,
        revokedAt: null,
      })
      expect(bound).toEqual([hex('1'), hex('2')].map((device) => binding(device, first.evidence.hash, 1500)))
      const second = await sign(ALICE, [hex('2'), hex('3')], 1600)
      expect(await store.identity.bind(second)).toEqual([
        binding(hex('2'), first.evidence.hash, 1500),
        binding(hex('3'), second.evidence.hash, 1600),
      ])
      expect((await store.identity.entries(10)).map(({ entry }) => entry)).toEqual([
        { kind: 'bind', device: hex('1'), wallet: ALICE, proof: first.evidence.hash },
        { kind: 'bind', device: hex('2'), wallet: ALICE, proof: first.evidence.hash },
        { kind: 'bind', device: hex('3'), wallet: ALICE, proof: second.evidence.hash },
      ])
      expect(await store.identity.binding(hex('3'))).toEqual(binding(hex('3'), second.evidence.hash, 1600))
      expect((await store.identity.bindingsOf(ALICE, 2)).map(({ deviceId }) => deviceId)).toEqual([hex('3'), hex('1')])
      expect(await store.identity.bindingsOf(BOB, 2)).toEqual([])
      expect(await store.identity.evidence(second.evidence.hash)).toBe('{}')
      expect(await store.identity.evidence(hex('0'))).toBeNull()
    })

    it('refuses whole: a challenge twice, a device of another wallet, a device that was revoked', async () => {
      const first = await sign(ALICE, [hex('1')])
      await store.identity.bind(first)
      await expect(store.identity.bind(first)).rejects.toMatchObject(refused('challenge_used'))
      const claimed = await sign(BOB, [hex('2'), hex('1')])
      await expect(store.identity.bind(claimed)).rejects.toMatchObject(refused('device_bound'))
      expect(await store.identity.binding(hex('2'))).toBeNull()
      expect(await store.identity.challenge(claimed.challenge.id)).toMatchObject({ usedAt: null })
      expect(await store.identity.evidence(claimed.evidence.hash)).toBeNull()
      await store.identity.revoke(await sign(ALICE, [hex('1')], 1700))
      await expect(store.identity.bind(await sign(ALICE, [hex('1')]))).rejects.toMatchObject(refused('device_revoked'))
      expect((await store.identity.entries(10)).map(({ entry }) => entry.kind)).toEqual(['bind', 'revoke'])
    })

    it('revokes what the wallet has, once', async () => {
      await store.identity.bind(await sign(ALICE, [hex('1')]))
      await expect(store.identity.revoke(await sign(BOB, [hex('1')]))).rejects.toMatchObject(refused('not_bound'))
      await expect(store.identity.revoke(await sign(ALICE, [hex('9')]))).rejects.toMatchObject(refused('not_bound'))
      for (const at of [1700, 1800]) {
        const [revoked] = await store.identity.revoke(await sign(ALICE, [hex('1')], at))
        expect(revoked).toMatchObject({ deviceId: hex('1'), boundAt: 1500, revokedAt: 1700 })
      }
      expect(await store.identity.binding(hex('1'))).toMatchObject({ revokedAt: 1700 })
      expect(await store.identity.entries(10)).toHaveLength(2)
    })

    it('lets one of many who ask at once have the device', async () => {
      const claims = await Promise.all([ALICE, BOB, ALICE, BOB].map((wallet) => sign(wallet, [hex('1')])))
      const results = await Promise.allSettled(claims.map((claim) => store.identity.bind(claim)))
      const winner = (await store.identity.binding(hex('1')))!.walletId
      const won = claims.map(({ challenge: { walletId } }) => walletId === winner)
      expect(results.map(({ status }) => status === 'fulfilled')).toEqual(won)
      expect(await store.identity.entries(10)).toHaveLength(1)
    })

    it('gives entries in their order until they are dropped', async () => {
      await store.identity.bind(await sign(ALICE, [hex('1'), hex('2'), hex('3')]))
      const [first, second] = await store.identity.entries(2)
      expect([first, second].map((entry) => entry!.entry.device)).toEqual([hex('1'), hex('2')])
      await store.identity.dropEntry(first!.id)
      expect((await store.identity.entries(1))[0]).toEqual(second)
    })
  })
}
