import { expect, it } from 'vitest'
import { recordsSchema } from '../../bench/records.ts'
import { kernelRecord, trainRecord } from './recordFixtures.ts'

it('takes flat records of one command', () => {
  const { op, form, m, n, k, ...rest } = kernelRecord()
  const attention = { op: 'attention', pass: 'forward', batch: 1, heads: 2, seq: 8, headDim: 4, ...rest }
  expect([op, form, m, n, k]).toHaveLength(5)
  expect(recordsSchema.parse([kernelRecord(), attention])).toHaveLength(2)
  expect(recordsSchema.parse([trainRecord(), trainRecord({ where: 'cpu', mfu: null })])).toHaveLength(2)
})

it.each([
  [[kernelRecord({ gflops: 0 })]],
  [[kernelRecord({ gflops: Infinity })]],
  [[kernelRecord({ impl: 'skein' })]],
  [[trainRecord({ adapter: '' })]],
  [[kernelRecord(), trainRecord()]],
  [[{ ...trainRecord(), nested: {} }]],
])('refuses %j', (records) => {
  expect(recordsSchema.safeParse(records).success).toBe(false)
})
