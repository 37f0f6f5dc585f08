/** Checks the independent reader against the reference, so that its word on an exported model can be taken. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { llamaConfig } from '../../server/runs/export.ts'
import { writeSafetensors } from '../../src/formats/safetensors.ts'
import { tokenizerFor } from '../../src/formats/tokenizer.ts'
import { evalWindowStarts } from '../../src/formats/windows.ts'
import { initialParameters } from '../../src/model/init.ts'
import { stageLayouts } from '../../src/model/layout.ts'
import { referenceModel } from '../../src/model/reference/model.ts'
import { modelConfigSchema } from '../../src/protocol/runConfig.ts'

const reader = fileURLToPath(new URL('read_export.py', import.meta.url))
const python = ['/usr/bin/python3', 'python3'].find((name) => spawnSync(name, ['-c', 'import numpy']).status === 0)

// Python is no part of the project: where it is missing there is nothing to check.
describe.skipIf(!python)('read_export.py', () => {
  it.each([
    { kind: 'byte' as const, heads: 4, kvHeads: 2, tieEmbeddings: false, evalTokens: 10_000 },
    { kind: 'byte' as const, heads: 2, kvHeads: 2, tieEmbeddings: true, evalTokens: 100 },
    { kind: 'character' as const, heads: 2, kvHeads: 2, tieEmbeddings: false, evalTokens: 10_000 },
  ])('scores an export as the reference does: %o', ({ kind, evalTokens, ...shape }) => {
    const text = Array.from({ length: 300 }, (_, i) => `${i} stories – ${i % 7} ends; `).join('')
    const tokenizer = tokenizerFor(kind, text)
    const { vocabSize } = tokenizer
    const config = modelConfigSchema.parse({ dModel: 16, layers: 2, ffn: 20, blockSize: 24, vocabSize, ...shape })
    const layout = stageLayouts(config, 1)[0]!
    const flat = initialParameters(layout, 5).map((x) => (x === 1 ? 1 : 10 * x))
    const valuesOf = (t: { offset: number; length: number }) => flat.subarray(t.offset, t.offset + t.length)
    const folder = mkdtempSync(join(tmpdir(), 'skein-export-'))
    try {
      writeFileSync(join(folder, 'config.json'), JSON.stringify(llamaConfig(config)))
      writeFileSync(join(folder, 'tokenizer.json'), tokenizer.files(config.blockSize)['tokenizer.json'])
      const tensors = layout.tensors.map(({ name, shape, ...place }) => ({ name, shape, data: valuesOf(place) }))
      writeFileSync(join(folder, 'model.safetensors'), writeSafetensors(tensors))
      writeFileSync(join(folder, 'text.txt'), text)
      const args = [reader, folder, join(folder, 'text.txt'), '--eval-tokens', String(evalTokens)]
      const result = JSON.parse(execFileSync(python!, args).toString())

      const tokens = tokenizer.encode(text)
      const dataset = { tokens: tokens.length, trainTokens: Math.floor(0.9 * tokens.length) }
      const starts = evalWindowStarts(dataset, config.blockSize, evalTokens)
      const cut = (shift: number) => {
        const rows = starts.flatMap((start) => [...tokens.subarray(start + shift, start + shift + config.blockSize)])
        return Uint32Array.from(rows)
      }
      const model = referenceModel(config, new Map(layout.tensors.map((t) => [t.name, Float64Array.from(valuesOf(t))])))
      const { loss } = model.lossAndGradients(cut(0), cut(1), starts.length)
      expect(result).toMatchObject({ windows: starts.length, tokens: starts.length * config.blockSize })
      expect(Math.abs(result.loss / loss - 1)).toBeLessThan(1e-10)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
