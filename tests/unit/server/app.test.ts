/** Owns the proof of the page, the headers, the errors, who may change anything, and the routes of runs. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ServerConfig } from '../../../server/config.ts'
import { errorSchema } from '../../../src/protocol/errors.ts'
import { local, openFixture } from './appFixture.ts'
import type { Fixture } from './appFixture.ts'
import { checkpoint, dataset, run } from './store.compliance.ts'

let fixture: Fixture
beforeEach(async () => {
  fixture = await openFixture()
})
afterEach(() => fixture.close())

const reopen = async (change: Partial<ServerConfig>) => {
  await fixture.close()
  fixture = await openFixture(change)
}
const launch = { name: 'First run', datasetId: 'd1', config: {} }
const post = (headers: Record<string, string> = local, payload: object = launch, remoteAddress = '127.0.0.1') =>
  fixture.app.inject({ method: 'POST', url: '/api/v1/runs', headers, payload, remoteAddress })

describe('the page', () => {
  it('stands behind its own paths, uncached, and no others', async () => {
    for (const url of ['/', '/?x=1', '/console', '/console/runs/r1', '/earnings']) {
      const response = await fixture.app.inject(url)
      expect([url, response.statusCode, response.headers['cache-control']]).toEqual([url, 200, 'no-cache'])
      expect(response.body).toContain('<title>Skein</title>')
    }
    for (const url of ['/consoles', '/api/v1/nothing', '/assets/gone.js', '/../secret', '/index.php']) {
      const response = await fixture.app.inject(url)
      expect([url, response.statusCode]).toEqual([url, 404])
      expect(errorSchema.parse(response.json()).code).toBe('request.not_found')
    }
    expect((await fixture.app.inject({ method: 'POST', url: '/console' })).statusCode).toBe(404)
  })

  it('caches hashed assets for ever and other files not at all', async () => {
    const asset = await fixture.app.inject('/assets/index-abc123.js')
    expect(asset.headers['cache-control']).toContain('immutable')
    expect(asset.headers['content-type']).toContain('javascript')
    expect((await fixture.app.inject('/robots.txt')).headers['cache-control']).toBe('no-cache')
  })

  it('allows its own scripts, workers and sockets, and no inline script', async () => {
    const policy = String((await fixture.app.inject('/')).headers['content-security-policy'])
    expect(policy).toMatch(/script-src 'self'(;|$)/)
    expect(policy).toContain("worker-src 'self' blob:")
    expect(policy).toContain("connect-src 'self' ws: wss:")
    expect(policy).not.toContain('upgrade-insecure-requests')
  })

  it('says how to build it when it is not there', async () => {
    await reopen({ staticFolder: '/nowhere/dist' })
    const response = await fixture.app.inject('/')
    expect(response.statusCode).toBe(404)
    expect(response.json()).toMatchObject({ code: 'page.not_built' })
  })
})

describe('who may change anything', () => {
  it('without a token: this machine only, called by its own name, from its own page', async () => {
    await fixture.store.insertDataset(dataset())
    expect((await post()).statusCode).toBe(201)
    expect((await post({ host: 'localhost:8080', origin: 'http://localhost:8080' })).statusCode).toBe(201)
    expect((await post({ host: '[::1]:8080' }, launch, '::1')).statusCode).toBe(201)
    for (const refused of [
      await post(local, launch, '192.0.2.7'),
      await post({ host: 'rebound.example:8080' }),
      await post({ ...local, origin: 'https://evil.example' }),
      await post({ ...local, origin: 'http://127.0.0.1:9999' }),
      await post({ ...local, origin: 'null' }),
      await post({ ...local, 'x-forwarded-for': '192.0.2.7' }),
    ]) {
      expect(refused.statusCode).toBe(403)
      expect(refused.json()).toMatchObject({ code: 'access.loopback_only', remedy: expect.stringContaining('TOKEN') })
    }
    expect(fixture.runs.launched).toHaveLength(3)
  })

  it('without a token and listening to the world: nobody', async () => {
    await reopen({ host: '0.0.0.0' })
    expect((await post()).json()).toMatchObject({ code: 'access.loopback_only' })
  })

  it('with a token: whoever has it, from anywhere', async () => {
    await reopen({ adminToken: 'the-right-admin-token', host: '0.0.0.0' })
    await fixture.store.insertDataset(dataset())
    expect((await post()).statusCode).toBe(401)
    expect((await post()).json().code).toBe('access.token_required')
    expect((await post({ authorization: 'Bearer the-wrong-admin-token' })).json().code).toBe('access.token_wrong')
    const right = { authorization: 'Bearer the-right-admin-token' }
    expect((await post(right, launch, '192.0.2.7')).statusCode).toBe(201)
    const cancel = { method: 'POST', url: '/api/v1/runs/r1/cancel' } as const
    expect((await fixture.app.inject(cancel)).statusCode).toBe(401)
    expect((await fixture.app.inject({ ...cancel, headers: right })).json().state).toBe('cancelled')
    const save = { method: 'POST', url: '/api/v1/runs/r1/checkpoint' } as const
    expect((await fixture.app.inject(save)).statusCode).toBe(401)
    expect(fixture.runs.saved).toEqual([])
    expect((await fixture.app.inject({ ...save, headers: right })).json()).toMatchObject({ id: 'r1', recovered: 0 })
    expect(fixture.runs.saved).toEqual(['r1'])
  })
})

describe('a budget', () => {
  const raise = (id: string, payload: object, headers: Record<string, string> = local) =>
    fixture.app.inject({ method: 'POST', url: `/api/v1/runs/${id}/budget`, headers, payload })

  it('is raised by who may launch runs, in whole planck of any length', async () => {
    const budget = '1' + '0'.repeat(38)
    expect((await raise('r1', { budget })).json().payment).toEqual({ planckPerPflop: '1', budget, spent: '0' })
    for (const wrong of ['-1', '1.5', '', '1' + '0'.repeat(39), 7])
      expect((await raise('r1', { budget: wrong })).statusCode).toBe(400)
    expect((await raise('r1', { budget, planckPerPflop: '2' })).statusCode).toBe(400)
    expect((await raise('r1', { budget }, { host: 'rebound.example:8080' })).statusCode).toBe(403)
    expect((await raise('free', { budget })).statusCode).toBe(409)
    expect(fixture.runs.budgets).toEqual([budget])
  })
})

describe('a quote', () => {
  const ask = (payload: object) => fixture.app.inject({ method: 'POST', url: '/api/v1/quote', payload })

  it('is given to anybody, and checked like a launch', async () => {
    expect((await ask({ datasetId: 'd1', config: {} })).json().code).toBe('dataset.unknown')
    await fixture.store.insertDataset(dataset())
    const free = (await ask({ datasetId: 'd1', config: {} })).json()
    expect(free).toMatchObject({ cost: null, time: { known: false }, clouds: [] })
    const paid = (await ask({ datasetId: 'd1', config: {}, planckPerPflop: '9'.repeat(39) })).json()
    expect(BigInt(paid.cost) > BigInt(free.credit)).toBe(true)
    expect((await ask({ datasetId: 'd1', config: { steps: 0 } })).statusCode).toBe(400)
    expect((await ask({ datasetId: 'd1', config: {}, planckPerPflop: '0' })).statusCode).toBe(400)
  })
})

describe('errors', () => {
  it('name the field that is wrong', async () => {
    const response = await post(local, { ...launch, config: { model: { heads: 0 }, steps: 'many' } })
    expect(response.statusCode).toBe(400)
    expect(response.json().code).toBe('request.invalid')
    expect(response.json().message).toContain('config.model.heads')
    expect(response.json().message).toContain('config.steps')
  })

  it('carry what the core refused, with a status', async () => {
    expect((await post()).statusCode).toBe(404)
    await fixture.store.insertDataset(dataset())
    const refused = await post(local, { ...launch, config: { model: { dModel: 130 } } })
    expect(refused.statusCode).toBe(422)
    expect(refused.json()).toEqual({
      code: 'run.heads_do_not_divide',
      message: 'Heads do not divide.',
      remedy: 'Choose others.',
    })
    const ended = await fixture.app.inject({ method: 'POST', url: '/api/v1/runs/ended/cancel', headers: local })
    expect(ended.statusCode).toBe(409)
  })

  it('never tell internals', async () => {
    await fixture.store.insertDataset(dataset())
    const response = await post(local, { ...launch, name: 'crash' })
    expect(response.statusCode).toBe(500)
    expect(response.body).not.toContain('secret')
    expect(errorSchema.parse(response.json()).code).toBe('internal')
  })

  it('have one shape for broken JSON, wrong media types, large bodies and too many requests', async () => {
    const send = (headers: Record<string, string>, payload: string) =>
      fixture.app.inject({ method: 'POST', url: '/api/v1/runs', headers: { ...local, ...headers }, payload })
    const json = { 'content-type': 'application/json' }
    expect((await send(json, '{"name":')).json().code).toBe('request.invalid')
    expect((await send({ 'content-type': 'application/xml' }, '<a/>')).json().code).toBe('request.media_type')
    const large = await send(json, JSON.stringify({ name: 'x'.repeat(1_100_000) }))
    expect([large.statusCode, large.json().code]).toEqual([413, 'request.too_large'])
    await reopen({ ratePerMinute: 2 })
    const answers = []
    for (let i = 0; i < 3; i++) answers.push(await fixture.app.inject('/api/v1/fleet'))
    expect(answers.map((a) => a.statusCode)).toEqual([200, 200, 429])
    expect(errorSchema.parse(answers[2]!.json()).code).toBe('request.too_many')
  })
})

describe('a page that goes away', () => {
  const leave = (payload: string) =>
    fixture.app.inject({ method: 'POST', url: '/api/v1/leave', headers: { 'content-type': 'text/plain' }, payload })

  it('takes its node out by its token, and nobody else', async () => {
    expect((await leave('node-token')).statusCode).toBe(204)
    expect(fixture.runs.left).toEqual(['n1'])
    const forged = await leave('node-tokem')
    expect([forged.statusCode, forged.json().code]).toEqual([403, 'access.node_token'])
    expect((await leave('')).statusCode).toBe(400)
    expect((await leave('x'.repeat(2000))).statusCode).toBe(413)
    expect(fixture.runs.left).toEqual(['n1'])
  })
})

describe('runs', () => {
  it('are launched with the defaults filled in', async () => {
    await fixture.store.insertDataset(dataset())
    const response = await post()
    expect(response.json()).toMatchObject({ id: 'r1', name: 'First run', config: { model: { dModel: 128 } } })
    expect(fixture.runs.launched[0]!.config).toMatchObject({ steps: 150, model: { blockSize: 64 } })
  })

  it('are listed and told in detail', async () => {
    expect((await fixture.app.inject('/api/v1/runs')).json()).toHaveLength(1)
    expect((await fixture.app.inject('/api/v1/runs/r1')).json()).toMatchObject({ grid: [['n1', null]] })
    const unknown = await fixture.app.inject('/api/v1/runs/nope')
    expect([unknown.statusCode, unknown.json().code]).toEqual([404, 'run.unknown'])
    expect((await fixture.app.inject('/api/v1/nodes')).json()).toEqual([])
    expect((await fixture.app.inject('/api/v1/fleet')).json()).toMatchObject({ nodes: 3 })
  })

  it('give their metrics from the store', async () => {
    const metric = { step: 1, loss: 5, gradNorm: 1, lr: 0.1, tokens: 768, durationMs: 10, at: 1 }
    await fixture.store.insertDataset(dataset())
    await fixture.store.insertRun(run(), checkpoint())
    await fixture.store.commitStep('r1', metric)
    expect((await fixture.app.inject('/api/v1/runs/r1/metrics')).json()).toEqual([metric])
    expect((await fixture.app.inject('/api/v1/runs/nope/metrics')).statusCode).toBe(404)
  })
})

describe('descriptions', () => {
  it('OpenAPI names every route and the shape of a launch', async () => {
    const document = (await fixture.app.inject('/api/v1/openapi.json')).json()
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining([
        '/api/v1/datasets',
        '/api/v1/datasets/{id}/tokens',
        '/api/v1/runs',
        '/api/v1/runs/{id}/cancel',
        '/api/v1/runs/{id}/checkpoint',
        '/api/v1/runs/{id}/live',
        '/api/v1/runs/{id}/export/{file}',
        '/api/v1/blobs/{hash}',
        '/api/v1/fleet',
      ]),
    )
    const body = document.paths['/api/v1/runs'].post.requestBody.content['application/json'].schema
    expect(body.properties.config.properties.model.properties.dModel).toMatchObject({ default: 128 })
    expect(body.required).toEqual(['name', 'datasetId', 'config'])
  })

  it('metrics count requests by pattern and show the fleet', async () => {
    await fixture.app.inject('/api/v1/runs/r1')
    const text = (await fixture.app.inject('/metrics')).body
    expect(text).toMatch(/skein_http_request_seconds_count\{route="\/api\/v1\/runs\/:id",method="GET",status="200"\} 1/)
    expect(text).toContain('skein_nodes_working 2')
    expect((await fixture.app.inject('/healthz')).json()).toEqual({ ok: true })
  })
})
