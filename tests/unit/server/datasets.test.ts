/** Owns the proof of uploads, of what they refuse, of token ranges and of blobs over HTTP. */
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readRange } from '../../../server/datasets/range.ts'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { local, openFixture } from './appFixture.ts'
import type { Fixture } from './appFixture.ts'

let fixture: Fixture
beforeEach(async () => {
  fixture = await openFixture({ maxDatasetBytes: 3_000_000 })
})
afterEach(() => fixture.close())

const text = { ...local, 'content-type': 'text/plain; charset=utf-8' }
const upload = (payload: string | Buffer, name = 'Stories', headers: Record<string, string> = text, more = '') =>
  fixture.app.inject({
    method: 'POST',
    url: `/api/v1/datasets?name=${encodeURIComponent(name)}${more}`,
    headers,
    payload,
  })

describe('uploading', () => {
  it('turns text into byte tokens, nine tenths to train on', async () => {
    const corpus = `${generateCorpus(1, 2_500_000)}Zoë`
    const response = await upload(corpus)
    expect(response.statusCode).toBe(201)
    const bytes = Buffer.byteLength(corpus)
    expect(response.json()).toMatchObject({
      name: 'Stories',
      bytes,
      tokens: bytes,
      trainTokens: Math.floor(0.9 * bytes),
    })
    expect(response.json()).not.toHaveProperty('tokensHash')
    const { id } = response.json()
    expect((await fixture.app.inject('/api/v1/datasets')).json()).toEqual([response.json()])
    expect((await fixture.app.inject(`/api/v1/datasets/${id}`)).json()).toEqual(response.json())
    const tokens = (await fixture.app.inject(`/api/v1/datasets/${id}/tokens`)).rawPayload
    expect(tokens.byteLength).toBe(2 * bytes)
    const ids = new Uint16Array(new Uint8Array(tokens).buffer)
    expect(Buffer.compare(Buffer.from(ids), Buffer.from(corpus))).toBe(0)
  })

  it('turns text into characters, nine tenths to train on, and keeps the vocabulary to itself', async () => {
    const corpus = `${'Zoë 🌲 naïve. '.repeat(300)}`
    const response = await upload(corpus, 'Trees', text, '&tokenizer=character')
    expect(response.statusCode).toBe(201)
    const characters = [...corpus]
    const vocabulary = [...new Set(characters)].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!)
    expect(response.json()).toMatchObject({
      bytes: Buffer.byteLength(corpus),
      tokens: characters.length,
      trainTokens: Math.floor(0.9 * characters.length),
      tokenizer: 'character',
      vocabSize: vocabulary.length,
    })
    expect(response.json()).not.toHaveProperty('vocabulary')
    const { id } = response.json()
    expect((await fixture.app.inject('/api/v1/datasets')).json()).toEqual([response.json()])
    const tokens = (await fixture.app.inject(`/api/v1/datasets/${id}/tokens`)).rawPayload
    const ids = [...new Uint16Array(new Uint8Array(tokens).buffer)]
    expect(ids.map((token) => vocabulary[token]).join('')).toBe(corpus)
    expect((await fixture.store.dataset(id))!.vocabulary).toBe(vocabulary.join(''))
  })

  it('counts characters, not bytes, and refuses what has too many kinds of them', async () => {
    const short = await upload('é'.repeat(2000), 'n', text, '&tokenizer=character')
    expect(short.json()).toMatchObject({ code: 'dataset.too_short', remedy: expect.stringContaining('character') })
    const many = Array.from({ length: 4097 }, (_, i) => String.fromCodePoint(0x4e00 + i)).join('')
    const refused = await upload(many, 'n', text, '&tokenizer=character')
    expect([refused.json().code, refused.statusCode]).toEqual(['tokenizer.too_many_characters', 422])
    expect((await upload(many.slice(0, 4096), 'n', text, '&tokenizer=character')).json().vocabSize).toBe(4096)
    expect((await upload(many, 'n', text, '&tokenizer=word')).json().code).toBe('request.invalid')
  })

  it.each([
    ['dataset.empty', 422, ''],
    ['dataset.empty', 422, ' \n\t '.repeat(1000)],
    ['dataset.too_short', 422, 'Once upon a time. '],
    ['dataset.binary', 422, Buffer.concat([Buffer.from('text '.repeat(1000)), Buffer.of(0)])],
    ['dataset.binary', 422, Buffer.concat([Buffer.from('text '.repeat(1000)), Buffer.of(0xc3, 0x28)])],
    ['dataset.binary', 422, Buffer.from(`\ufeff${'text '.repeat(1000)}`, 'utf16le')],
    ['dataset.too_large', 413, 'x'.repeat(3_000_001)],
  ])('refuses with %s and leaves nothing', async (code, status, payload) => {
    const response = await upload(payload)
    expect([response.json().code, response.statusCode]).toEqual([code, status])
    expect(response.json().remedy).not.toBe('')
    expect((await fixture.app.inject('/api/v1/datasets')).json()).toEqual([])
  })

  it('wants a name, text, and the right to do it', async () => {
    expect((await upload('x'.repeat(5000), ' ')).json().message).toContain('name')
    const json = { ...local, 'content-type': 'application/json' }
    expect((await upload('{"a":1}', 'n', json)).json().code).toBe('request.media_type')
    expect((await upload('x'.repeat(5000), 'n', { ...text, host: 'evil.example' })).statusCode).toBe(403)
  })
})

