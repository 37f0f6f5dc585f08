/** Owns what is said under oath in the simulation: the sketches that ship, of integers, which they keep exactly. */
import { evidenceText } from '../../src/audit/evidence.ts'
import { sketchGradient, sketchRows, type SketchSeed } from '../../src/audit/sketch.ts'

/** A boundary tensor is one row. */
export const sketchRow = (values: readonly number[], seed: SketchSeed) =>
  sketchRows(Float32Array.from(values), values.length, seed)

/** A shard is one tensor; some are empty. */
export const sketchShare = (values: readonly number[], seed: SketchSeed) =>
  sketchGradient(Float32Array.from(values), values.length > 0 ? [{ offset: 0, length: values.length }] : [], seed)

export const told = (floats: Float32Array | null) => (floats === null ? undefined : evidenceText(floats))
