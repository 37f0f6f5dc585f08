/** Proves on a real runtime that a payout is paid exactly once, wherever the server dies and whatever the chain does. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startLocalChain } from '../../server/chain/local/localChain.ts'
import type { LocalChain } from '../../server/chain/local/localChain.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import type { Chain, Hex, Signer } from '../../server/chain/port.ts'
import { signerFromSecret } from '../../server/chain/signer.ts'
import { FINALITY, limits, World } from './world.ts'
import type { Kill } from './world.ts'
import { upgradeRuntime } from './upgradeRuntime.ts'

let local: LocalChain
let chain: Chain
let hot: Signer
let before: bigint
const worlds: World[] = []

beforeAll(async () => {
  local = await startLocalChain({ port: 0, finalityLag: FINALITY, blockMs: null })
  chain = await connectChain(local.url)
  hot = await signerFromSecret('//Alice')
  await local.build(FINALITY + 1)
})
afterAll(async () => {
  await chain?.close()
  await local?.close()
})
beforeEach(async () => {
  ;[before] = (await chain.freeBalances([hot.wallet])) as [bigint]
})
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.remove()
  local.chain.txPool.clear()
  await local.build(FINALITY)
})

async function newWorld(): Promise<World> {
  const world = await World.create(local, chain, hot, `${expect.getState().currentTestName} ${worlds.length}`)
  worlds.push(world)
  return world
}

/** Every recipient has its amount, once, on the chain and in the books; the hot account has paid that and one fee a batch. */
async function expectPaidOnce(...paid: World[]): Promise<void> {
  let total = 0n
  for (const world of paid) {
    // Long enough for a second payment to come, if there were one.
    await world.advance(FINALITY + 2)
    const { debts } = world
    expect(await chain.freeBalances(debts.map(({ wallet }) => wallet))).toEqual(debts.map(({ planck }) => planck))
    const rows = world.rows()
    const inBooks = Object.fromEntries(rows.map(({ wallet, planck }) => [wallet, BigInt(planck)]))
    expect(inBooks).toEqual(Object.fromEntries(debts.map(({ wallet, planck }) => [wallet, planck])))
    expect(rows).toHaveLength(debts.length)
    expect((await world.states()).filter((state) => state === 'paid')).toHaveLength(1)
    expect(await world.store.open()).toBeNull()
    expect((await world.store.frozen()).size).toBe(0)
    total += debts.reduce((sum, { planck }) => sum + planck, 0n)
    const [record] = await world.store.batches(1, null, null)
    expect(rows[0]).toMatchObject({ block: record!.block!.hash.slice(2), extrinsic: record!.extrinsic!.slice(2) })
  }
  const [after] = await chain.freeBalances([hot.wallet])
  const fees = before - after! - total
  expect(fees).toBeGreaterThan(0n)
  // A batch paid twice would cost far more than what fees can be.
  expect(fees).toBeLessThan(BigInt(paid.length) * 10n ** 10n)
}

describe('a payout whose server is killed', () => {
  const kills: Kill[] = (['freeze', 'sign', 'addAttempt', 'submit', 'settle'] as const).flatMap((of) => [
    { of, when: 'before' },
    { of, when: 'after' },
  ])
  it.each(kills)('$when $of is paid once', async (kill) => {
    const world = await newWorld()
    await world.start({ kill })
    await world.advance(FINALITY + 3)
    expect(world.dead).toBe(true)
    await world.end()
    await local.build(1)
    await world.start()
    await world.advance(12, () => world.isPaid())
    await expectPaidOnce(world)
  })

  it.each([
    ['before its block is built', 0],
    ['between inclusion and finality', 1],
    ['after finality, which it has not heard of', 4],
    ['and stays away for longer than the era', 12],
  ])('%s is paid once', async (_when, blocks) => {
    const world = await newWorld()
    await world.start({ kill: { of: 'submit', when: 'after' } })
    await world.catchUp()
    expect(world.dead).toBe(true)
    await world.end()
    await local.build(blocks)
    await world.start()
    await world.advance(12, () => world.isPaid())
    expect((await world.store.batches(1, null, null))[0]!.attempts).toBe(1)
    await expectPaidOnce(world)
  })

  it('at every start, over and over, is paid once', async () => {
    const world = await newWorld()
    for (const of of ['freeze', 'addAttempt', 'submit', 'find', 'settle'] as const) {
      await world.start({ kill: { of, when: 'after' } })
      await world.advance(6)
      await world.end()
    }
    await world.start()
    await world.advance(12, () => world.isPaid())
    await expectPaidOnce(world)
  })
})

/** A node that takes the first bytes it is given and loses them; `lost` keeps them. */
function forgetful(lost: Hex[], loses = 1): Chain {
  return new Proxy(chain, {
    get: (target, name) => {
      if (name !== 'submit') return Reflect.get(target, name, target) as unknown
      return (bytes: Hex) => {
        if (!lost.includes(bytes) && lost.length < loses) lost.push(bytes)
        return lost.includes(bytes) ? Promise.resolve({ accepted: true }) : target.submit(bytes)
      }
    },
  })
}

