import { expect, it } from 'vitest'
import { figure, kernelTables, lossTable, markdownTable, terminalTable, trainTables } from '../../bench/report.ts'
import { kernelRecord, trainRecord } from './recordFixtures.ts'

it('writes figures with three digits', () => {
  expect([0.0512, 1.234, 12.34, 123.4, 12_345.6].map(figure)).toEqual(['0.05', '1.23', '12.3', '123', '12,346'])
})

it('shows each shape once, contenders side by side with Skein’s lead, places apart', () => {
  const tables = kernelTables([
    kernelRecord({ gflops: 8 }),
    kernelRecord({ impl: 'jax-js 0.1.25', gflops: 4 }),
    kernelRecord({ m: 512, gflops: 9 }),
    kernelRecord({ where: 'chromium', gflops: 7 }),
  ])
  expect(tables.map(({ table }) => table)).toEqual([
    [
      ['f32', 'skein 0.1.0, GFLOP/s', 'jax-js 0.1.25, GFLOP/s'],
      ['matmul 256×256×256', '8.00', '4.00 (2.00×)'],
      ['matmul 512×256×256', '9.00', '–'],
    ],
    [
      ['f32', 'skein 0.1.0, GFLOP/s'],
      ['matmul 256×256×256', '7.00'],
    ],
  ])
  expect(tables[0]!.title).toContain('dawn, SwiftShader')
})

it('puts native code into the table of its work, and says how many losses were compared when few', () => {
  const [shown] = trainTables([
    trainRecord({ where: 'cpu', impl: 'pytorch 1.13', adapter: 'CPU, 2 threads', tokensPerSecond: 2400, mfu: null }),
    trainRecord(),
    trainRecord({ impl: 'tfjs-webgpu 4.22.0', tokensPerSecond: 60, lossAfter50: null, comparedSteps: 4 }),
  ])
  expect(shown!.title).toContain('w1 in chromium')
  expect(shown!.table.slice(1)).toEqual([
    ['skein 0.1.0', '1,200', '–', '50.0 %', '174', '7', '3.00 MiB', '2.5000', '1.0e-6'],
    ['tfjs-webgpu 4.22.0', '60.0', '20.0×', '50.0 %', '174', '7', '3.00 MiB', '–', '1.0e-6 (4)'],
    ['pytorch 1.13 (CPU, 2 threads)', '2,400', '0.50×', '–', '174', '7', '3.00 MiB', '2.5000', '1.0e-6'],
  ])
})

it('lines columns up, in Markdown as well', () => {
  const table = [
    ['name', 'a'],
    ['x', '1234'],
  ]
  expect(terminalTable(table)).toBe('name     a\nx     1234')
  expect(markdownTable(table)).toBe('| name |    a |\n| ---- | ---: |\n| x    | 1234 |')
})

it('shows the first ten losses', () => {
  const losses = Array.from({ length: 12 }, (_, i) => 5 - i / 10)
  const table = lossTable(
    new Map([
      ['skein 0.1.0', losses],
      ['slow 1.0', losses.slice(0, 2)],
    ]),
  )
  expect(table).toHaveLength(11)
  expect(table[2]).toEqual(['2', '4.900000', '4.900000'])
  expect(table[3]).toEqual(['3', '4.800000', '–'])
})
