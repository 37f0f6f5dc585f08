/** Proves that strangers' pages train one model, and that its export is worth what the run says. */
import { referenceModel } from '../../src/model/reference/model.ts'
import { modelConfigSchema } from '../../src/protocol/runConfig.ts'
import { expect, headline, test, tinyConfig, tinyModel } from './skein.ts'

/** A second reading of the safetensors format, written from its description and from nothing of ours. */
function readTensors(file: Uint8Array): Map<string, { shape: number[]; values: Float64Array }> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const headerLength = Number(view.getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerLength))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  const tensors = new Map<string, { shape: number[]; values: Float64Array }>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    expect(entry.dtype).toBe('F32')
    const [begin, end] = entry.data_offsets
    const count = entry.shape.reduce((product, n) => product * n, 1)
    expect(end - begin).toBe(4 * count)
    const at = (i: number) => view.getFloat32(8 + headerLength + begin + 4 * i, true)
    tensors.set(name, { shape: entry.shape, values: Float64Array.from({ length: count }, (_, i) => at(i)) })
  }
  return tensors
}

test('two strangers train a model; an independent reader of its export finds the run’s validation loss', async ({
  skein,
}) => {
  const pages = [await skein.volunteer(), await skein.volunteer()]
  const runId = await skein.launch('whole run', { ...tinyConfig, steps: 30, optimizer: { warmupSteps: 5 } })
  await expect(headline(pages[0]!)).toContainText('of 2 of “whole run”', { timeout: 60_000 })
  const { detail, metrics, holders } = await skein.follow(runId)

  expect(detail.state).toBe('finished')
  expect(holders.size).toBe(2)
  expect(metrics.map((metric) => metric.step)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
  expect(metrics[0]!.loss).toBeGreaterThan(5.3)
  expect(metrics.at(-1)!.loss).toBeLessThan(metrics[0]!.loss - 0.7)
  // f16: two bytes of each of a token's values, in either direction.
  expect(detail.boundaryBytesPerToken).toBeCloseTo(2 * tinyModel.dModel, 5)
  for (const page of pages) await expect(page.getByText('Direct', { exact: true })).toBeVisible()

  const names = (await skein.api.exportFiles(runId)).map((file) => file.name).sort()
  expect(names).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ])
  const tensors = readTensors(await skein.api.exportFile(runId, 'model.safetensors'))
  expect(tensors.get('model.embed_tokens.weight')!.shape).toEqual([256, tinyModel.dModel])

  // The held-out tail in consecutive windows, as many as there are.
  const { tokens, trainTokens } = skein.dataset
  const text = new TextEncoder().encode(skein.corpus)
  const block = tinyModel.blockSize
  const windows = Math.floor((tokens - trainTokens - 1) / block)
  expect(windows).toBeGreaterThan(40)
  const scored = (shift: number) =>
    Uint32Array.from(text.subarray(trainTokens + shift, trainTokens + shift + windows * block))
  const model = referenceModel(
    modelConfigSchema.parse(tinyModel),
    new Map([...tensors].map(([name, { values }]) => [name, values])),
  )
  const { loss } = model.lossAndGradients(scored(0), scored(1), windows)
  expect(Math.abs(loss - detail.valLoss!)).toBeLessThan(1e-3)
})
