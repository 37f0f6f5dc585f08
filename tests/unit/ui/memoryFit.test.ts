/** Owns the proof that the page compares the device's offer with the stages of the right run. */
import { describe, expect, it } from 'vitest'
import { estimateStageMemory } from '../../../src/model/memory.ts'
import { memoryFit, triedWords } from '../../../src/ui/contribute/memoryFit.ts'
import { mebibytes } from '../../../src/ui/words/quantities.ts'
import { detailOf } from './fixtures.ts'

const memory = (memoryBytes: number, triedBytes = memoryBytes) => ({ memoryBytes, triedBytes })
const nobody = { run: null, stage: null }
const run = (id: string, change: Parameters<typeof detailOf>[0] = {}, config: Parameters<typeof detailOf>[1] = {}) =>
  detailOf({ id, name: id, state: 'waiting', ...change }, config)

describe('memoryFit', () => {
  it('lists each stage of the newest run that waits, and which of them are too much', () => {
    const large = { stages: 2, model: { vocabSize: 4096 } }
    const runs = [run('old', { createdAt: 1 }), run('new', { createdAt: 2 }, large), run('done', { state: 'finished' })]
    const [first, last] = [0, 1].map((stage) => estimateStageMemory(runs[1]!.config, stage).total)
    const between = (first! + last!) / 2
    const fit = memoryFit({ ...nobody, memory: memory(between) }, runs)!
    expect(fit.run).toBe('new')
    expect(fit.needs.map(({ bytes }) => bytes)).toEqual([first, last])
    expect(fit.needs.map(({ fits }) => fits)).toEqual([first! <= between, last! <= between])
    expect(fit.needs.filter(({ fits }) => fits)).toHaveLength(1)
  })

  it('speaks of the stage that this device holds while it holds one', () => {
    const runs = [run('new', { createdAt: 9 }), run('mine', { state: 'training' }, { stages: 4 })]
    const fit = memoryFit({ run: { id: 'mine', name: 'mine' }, stage: 2, memory: memory(2 ** 30) }, runs)!
    expect(fit).toMatchObject({ run: 'mine', needs: [{ label: 'Stage 3 of 4 needs', fits: true }] })
  })

  it('names the smallest and the largest of many stages, and nothing without a run or an offer', () => {
    const runs = [run('deep', {}, { stages: 6, model: { layers: 12 } })]
    const needs = memoryFit({ ...nobody, memory: memory(2 ** 30) }, runs)!.needs
    expect(needs).toHaveLength(2)
    expect(needs[0]!.bytes).toBeLessThan(needs[1]!.bytes)
    expect(memoryFit({ ...nobody, memory: null }, runs)).toBeNull()
    expect(memoryFit({ ...nobody, memory: memory(1) }, [run('done', { state: 'finished' })])).toBeNull()
  })
})

it('says how sure the offer is, and rounds it so that it promises nothing', () => {
  expect(triedWords(memory(2 ** 30))).toContain('taken once')
  expect(triedWords(memory(2 ** 30, 2 ** 26))).toBe('tried up to 64 MiB')
  expect(mebibytes(1500.4 * 2 ** 20)).toBe('1,501')
  expect(mebibytes(1500.9 * 2 ** 20, Math.floor)).toBe('1,500')
})
