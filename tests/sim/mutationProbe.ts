/** Owns the worlds that a mutated copy of the protocol has to fail in: `node mutationProbe.ts troubled|untruthful|LIE SEEDS`. */
import { troubled, untruthful } from './accidents.ts'
import { audited } from './audited.ts'
import type { Troubles } from './mutations.ts'

const MINUTE = 60_000
const troubles = process.argv[2] as Troubles
const make = (seed: number) =>
  troubles === 'troubled' ? troubled(seed) : troubles === 'untruthful' ? untruthful(seed) : audited(seed, troubles)
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
