/**
 * Proves that weights travel while the model is made, are written once it is, are refused where they are not themselves, and
 * travel once: what is cached, downloaded or saved, is not downloaded again.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CHUNK_ELEMENTS, type Assignment, type Chunk } from '../../../src/protocol/control.ts'
import type { StageModel, VectorKind } from '../../../src/stage/model.ts'
import { loadWeights, readShard, saveShard } from '../../../src/stage/weights.ts'
import { NO_CHUNKS, sha256, type ChunkCache } from '../../../src/store/chunks.ts'
import { memoryFolder } from '../store/memoryFolder.ts'

const chunks: Chunk[] = []
const initial = new Map<string, Uint8Array>()
for (const [i, x] of [1, 2, 3].entries()) {
  const bytes = new Uint8Array(new Float32Array([x, x, x, x]).buffer)
  const hash = await sha256(bytes)
  initial.set(hash, bytes)
  chunks.push({ kind: 'parameters', offset: 4 * i, length: 4, hash })
}
const weights = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]

let server: Server
let blobs: Map<string, Uint8Array>
let requested: string[] = []
let authorizations: (string | undefined)[] = []
/** Blobs that are never answered. */
let held: Set<string>
beforeEach(async () => {
  requested = []
  authorizations = []
  blobs = new Map(initial)
  held = new Set()
  server = createServer((request, response) => {
    const hash = request.url!.replace('/blobs/', '')
    requested.push(`${request.method} ${hash}`)
    if (request.method === 'GET') return held.has(hash) ? undefined : response.end(blobs.get(hash))
    authorizations.push(request.headers.authorization)
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      blobs.set(hash, Buffer.concat(parts))
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  server.closeAllConnections()
  server.close()
})

const apiUrl = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const until = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** A device's model, whose vectors are zeros at first. */
function recordingModel(length = 12) {
  const vectors = new Map<VectorKind, Float32Array<ArrayBuffer>>()
  const vector = (kind: VectorKind) => vectors.get(kind) ?? new Float32Array(length)
  const model = {
    write: (kind: VectorKind, offset: number, part: Float32Array) => {
      const whole = vector(kind)
      whole.set(part, offset)
      vectors.set(kind, whole)
    },
    read: (kind: VectorKind, { offset, length }: { offset: number; length: number }) =>
      Promise.resolve(vector(kind).slice(offset, offset + length)),
  } as unknown as StageModel
  return { model, vectors, parameters: () => Array.from(vector('parameters')) }
}

function load(
  making: StageModel | Promise<StageModel>,
  more: { chunks?: Chunk[]; signal?: AbortSignal; progress?(share: number): void; cache?: ChunkCache } = {},
): Promise<void> {
  const assignment = { checkpoint: { stage: { chunks: more.chunks ?? chunks } } } as unknown as Assignment
  const { signal = new AbortController().signal, progress = () => {}, cache = NO_CHUNKS } = more
  return loadWeights(apiUrl(), assignment, Promise.resolve(making), signal, progress, cache)
}

describe('loading', () => {
  it('fetches before there is a model, and writes every chunk once there is', async () => {
    const { model, parameters } = recordingModel()
    let made: (model: StageModel) => void = () => undefined
    const shares: number[] = []
    const loading = load(new Promise<StageModel>((resolve) => (made = resolve)), {
      progress: (share) => shares.push(share),
    })
    await until(() => requested.length === 3)
    expect(shares).toEqual([])
    made(model)
    await loading
    expect(parameters()).toEqual(weights)
    expect(shares.at(-1)).toBe(1)
  })

  it('writes nothing into a model that was made for nobody', async () => {
    const { model, vectors } = recordingModel()
    const abort = new AbortController()
    let made: (model: StageModel) => void = () => undefined
    const loading = load(new Promise<StageModel>((resolve) => (made = resolve)), { signal: abort.signal })
    await until(() => requested.length === 3)
    abort.abort(new Error('withdrawn'))
    made(model)
    await expect(loading).rejects.toThrow('withdrawn')
    expect(vectors.size).toBe(0)
  })

  it('refuses a chunk that is not what its name says, and does not keep it', async () => {
    const { hash } = chunks[1]!
    blobs.set(hash, new Uint8Array(16).fill(7))
    const { files, open } = memoryFolder()
    const cache = open()
    await expect(load(recordingModel().model, { cache })).rejects.toMatchObject({ code: 'blob.hash_mismatch' })
    expect(files.has(hash)).toBe(false)
  })

  it('neither fetches nor writes moments of a checkpoint that has none', async () => {
    const { model, vectors } = recordingModel()
    await load(model)
    expect(requested).toHaveLength(3)
    expect([...vectors.keys()]).toEqual(['parameters'])
  })
})

describe('a cache', () => {
  it('spares a second start every request, with the progress of the first', async () => {
    const { open } = memoryFolder()
    await load(recordingModel().model, { cache: open() })
    expect(requested).toHaveLength(3)
    const { model, parameters } = recordingModel()
    const shares: number[] = []
    await load(model, { cache: open(), progress: (share) => shares.push(share) })
    expect(requested).toHaveLength(3)
    expect(parameters()).toEqual(weights)
    expect(shares.map((share) => Math.round(3 * share))).toEqual([1, 2, 3])
  })

  it('lets an interrupted download go on where it was, also one without a model yet', async () => {
    const { open, files } = memoryFolder()
    const [, , last] = chunks
    held.add(last!.hash)
    const abort = new AbortController()
    const loading = load(new Promise<StageModel>(() => {}), { cache: open(), signal: abort.signal })
    const ended = expect(loading).rejects.toThrow('reloaded')
    await until(() => files.size === 2 && requested.length === 3)
    abort.abort(new Error('reloaded'))
    await ended
    held.clear()
    requested = []
    const { model, parameters } = recordingModel()
    await load(model, { cache: open() })
    expect(requested).toEqual([`GET ${last!.hash}`])
    expect(parameters()).toEqual(weights)
  })

  it('that holds a damaged chunk has it downloaded again', async () => {
    const { open, overwrite } = memoryFolder()
    await load(recordingModel().model, { cache: open() })
    const { hash } = chunks[1]!
    await overwrite(hash, new Uint8Array(16))
    requested = []
    const { model, parameters } = recordingModel()
    await load(model, { cache: open() })
    expect(requested).toEqual([`GET ${hash}`])
    expect(parameters()).toEqual(weights)
  })

  it('that stops answering keeps nobody from the weights', async () => {
    const memory = memoryFolder()
    memory.hanging.add('write')
    const { model, parameters } = recordingModel()
    await load(model, { cache: memory.open({ deadlineMs: 20 }) })
    expect(parameters()).toEqual(weights)
  })
})

const kinds = ['parameters', 'firstMoment', 'secondMoment'] as const

describe('saving', () => {
  const signal = new AbortController().signal
  const shard = { offset: 8, length: CHUNK_ELEMENTS + 3 }

  it('uploads a shard of all three vectors in chunks, which this device loads without a request', async () => {
    const { model } = recordingModel(shard.offset + shard.length)
    for (const [i, kind] of kinds.entries()) model.write(kind, 0, new Float32Array(shard.offset + shard.length).fill(i))
    model.write('parameters', shard.offset + CHUNK_ELEMENTS, new Float32Array([0.25, 0.5, 0.75]))
    const cache = memoryFolder().open()
    const saved = await saveShard(apiUrl(), 'token', shard, await readShard(model, shard, kinds), signal, cache)
    expect(saved.map(({ kind, offset, length }) => [kind, offset, length])).toEqual(
      kinds.flatMap((kind) => [
        [kind, 8, CHUNK_ELEMENTS],
        [kind, 8 + CHUNK_ELEMENTS, 3],
      ]),
    )
    expect(requested).toEqual(saved.map(({ hash }) => `PUT ${hash}`))
    expect(new Set(authorizations)).toEqual(new Set(['Bearer token']))
    requested = []

    // From the cache here, from the server elsewhere: the same values.
    for (const from of [cache, NO_CHUNKS]) {
      const restored = recordingModel(shard.offset + shard.length)
      await load(restored.model, { chunks: saved, cache: from })
      expect(await readShard(restored.model, shard, kinds)).toEqual(await readShard(model, shard, kinds))
      expect(requested).toHaveLength(from === cache ? 0 : saved.length)
    }
  })

  it('reads what it saves before it uploads: the model may go on meanwhile', async () => {
    const { model } = recordingModel()
    model.write('parameters', 0, new Float32Array(weights))
    const parts = await readShard(model, { offset: 0, length: 12 }, kinds)
    model.write('parameters', 0, new Float32Array(12))
    const [first] = await saveShard(apiUrl(), 'token', { offset: 0, length: 12 }, parts, signal, NO_CHUNKS)
    expect(first!.hash).toBe(await sha256(new Uint8Array(new Float32Array(weights).buffer)))
  })

  it('has nothing of an empty shard', async () => {
    expect(await readShard(recordingModel().model, { offset: 12, length: 0 }, kinds)).toEqual([])
  })
})
