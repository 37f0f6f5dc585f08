/** Owns the worlds that a mutated copy of the protocol has to fail in: `node mutationProbe.ts troubled|untruthful SEEDS`. */
import { troubled, untruthful } from './accidents.ts'

const MINUTE = 60_000
const make = process.argv[2] === 'untruthful' ? untruthful : troubled
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