describe('a payout on a chain that misbehaves', () => {
  it('is paid once when a reorganization takes its block away', async () => {
    const world = await newWorld()
    await world.start()
    await world.catchUp()
    const parent = local.chain.head
    await local.build(1)
    expect((await chain.freeBalances([world.debts[0]!.wallet]))[0]).toBe(0n)
    await local.chain.setHead(parent)
    expect(local.chain.txPool.pendingExtrinsics).toEqual([])
    await world.advance(12, () => world.isPaid())
    expect((await world.store.batches(1, null, null))[0]!.attempts).toBe(1)
    await expectPaidOnce(world)
  })

  it('is signed again only when its era is over, and the old bytes are worth nothing then', async () => {
    const world = await newWorld()
    const lost: Hex[] = []
    await world.start({ chain: forgetful(lost) })
    await world.catchUp()
    const { death } = (await world.store.batches(1, null, null))[0]!.lastAttempt!
    await world.advance(death + FINALITY - 1 - local.chain.head.number)
    expect((await world.store.batches(1, null, null))[0]!.attempts).toBe(1)
    await world.advance(1)
    expect((await world.store.batches(1, null, null))[0]!.attempts).toBe(2)
    expect(await chain.submit(lost[0]!)).toMatchObject({ accepted: false })
    await world.advance(12, () => world.isPaid())
    await expectPaidOnce(world)
  })

  it('is found in the last block that could take it, and not signed again', async () => {
    const world = await newWorld()
    const lost: Hex[] = []
    await world.start({ chain: forgetful(lost) })
    await world.catchUp()
    const { death } = (await world.store.batches(1, null, null))[0]!.lastAttempt!
    await world.advance(death - 2 - local.chain.head.number)
    expect(await chain.submit(lost[0]!)).toEqual({ accepted: true })
    await world.advance(12, () => world.isPaid())
    const [record] = await world.store.batches(1, null, null)
    expect(record).toMatchObject({ attempts: 1, block: { number: death - 1 } })
    await expectPaidOnce(world)
  })

  it('is paid once when its bytes are submitted twice', async () => {
    const world = await newWorld()
    const twice = new Proxy(chain, {
      get: (target, name) => {
        if (name !== 'submit') return Reflect.get(target, name, target) as unknown
        return async (bytes: Hex) => {
          await target.submit(bytes)
          return target.submit(bytes)
        }
      },
    })
    await world.start({ chain: twice })
    await world.advance(12, () => world.isPaid())
    await expectPaidOnce(world)
  })

  it('is paid once beside another with the same nonce, the loser after its era', async () => {
    const [one, other] = [await newWorld(), await newWorld()]
    const nonce = await chain.nextNonce(hot.wallet)
    // A node that does not tell of its pool, so that both are signed for one place.
    const blind = () => {
      let asked = 0
      return new Proxy(chain, {
        get: (target, name) => {
          if (name !== 'nextNonce') return Reflect.get(target, name, target) as unknown
          return (wallet: string) => (asked++ === 0 ? Promise.resolve(nonce) : target.nextNonce(wallet))
        },
      })
    }
    await one.start({ chain: blind() })
    await other.start({ chain: blind() })
    await one.catchUp()
    await other.catchUp()
    for (const world of [one, other])
      expect((await world.store.batches(1, null, null))[0]!.lastAttempt).toMatchObject({ nonce })
    for (let n = 0; n < 24 && !((await one.isPaid()) && (await other.isPaid())); n++) {
      await local.build(1)
      await Promise.all([one.catchUp(), other.catchUp()])
    }
    const attempts = await Promise.all(
      [one, other].map(async ({ store }) => (await store.batches(1, null, null))[0]!.attempts),
    )
    expect(attempts.sort()).toEqual([1, 2])
    await expectPaidOnce(one, other)
  })

  it('stops at a chain that is another one, and touches nothing', async () => {
    const world = await newWorld()
    await world.start({ kill: { of: 'submit', when: 'after' } })
    await world.catchUp()
    await world.end()
    const genesis: Hex = `0x${'99'.repeat(32)}`
    const elsewhere = new Proxy(chain, {
      get: (target, name) =>
        name === 'info' ? { ...target.info, genesis } : (Reflect.get(target, name, target) as unknown),
    })
    await world.start({ chain: elsewhere })
    await world.advance(limits.eraBlocks + FINALITY + 2)
    expect(world.payouts.status()).toMatchObject({ halted: { code: 'payout.other_chain' } })
    expect(world.rows()).toEqual([])
    expect((await world.store.batches(1, null, null))[0]).toMatchObject({ state: 'frozen', attempts: 1 })
    await world.end()
    await world.start()
    await world.advance(12, () => world.isPaid())
    await expectPaidOnce(world)
  })

  // Last: the runtime stays as it is from here on.
  it('is signed again for a runtime that came between signing and submitting, once the old bytes are dead', async () => {
    const world = await newWorld()
    await world.start({ kill: { of: 'addAttempt', when: 'after' } })
    await world.catchUp()
    await world.end()
    await upgradeRuntime(local, 900, 901)
    await world.start()
    const old = (await world.store.open())!.attempt!
    expect(await chain.submit(old.bytes)).toMatchObject({
      accepted: false,
      reason: expect.stringContaining('badProof'),
    })
    await world.advance(2)
    expect(await chain.runtimeVersion()).toMatchObject({ specVersion: 901 })
    const [record] = await world.store.batches(1, null, null)
    expect(record).toMatchObject({ state: 'frozen', attempts: 1 })
    await world.advance(20, () => world.isPaid())
    expect((await world.store.batches(1, null, null))[0]!.attempts).toBe(2)
    await expectPaidOnce(world)
  })
})
