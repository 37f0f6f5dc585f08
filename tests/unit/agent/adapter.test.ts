/** Proves which adapter a word means, of those that Dawn lists. */
import { describe, expect, it } from 'vitest'
import { chooseAdapter, namesIn } from '../../../src/agent/adapter.ts'

it('reads the names from what Dawn says of a name that it does not know', () => {
  const message = [
    'no suitable backends found',
    'Available adapters:',
    " * backend: 'vulkan', name: 'NVIDIA H200'",
    " * backend: 'vulkan', name: 'Bob's GPU'",
    " * backend: 'opengles', name: 'NVIDIA H200'",
    '',
  ].join('\n')
  expect(namesIn(message)).toEqual(['NVIDIA H200', "Bob's GPU"])
  expect(namesIn('no suitable backends found')).toEqual([])
})

describe('the choice', () => {
  const names = ['NVIDIA H200', 'AMD Radeon 780M', 'AMD Radeon 780M Pro', 'llvmpipe']

  it.each([
    ['0', 'NVIDIA H200'],
    ['3', 'llvmpipe'],
    ['h200', 'NVIDIA H200'],
    ['AMD Radeon 780M', 'AMD Radeon 780M'],
    ['pro', 'AMD Radeon 780M Pro'],
    ['200', 'NVIDIA H200'],
  ])('takes %s for %s', (wanted, name) => {
    expect(chooseAdapter(names, wanted)).toBe(name)
  })

  it('refuses what fits none or several, and lists them', () => {
    for (const wanted of ['intel', 'radeon', '7']) {
      expect(() => chooseAdapter(names, wanted)).toThrow(expect.objectContaining({ code: 'agent.adapter' }))
    }
    expect(() => chooseAdapter(names, 'intel')).toThrow(
      expect.objectContaining({ remedy: expect.stringContaining('0: NVIDIA H200; 1: AMD Radeon 780M') as string }),
    )
    expect(() => chooseAdapter([], '0')).toThrow(
      expect.objectContaining({ remedy: expect.stringContaining('driver') as string }),
    )
  })
})
