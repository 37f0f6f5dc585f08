/** Proves that evidence speaks of the same rows and tensors at both ends, whatever their number, and survives its journey. */
import { describe, expect, it } from 'vitest'
import { drawnPlaces, evidenceFloats, evidenceText, sketchBoundary, sketchShard } from '../../../src/audit/evidence.ts'
import { GRADIENT_WIDTH, ROW_WIDTH, sketchGradient, sketchRows, type SketchSeed } from '../../../src/audit/sketch.ts'
import { evidenceSchema, MAX_EVIDENCE_ROWS, MAX_EVIDENCE_TENSORS } from '../../../src/protocol/audit.ts'
import { MAX_CONTROL_BYTES } from '../../../src/protocol/control.ts'
import { MAX_RECEIPT_MICROBATCHES } from '../../../src/protocol/receipt.ts'
import { noise } from '../../kernels/gpu.ts'

const SEED: SketchSeed = [0xdeadbeef, 7]
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

describe('drawn places', () => {
  it('are all where there are few', () => {
    expect(drawnPlaces(5, 5, SEED)).toEqual([0, 1, 2, 3, 4])
    expect(drawnPlaces(0, 5, SEED)).toEqual([])
  })

  it('are one of each stretch, rising, and others under another seed', () => {
    for (const count of [513, 1000, 4096, 100_003]) {
      const places = drawnPlaces(count, 512, SEED)
      expect(new Set(places).size).toBe(512)
      expect(places.every((place, i) => place >= Math.floor((i * count) / 512) && place < Math.floor(((i + 1) * count) / 512))).toBe(true) // prettier-ignore
      if (count > 600) expect(drawnPlaces(count, 512, [0xdeadbeef, 8])).not.toEqual(places)
    }
  })

  it('come to every place over the seeds', () => {
    const seen = new Set(Array.from({ length: 200 }, (_, i) => drawnPlaces(20, 4, [i * 77, 3])).flat())
    expect(seen.size).toBe(20)
  })
})

describe('the sketch of a boundary tensor', () => {
  it('is of all rows, or of the drawn ones', () => {
    for (const rows of [3, MAX_EVIDENCE_ROWS + 1]) {
      const values = noise(rows * 8, rows)
      const sketch = sketchBoundary('f32', bytesOf(values), { rows, columns: 8 }, 1, SEED)
      const all = sketchRows(values, 8, SEED)
      const places = drawnPlaces(rows, MAX_EVIDENCE_ROWS, SEED)
      expect(sketch.length).toBe(ROW_WIDTH * places.length)
      places.forEach(
        (row, i) =>
        expect(sketch.subarray(i * ROW_WIDTH, (i + 1) * ROW_WIDTH)).toEqual(all.subarray(row * ROW_WIDTH, (row + 1) * ROW_WIDTH)), // prettier-ignore
      )
    }
  })

  it('refuses bytes of another shape', () => {
    expect(() => sketchBoundary('f32', new Uint8Array(8), { rows: 1, columns: 4 }, 1, SEED)).toThrow(RangeError)
  })
})

describe('the sketch of a shard', () => {
  const tensors = [{ offset: 0, length: 10 }, { offset: 16, length: 7 }, { offset: 32, length: 40 }] // prettier-ignore

  it('is of what lies in the shard, each tensor by itself', () => {
    const values = noise(24, 4)
    const parts = [{ offset: 0, length: 3 }, { offset: 12, length: 12 }] // prettier-ignore
    expect(sketchShard(values, { offset: 20, length: 24 }, tensors, SEED)).toEqual(sketchGradient(values, parts, SEED))
  })

  it('is of no more than a message holds', () => {
    const many = Array.from({ length: 500 }, (_, i) => ({ offset: 2 * i, length: 2 }))
    const sketch = sketchShard(noise(1000, 2), { offset: 0, length: 1000 }, many, SEED)
    expect(sketch.length).toBe(GRADIENT_WIDTH * MAX_EVIDENCE_TENSORS)
  })

  it('of nothing is nothing', () => {
    expect(sketchShard(new Float32Array(0), { offset: 80, length: 0 }, tensors, SEED)).toHaveLength(0)
  })
})

describe('evidence in a message', () => {
  it('comes back bit by bit', () => {
    const values = Float32Array.of(0, -0, 1e-40, -3.5, Infinity, NaN, 3e38)
    expect(evidenceFloats(evidenceText(values))).toEqual(values)
    expect(() => evidenceFloats('AAA=')).toThrow(RangeError)
  })

  it('fits, the largest there is', () => {
    const text = (length: number) => evidenceText(noise(length, 1))
    const rows = text(16 * MAX_EVIDENCE_ROWS)
    const evidence = {
      ...{ activation: rows, input: rows, inputGradient: rows },
      parameterGradient: text(64 * MAX_EVIDENCE_TENSORS),
      loss: text(MAX_RECEIPT_MICROBATCHES),
    }
    expect(evidenceSchema.parse(evidence)).toEqual(evidence)
    expect(JSON.stringify(evidence).length).toBeLessThan(0.9 * MAX_CONTROL_BYTES)
    expect(evidenceSchema.safeParse({ loss: text(MAX_RECEIPT_MICROBATCHES + 3) }).success).toBe(false)
    expect(evidenceSchema.safeParse({ loss: 'ä' }).success).toBe(false)
  })
})
