/** Proves that an export with learned boundaries computes, by its own modeling file, what our generation computes. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { exportFiles } from '../../server/runs/export.ts'
import { floatBytes, readSafetensors } from '../../src/formats/safetensors.ts'
import { createDecoder } from '../../src/model/decoder.ts'
import { initialParameters } from '../../src/model/init.ts'
import { runLayouts } from '../../src/model/layout.ts'
import { learnedBoundaries } from '../../src/model/learnedBoundaries.ts'
import type { StageCheckpoint } from '../../src/protocol/control.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { noise } from '../kernels/gpu.ts'
import { openFixture } from '../unit/server/appFixture.ts'
import { dataset, run } from '../unit/server/store.compliance.ts'

const runner = fileURLToPath(new URL('run_modeling.py', import.meta.url))
const python = ['/usr/bin/python3', 'python3'].find((name) => spawnSync(name, ['-c', 'import torch']).status === 0)
const folder = mkdtempSync(join(tmpdir(), 'skein-modeling-'))
afterAll(() => rmSync(folder, { recursive: true }))

// Python is no part of the project: where it or torch is missing there is nothing to check.
describe.skipIf(!python)('modeling_skein.py', () => {
  it.each(['bottleneck-f16', 'bottleneck-f32'] as const)(
    'computes what our generation computes, under %s',
    async (codec) => {
      const model = {
        vocabSize: 41,
        dModel: 24,
        layers: 4,
        heads: 4,
        kvHeads: 2,
        ffn: 20,
        blockSize: 16,
        normEps: 1e-4,
      }
      const config = runConfigSchema.parse({ model, stages: 3, codec, codecWidth: 3, seed: 77 })
      const fixture = await openFixture()
      try {
        const { store, blobs } = fixture
        const stages: StageCheckpoint[] = []
        for (const layout of runLayouts(config)) {
          // Large enough for every part to matter, the second matrices of the boundaries among them.
          const flat = initialParameters(layout, 5).map((x) => (x === 1 ? 1 : 6 * x))
          for (const { init, offset, length } of layout.tensors)
            if (init === 0) flat.set(noise(length, offset, 0.5), offset)
          const hash = await blobs.put(floatBytes(flat))
          stages.push({ stage: layout.stage, chunks: [{ kind: 'parameters', offset: 0, length: flat.length, hash }] })
        }
        await store.insertDataset(dataset())
        await store.insertRun(run('r1', { config }), { runId: 'r1', step: 0, stages, bytes: 1, createdAt: 1 })
        for (const { name, content } of (await exportFiles({ store, blobs }, 'r1')).files)
          await writeFile(join(folder, name), content())
      } finally {
        await fixture.close()
      }
      const tokens = Uint32Array.of(3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9, 3, 23, 8, 40)
      const output = execFileSync(python!, [runner, folder, tokens.join()], { maxBuffer: 2 ** 26 }).toString()
      const said = JSON.parse(output) as { unused: string[]; missing: string[]; logits: number[][] }
      expect(said.unused).toEqual([])
      expect(said.missing).toEqual([])
      const file = readSafetensors(readFileSync(join(folder, 'model.safetensors')))
      const tensors = new Map([...file.tensors].map(([name, tensor]) => [name, tensor.data]))
      const decoder = createDecoder({ config: config.model, tensors, boundaries: learnedBoundaries(config) })
      tokens.forEach((token, place) => {
        const logits = decoder.next(token)
        const scale = Math.max(...logits.map(Math.abs))
        // A code that rounds to the other half moves everything behind it by a part in 2048 of one number.
        const most = codec === 'bottleneck-f16' ? 2e-3 : 2e-5
        logits.forEach((x, i) => expect(Math.abs(x - said.logits[place]![i]!) / scale).toBeLessThan(most))
      })
    },
  )
})
