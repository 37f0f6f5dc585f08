import { expect, it } from 'vitest'
import { benchOptions } from '../../bench/options.ts'

it('takes a command with defaults, and all flags', () => {
  expect(benchOptions(['kernels'])).toEqual({
    command: 'kernels',
    places: ['chromium'],
    works: null,
    peers: false,
    json: null,
    markdown: false,
    quick: false,
    limitSeconds: 300,
  })
  const flags = ['--where', 'both', '--work', 'w2,w1', '--peers', '--json', 'x.json', '--limit', '12.5', '--quick']
  expect(benchOptions(['train', ...flags])).toMatchObject({
    command: 'train',
    places: ['chromium', 'dawn'],
    works: ['w2', 'w1'],
    peers: true,
    json: 'x.json',
    quick: true,
    limitSeconds: 12.5,
  })
  expect(benchOptions(['--help'])).toBeNull()
})

it.each([
  [[], 'bench.command'],
  [['speed'], 'bench.command'],
  [['kernels', 'train'], 'bench.command'],
  [['train', '--work', 'w1,w4'], 'bench.work'],
  [['kernels', '--work', 'w1'], 'bench.option'],
  [['train', '--where', 'firefox'], 'bench.option'],
  [['train', '--limit', '0'], 'bench.option'],
  [['train', '--limit', 'long'], 'bench.option'],
  [['train', '--fast'], 'bench.option'],
])('refuses %j with %s and a remedy', (args, code) => {
  expect(() => benchOptions(args)).toThrow(expect.objectContaining({ code, remedy: expect.stringMatching(/\w+/) }))
})
