/** Proves that a chain's profile is asserted of what the chain says, and fills in what it does not. */
import { expect, it } from 'vitest'
import { configFromEnvironment } from '../../../server/config.ts'
import { CHAIN_PROFILES, chainProperties } from '../../../server/chain/profile.ts'

const { bittensor } = CHAIN_PROFILES
const silent = { prefix: null, decimals: null, symbol: null, existentialDeposit: 500n, blockMs: null }

it('fills in what the chain does not say, and is what it says', () => {
  expect(chainProperties(silent, bittensor)).toEqual(bittensor)
  expect(chainProperties(bittensor, bittensor)).toEqual({
    ...{ prefix: 42, decimals: 9, symbol: 'TAO', existentialDeposit: 500n, blockMs: 12_000 },
  })
})

it.each([
  ['the SS58 prefix', { prefix: 0 }],
  ['the decimals', { decimals: 12 }],
  ['the symbol', { symbol: 'DOT' }],
  ['the existential deposit', { existentialDeposit: 501n }],
  ['the milliseconds between blocks', { blockMs: 6000 }],
])('refuses a chain with another one: %s', (word, change) => {
  const refused = () => chainProperties({ ...bittensor, ...change }, bittensor)
  expect(refused).toThrow(expect.objectContaining({ code: 'chain.profile', message: expect.stringContaining(word) }))
})

it('is needed by nobody: without one what is usual is taken', () => {
  const usual = { prefix: 42, decimals: 12, symbol: 'UNIT', existentialDeposit: 500n, blockMs: null }
  expect(chainProperties(silent, null)).toEqual(usual)
  expect(chainProperties({ ...bittensor, symbol: 'X' }, null)).toEqual({ ...bittensor, symbol: 'X' })
})

it('is named in the environment', () => {
  expect(configFromEnvironment({}).chainProfile).toBeNull()
  expect(configFromEnvironment({ SKEIN_CHAIN_PROFILE: 'bittensor' }).chainProfile).toBe('bittensor')
  expect(() => configFromEnvironment({ SKEIN_CHAIN_PROFILE: 'dogecoin' })).toThrow('SKEIN_CHAIN_PROFILE')
})
