/** Owns the proof that a run's figures tell what was recovered and what was lost, each with its unit. */
import { expect, test } from 'vitest'
import { runFigures } from '../../../src/ui/console/runFigures.ts'
import { detailOf } from './fixtures.ts'

test('leases that others computed and returns to a checkpoint are told apart', () => {
  const figures = runFigures(detailOf({ recovered: 1234, rollbacks: 1 }), null, null)
  expect(figures.find(({ label }) => label === 'Recovered')).toMatchObject({ value: '1,234', unit: 'leases' })
  expect(figures.find(({ label }) => label === 'Rolled back')).toMatchObject({ value: '1', unit: 'time' })
})
