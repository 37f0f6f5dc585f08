/** Owns what an operator may say in advance about the chain that is connected: it has to be that one, and what it leaves out is known. */
import { fail } from '../../src/protocol/errors.ts'

/** Of a chain whose money Skein pays. */
export interface ChainProperties {
  /** SS58 prefix of its addresses. */
  readonly prefix: number
  readonly decimals: number
  readonly symbol: string
  /** Planck. */
  readonly existentialDeposit: bigint
  /** Milliseconds between blocks. */
  readonly blockMs: number
}

/** What a node and its runtime say of them; null where they are silent. */
export type SaidProperties = { readonly [K in keyof ChainProperties]: ChainProperties[K] | null }

export const CHAIN_PROFILES = {
  /** One TAO is 10⁹ rao. */
  bittensor: { prefix: 42, decimals: 9, symbol: 'TAO', existentialDeposit: 500n, blockMs: 12_000 },
} as const satisfies Record<string, ChainProperties>

export const profileNames = Object.keys(CHAIN_PROFILES) as (keyof typeof CHAIN_PROFILES)[]

/** What is usual, for chains that say nothing of it. */
const USUAL = { prefix: 42, decimals: 12, symbol: 'UNIT' }

const WORDS: Readonly<Record<keyof ChainProperties, string>> = {
  prefix: 'the SS58 prefix',
  decimals: 'the decimals',
  symbol: 'the symbol',
  existentialDeposit: 'the existential deposit',
  blockMs: 'the milliseconds between blocks',
}

/**
 * What is true of the chain.
 * @throws SkeinError `chain.profile` where it says something else than its profile: amounts would be off by powers of ten
 */
export function chainProperties(
  said: SaidProperties & { readonly existentialDeposit: bigint },
  profile: ChainProperties | null,
): Omit<ChainProperties, 'blockMs'> & { readonly blockMs: number | null } {
  if (!profile)
    return {
      ...said,
      prefix: said.prefix ?? USUAL.prefix,
      decimals: said.decimals ?? USUAL.decimals,
      symbol: said.symbol ?? USUAL.symbol,
    }
  const keys = Object.keys(WORDS) as (keyof ChainProperties)[]
  const wrong = keys.filter((key) => said[key] !== null && said[key] !== profile[key])
  if (wrong.length > 0)
    fail(
      'chain.profile',
      `The chain is not the one of its profile: ${wrong.map((key) => `${WORDS[key]} would be ${profile[key]} and is ${said[key]}`).join('; ')}.`,
      'Set SKEIN_CHAIN_URL to a node of that chain, or leave SKEIN_CHAIN_PROFILE out.',
    )
  return profile
}
