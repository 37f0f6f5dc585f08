/** Proves that pages train a model across a learned boundary, and that its export is worth what the run says. */
import { readSafetensors } from '../../src/formats/safetensors.ts'
import { createDecoder } from '../../src/model/decoder.ts'
import { learnedBoundaries } from '../../src/model/learnedBoundaries.ts'
import { expect, test, tinyConfig, tinyModel } from './skein.ts'

test('three pages train across two learned boundaries; the export scores as the run did', async ({ skein }) => {
  for (let page = 0; page < 3; page++) await skein.volunteer()
  const shape = { ...tinyConfig, model: { ...tinyModel, layers: 3 }, stages: 3, steps: 12, evalTokens: 1_500 }
  const learned = { codec: 'bottleneck-f16', codecWidth: 4, optimizer: { warmupSteps: 2 } } as const
  const runId = await skein.launch('learned boundaries', { ...shape, ...learned })
  const { detail, metrics } = await skein.follow(runId)
  expect(detail.state).toBe('finished')
  expect(metrics.at(-1)!.loss).toBeLessThan(metrics[0]!.loss - 0.3)
  // Four halves a token in either direction; the ids come from the dataset.
  expect(detail.boundaryBytesPerToken).toBeCloseTo(8, 5)

  const file = readSafetensors(await skein.api.exportFile(runId, 'model.safetensors'))
  const tensors = new Map([...file.tensors].map(([name, tensor]) => [name, tensor.data]))
  const { model } = detail.config
  const decoder = createDecoder({ config: model, tensors, boundaries: learnedBoundaries(detail.config) })
  const { tokens, trainTokens } = skein.dataset
  const text = new TextEncoder().encode(skein.corpus)
  const available = Math.floor((tokens - trainTokens - 1) / model.blockSize)
  const windows = Math.min(available, Math.floor(1_500 / model.blockSize))
  let sum = 0
  for (let window = 0; window < windows; window++) {
    const start = trainTokens + Math.floor((window * available) / windows) * model.blockSize
    decoder.reset()
    for (let i = start; i < start + model.blockSize; i++) {
      const logits = decoder.next(text[i]!)
      const most = Math.max(...logits)
      const total = logits.reduce((all, x) => all + Math.exp(x - most), 0)
      sum += most + Math.log(total) - logits[text[i + 1]!]!
    }
  }
  expect(Math.abs(sum / (windows * model.blockSize) - detail.valLoss!)).toBeLessThan(1e-3)
})
