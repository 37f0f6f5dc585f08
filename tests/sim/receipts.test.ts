/** Proves who loses credit where somebody signs what is not so: the forger and, for that tensor, its neighbour; nobody else. */
import { describe, expect, it } from 'vitest'
import type { Digest, ReceiptEntry } from '../../src/protocol/receipt.ts'
import { strangeDigest } from './integerReceipts.ts'
import { World } from './world.ts'

type Entries = readonly ReceiptEntry<Digest>[]
const other = (digest: Digest | null) => digest && strangeDigest(Number.parseInt(digest.slice(-4), 16))

const FORGERIES: [string, (entries: Entries) => Entries][] = [
  ['what it took', (all) => all.map((entry) => ({ ...entry, activationTaken: other(entry.activationTaken) }))],
  ['what it made', (all) => all.map((entry) => ({ ...entry, gradientMade: other(entry.gradientMade) }))],
  ['whom it took it from', (all) => all.map((entry) => ({ ...entry, up: entry.up && 'nobody' }))],
  ['microbatches of others', (all) => all.map((entry) => ({ ...entry, microbatch: entry.microbatch + 100 }))],
]

/** Churn, loss and a restart of the server, and from the fifth second on a node of the last stage that signs falsely. */
function world(seed: number, forge: (entries: Entries) => Entries): World {
  const made = new World({ seed, weather: { loss: 0.02, duplicates: 0.01, jitterMs: 10 } })
  const { random, clock } = made
  made.launch({ stages: 3, replicas: 3, steps: 12, microbatches: 9 })
  for (let i = 0; i < 11; i++) clock.after(random.between(0, 2000), () => made.join())
  const turn = () => {
    const ids = [...made.state.runs.values()].flatMap((run) => run.members[2] ?? [])
    const forger = made.nodes.get(random.pick(ids) ?? '')
    if (!forger) return void clock.after(500, turn)
    forger.claims = forge
    made.watch.forgers.add(forger.id)
  }
  clock.after(5000, turn)
  clock.after(9000, () => {
    const victim = random.pick([...made.nodes.values()].filter(({ id }) => !made.watch.forgers.has(id)))
    if (victim) made.crash(victim, false)
    clock.after(500, () => made.join())
  })
  return made
}

describe.each(FORGERIES)('a node that signs falsely %s', (_, forge) => {
  it.each([1, 2, 3])('costs nobody else anything, seed %i', (seed) => {
    const made = world(seed, forge)
    made.untilEnded(30 * 60_000)
    expect(made.witness().ended!.state).toBe('finished')
    expect(made.watch.forgers.size).toBe(1)
    expect(made.watch.uncredited).toBeGreaterThan(0)
  })
})
