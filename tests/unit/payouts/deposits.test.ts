/** Proves that deposits are looked at once for each finalized block, one look at a time, and that each run has its own key. */
import { expect, it } from 'vitest'
import { depositSecret, signerFromSecret } from '../../../server/chain/signer.ts'
import { watchDeposits } from '../../../server/payouts/deposits.ts'

const settled = () => new Promise((resolve) => setTimeout(resolve, 0))

/** A chain whose balances are answered when the test says so. */
function stage() {
  let finalize = (_: number) => {}
  const asked: { wallets: readonly string[]; answer: (balances: bigint[]) => void; fail: (why: Error) => void }[] = []
  const told: [string, bigint][] = []
  const errors: string[] = []
  const open = [
    { runId: 'r1', wallet: 'a' },
    { runId: 'r2', wallet: 'b' },
  ]
  const deps = {
    chain: {
      transfersTo: async () => [],
      onFinalized: async (listener: (number: number) => void) => {
        finalize = listener
        return () => (finalize = () => {})
      },
      freeBalances: (wallets: readonly string[]) =>
        new Promise<bigint[]>((answer, fail) => asked.push({ wallets, answer, fail })),
    },
    store: { scanned: async () => null, record: async () => {}, senders: async () => [] },
    ended: async () => [],
    open: async () => open,
    held: async (runId: string, planck: bigint) => void told.push([runId, planck]),
    log: { error: (_: object, text: string) => void errors.push(text) },
  }
  return { deps, asked, told, errors, open, finalize: (number: number) => finalize(number) }
}

it('tells what each address holds, and looks again for blocks that came meanwhile', async () => {
  const { deps, asked, told, finalize } = stage()
  const close = await watchDeposits(deps)
  for (const number of [1, 2, 3]) finalize(number)
  await settled()
  expect(asked.map(({ wallets }) => wallets)).toEqual([['a', 'b']])
  asked[0]!.answer([0n, 5n])
  await settled()
  expect(told).toEqual([
    ['r1', 0n],
    ['r2', 5n],
  ])
  expect(asked).toHaveLength(2)
  asked[1]!.answer([7n, 5n])
  await settled()
  expect([asked.length, told.length]).toEqual([2, 4])
  await close()
  finalize(4)
  await settled()
  expect(asked).toHaveLength(2)
})

it('outlives a node that does not answer, and asks nothing while no run waits for money', async () => {
  const { deps, asked, told, errors, open, finalize } = stage()
  const close = await watchDeposits(deps)
  finalize(1)
  await settled()
  asked[0]!.fail(new Error('gone'))
  await settled()
  expect(errors).toHaveLength(1)
  finalize(2)
  await settled()
  asked[1]!.answer([1n, 2n])
  await settled()
  expect(told).toHaveLength(2)
  open.length = 0
  finalize(3)
  await settled()
  expect(asked).toHaveLength(2)
  await close()
})

it('gives each run a key of its own, from the secret alone, with a password where it belongs', async () => {
  const of = async (secret: string, run: string) => (await signerFromSecret(depositSecret(secret, run))).wallet
  const wallets = await Promise.all([of('//Alice', 'r1'), of('//Alice', 'r2'), of('//Bob', 'r1'), of('//Alice', 'r1')])
  expect(new Set(wallets).size).toBe(3)
  expect(wallets[3]).toBe(wallets[0])
  expect(wallets).not.toContain((await signerFromSecret('//Alice')).wallet)
  expect(depositSecret('some words//hot///pass', 'r9')).toBe('some words//hot//run//r9///pass')
})
