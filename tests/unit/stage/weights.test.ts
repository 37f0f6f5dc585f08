/** Proves that weights travel while the model is made, are written once it is, and are refused where they are not themselves. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Assignment } from '../../../src/protocol/control.ts'
import type { StageModel } from '../../../src/stage/model.ts'
import { loadWeights, sha256 } from '../../../src/stage/weights.ts'

const values = [1, 2, 3].map((x) => new Float32Array([x, x, x, x]))
const chunks: { kind: 'parameters'; offset: number; length: number; hash: string }[] = []
for (const [i, chunk] of values.entries()) {
  chunks.push({ kind: 'parameters', offset: 4 * i, length: 4, hash: await sha256(new Uint8Array(chunk.buffer)) })
}
const assignment = { checkpoint: { stage: { chunks } } } as unknown as Assignment

let server: Server
let requested: string[] = []
beforeEach(async () => {
  requested = []
  server = createServer((request, response) => {
    requested.push(request.url!)
    const at = chunks.findIndex(({ hash }) => request.url!.endsWith(hash))
    response.end(Buffer.from(values[at]!.buffer))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => server.close())

const apiUrl = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

function recordingModel() {
  const written = new Float32Array(12)
  const model = {
    write: (_: string, offset: number, part: Float32Array) => written.set(part, offset),
  } as unknown as StageModel
  return { model, written }
}

it('fetches before there is a model, and writes every chunk once there is', async () => {
  const { model, written } = recordingModel()
  let made: (model: StageModel) => void = () => undefined
  const making = new Promise<StageModel>((resolve) => (made = resolve))
  const shares: number[] = []
  const loading = loadWeights(apiUrl(), assignment, making, new AbortController().signal, (share) => shares.push(share))
  while (requested.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(shares).toEqual([])
  made(model)
  await loading
  expect(Array.from(written)).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
  expect(shares.at(-1)).toBe(1)
})

it('writes nothing into a model that was made for nobody', async () => {
  const { model, written } = recordingModel()
  const abort = new AbortController()
  let made: (model: StageModel) => void = () => undefined
  const loading = loadWeights(apiUrl(), assignment, new Promise((resolve) => (made = resolve)), abort.signal, () => {})
  while (requested.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  abort.abort(new Error('withdrawn'))
  made(model)
  await expect(loading).rejects.toThrow()
  expect(written.every((x) => x === 0)).toBe(true)
})

it('refuses a chunk that is not what its name says', async () => {
  const { model } = recordingModel()
  values[1]![0] = 7
  const loading = loadWeights(apiUrl(), assignment, Promise.resolve(model), new AbortController().signal, () => {})
  await expect(loading).rejects.toMatchObject({ code: 'blob.hash_mismatch' })
  values[1]![0] = 2
})
