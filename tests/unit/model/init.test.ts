/** Checks that the first weights are what the seed says, whatever the partition. */
import { expect, test } from 'vitest'
import { initialParameters, threefry2x32 } from '../../../src/model/init.ts'
import { stageLayouts } from '../../../src/model/layout.ts'
import { modelConfigSchema } from '../../../src/protocol/runConfig.ts'

const config = modelConfigSchema.parse({ dModel: 32, layers: 3, heads: 4, kvHeads: 2, ffn: 40, vocabSize: 50 })

test('threefry gives the known answers of its authors', () => {
  const out = new Uint32Array(2)
  threefry2x32(0, 0, 0, 0, out)
  expect([...out]).toEqual([0x6b200159, 0x99ba4efe])
  threefry2x32(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, out)
  expect([...out]).toEqual([0x1cb996fc, 0xbb002be7])
  threefry2x32(0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, out)
  expect([...out]).toEqual([0xc4923a9c, 0x483df7a0])
})

test('every partition starts from the same tensors', () => {
  const collect = (stages: number) => {
    const tensors = new Map<string, number[]>()
    for (const layout of stageLayouts(config, stages)) {
      const flat = initialParameters(layout, 7)
      for (const t of layout.tensors) tensors.set(t.name, [...flat.subarray(t.offset, t.offset + t.length)])
    }
    return tensors
  }
  const whole = collect(1)
  expect(collect(3)).toEqual(whole)
  expect(new Set([...whole.values()].filter((v) => v[0] !== 1).map((v) => v[0])).size).toBe(23)
})

test('matrices are normal with their deviation, norms are one, padding is zero, seeds differ', () => {
  const layout = stageLayouts(config, 1)[0]!
  const flat = initialParameters(layout, 1)
  const covered = new Uint8Array(layout.length)
  for (const t of layout.tensors) {
    covered.fill(1, t.offset, t.offset + t.length)
    const values = flat.subarray(t.offset, t.offset + t.length)
    if (t.init === 'ones') {
      expect(values.every((v) => v === 1)).toBe(true)
      continue
    }
    const mean = values.reduce((a, b) => a + b, 0) / t.length
    const std = Math.sqrt(values.reduce((a, b) => a + b * b, 0) / t.length)
    expect(Math.abs(mean)).toBeLessThan((4 * t.init) / Math.sqrt(t.length))
    expect(Math.abs(std / t.init - 1)).toBeLessThan(4 / Math.sqrt(2 * t.length))
  }
  expect(flat.filter((v, i) => covered[i] === 0 && v !== 0)).toHaveLength(0)
  expect(initialParameters(layout, 2)).not.toEqual(flat)
})
