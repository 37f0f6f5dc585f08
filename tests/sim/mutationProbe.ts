/** Owns the worlds that a mutated copy of the protocol has to fail in: `node mutationProbe.ts troubled|overlapping|untruthful|LIE SEEDS`. */
import { troubled, troubledOverlaps, untruthful } from './accidents.ts'
import { audited } from './audited.ts'
import type { Troubles } from './mutations.ts'
import type { Lie } from './tenure.ts'

const MINUTE = 60_000
const troubles = process.argv[2] as Troubles
const made = { troubled, overlapping: troubledOverlaps, untruthful }
const make = (seed: number) =>
  troubles in made ? made[troubles as keyof typeof made](seed) : audited(seed, troubles as Lie)
const seeds = Number(process.argv[3])

for (let seed = 1; seed <= seeds; seed++)
  try {
    const world = make(seed).untilEnded(60 * MINUTE)
    const { ended } = world.witness()
    if (ended!.state !== 'finished') throw new Error(`seed ${seed}: the run ended as ${ended!.state}`)
  } catch (caught) {
    console.log(`violation: ${(caught as Error).message.split('\n')[0]}`)
    process.exit(1)
  }
