import { afterEach, beforeEach, expect, it } from 'vitest'
import { local, openFixture } from '../server/appFixture.ts'
import type { Fixture } from '../server/appFixture.ts'

let fixture: Fixture
beforeEach(async () => {
  fixture = await openFixture()
})
afterEach(() => fixture.close())

const get = (url: string) => fixture.app.inject({ method: 'GET', url: `/api/v1${url}`, headers: local })

it('says null where no chain is configured', async () => {
  const answer = await get('/chain')
  expect(answer.statusCode).toBe(200)
  expect(answer.headers['content-type']).toContain('application/json')
  expect(answer.json()).toBeNull()
})

it('lists batches with planck in decimal, and a wallet’s own amount', async () => {
  const wallets = ['bb'.repeat(32), 'cc'.repeat(32)]
  const { payouts } = fixture.store
  await payouts.freeze(
    {
      epoch: 2,
      root: 'dd'.repeat(32),
      refund: null,
      transfers: wallets.map((wallet, n) => ({ wallet, planck: 10n ** 20n + BigInt(n) })),
    },
    { genesis: `0x${'01'.repeat(32)}`, hot: 'aa'.repeat(32) },
    5,
  )
  const all = (await get('/payouts')).json()
  expect(all).toMatchObject({
    status: null,
    batches: [{ epoch: 2, state: 'frozen', total: '200000000000000000001', transfers: 2, amount: null, block: null }],
  })
  const own = (await get(`/payouts?wallet=${wallets[1]}`)).json()
  expect(own.batches).toMatchObject([{ amount: '100000000000000000001' }])
  expect((await get(`/payouts?wallet=${'ee'.repeat(32)}`)).json().batches).toEqual([])
  expect((await get('/payouts?wallet=0xbb')).statusCode).toBe(400)
})