describe('token ranges', () => {
  it('answer 206 with the bytes asked for', async () => {
    const { id, tokens } = (await upload(generateCorpus(2, 5000))).json()
    const url = `/api/v1/datasets/${id}/tokens`
    const whole = await fixture.app.inject(url)
    const { etag } = whole.headers
    expect(whole.headers).toMatchObject({ 'accept-ranges': 'bytes', 'content-length': `${2 * tokens}` })
    expect(whole.headers['cache-control']).toContain('immutable')
    const part = await fixture.app.inject({ url, headers: { range: 'bytes=100-227' } })
    expect([part.statusCode, part.headers['content-range']]).toEqual([206, 'bytes 100-227/10000'])
    expect(Buffer.compare(part.rawPayload, whole.rawPayload.subarray(100, 228))).toBe(0)
    const outside = await fixture.app.inject({ url, headers: { range: 'bytes=10000-' } })
    expect([outside.statusCode, outside.headers['content-range']]).toEqual([416, 'bytes */10000'])
    expect(outside.json().code).toBe('dataset.range')
    const changed = await fixture.app.inject({ url, headers: { range: 'bytes=0-1', 'if-range': '"other"' } })
    expect(changed.statusCode).toBe(200)
    const cached = await fixture.app.inject({ url, headers: { 'if-none-match': String(etag) } })
    expect([cached.statusCode, cached.body]).toEqual([304, ''])
    expect((await fixture.app.inject('/api/v1/datasets/nope/tokens')).json().code).toBe('dataset.unknown')
  })

  it('are read as RFC 9110 says', () => {
    expect(readRange('bytes=0-0', 10)).toEqual({ kind: 'part', offset: 0, length: 1 })
    expect(readRange('bytes=5-', 10)).toEqual({ kind: 'part', offset: 5, length: 5 })
    expect(readRange('bytes=5-99', 10)).toEqual({ kind: 'part', offset: 5, length: 5 })
    expect(readRange('bytes=-3', 10)).toEqual({ kind: 'part', offset: 7, length: 3 })
    expect(readRange('bytes=-30', 10)).toEqual({ kind: 'part', offset: 0, length: 10 })
    expect(readRange('bytes=-0', 10)).toEqual({ kind: 'unsatisfiable' })
    expect(readRange('bytes=10-', 10)).toEqual({ kind: 'unsatisfiable' })
    for (const ignored of [undefined, 'bytes=', 'bytes=-', 'bytes=5-4', 'bytes=0-1,3-4', 'items=0-1', 'bytes=a-b']) {
      expect(readRange(ignored, 10)).toEqual({ kind: 'whole' })
    }
  })
})

describe('blobs', () => {
  const bytes = Buffer.from(Float32Array.from([1, 2, 3]).buffer)
  const hash = createHash('sha256').update(bytes).digest('hex')
  const put = (key: string, payload: Buffer, headers: Record<string, string> = {}) =>
    fixture.app.inject({
      method: 'PUT',
      url: `/api/v1/blobs/${key}`,
      headers: { 'content-type': 'application/octet-stream', authorization: 'Bearer node-token', ...headers },
      payload,
      remoteAddress: '192.0.2.7',
    })

  it('are stored by nodes and read by anyone', async () => {
    expect((await put(hash, bytes)).statusCode).toBe(201)
    const response = await fixture.app.inject(`/api/v1/blobs/${hash}`)
    expect(Buffer.compare(response.rawPayload, bytes)).toBe(0)
    expect(response.headers).toMatchObject({ etag: `"${hash}"`, 'content-type': 'application/octet-stream' })
    expect(response.headers['cache-control']).toContain('immutable')
  })

  it('are refused when the hash, the token or the size is wrong', async () => {
    const other = 'a'.repeat(64)
    expect((await put(other, bytes)).json().code).toBe('blob.hash_mismatch')
    expect((await put(hash, bytes, { authorization: 'Bearer forged' })).json().code).toBe('access.node_token')
    expect((await put(hash, bytes, { authorization: '' })).statusCode).toBe(403)
    const large = await put(hash, Buffer.alloc(16 * 1024 * 1024 + 1))
    expect([large.statusCode, large.json().code]).toEqual([413, 'blob.too_large'])
    expect((await put('nothex', bytes)).json().code).toBe('request.invalid')
    expect(await fixture.blobs.has(hash)).toBe(false)
    expect((await fixture.app.inject(`/api/v1/blobs/${other}`)).json().code).toBe('blob.missing')
  })
})
