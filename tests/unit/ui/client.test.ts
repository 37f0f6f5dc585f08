/** Owns the proof that the pages' calls check answers, carry the token, and turn every failure into words. */
import { describe, expect, test } from 'vitest'
import type { ApiError } from '../../../src/ui/api/client.ts'
import { ApiClient } from '../../../src/ui/api/client.ts'
import { readRoute } from '../../../src/ui/state/route.ts'
import { detailOf } from './fixtures.ts'

function client(answer: () => Response | Promise<Response>, token = '') {
  const requests: { url: string; init: RequestInit }[] = []
  const api = new ApiClient({
    token: () => token,
    fetch: async (url, init) => {
      requests.push({ url: url as string, init: init! })
      return answer()
    },
  })
  return { api, requests }
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.unreachable('it should have failed'),
    (caught) => caught as ApiError,
  )

describe('calls', () => {
  test('send the token and a whole body', async () => {
    const { api, requests } = client(() => Response.json(detailOf(), { status: 201 }), 'secret')
    await api.launch({ name: 'x', datasetId: 'd1', config: {} })
    expect(requests[0]!.url).toBe('/api/v1/runs')
    expect(requests[0]!.init.headers).toMatchObject({ authorization: 'Bearer secret' })
    expect(JSON.parse(requests[0]!.init.body as string)).toEqual({ name: 'x', datasetId: 'd1', config: {} })
  })

  test('ask for a checkpoint of one run, with the token', async () => {
    const { api, requests } = client(() => Response.json(detailOf({ step: 7 })), 'secret')
    expect((await api.checkpoint('a/b')).step).toBe(7)
    expect(requests[0]!.url).toBe('/api/v1/runs/a%2Fb/checkpoint')
    expect(requests[0]!.init).toMatchObject({ method: 'POST', headers: { authorization: 'Bearer secret' } })
  })

  test('keep the server’s error as it is', async () => {
    const body = { code: 'access.token_required', message: 'This needs the admin token.', remedy: 'Send it.' }
    const error = await failure(client(() => Response.json(body, { status: 401 })).api.runs())
    expect(error.toJSON()).toEqual(body)
    expect(error.needsToken).toBe(true)
  })

  test('do not ask for a token that the server has not', async () => {
    const body = { code: 'access.loopback_only', message: 'No token is set.', remedy: 'Set one.' }
    const error = await failure(client(() => Response.json(body, { status: 403 })).api.runs())
    expect(error.needsToken).toBe(false)
  })

  test.each([
    ['a proxy’s page', () => new Response('<html>', { status: 502 }), 'api.failed'],
    ['another shape', () => Response.json([{ id: 1 }]), 'api.unexpected_answer'],
    ['no answer', () => Promise.reject(new TypeError('failed to fetch')), 'api.unreachable'],
  ])('explain %s', async (_, answer, code) => {
    const error = await failure(client(answer).api.runs())
    expect(error.code).toBe(code)
    expect(error.remedy).not.toBe('')
  })
})

test('addresses name pages, and anything else names none', () => {
  expect(readRoute('/')).toEqual({ page: 'contribute' })
  expect(readRoute('/earnings')).toEqual({ page: 'earnings' })
  expect(readRoute('/console/')).toEqual({ page: 'console' })
  expect(readRoute('/console/ledger')).toEqual({ page: 'ledger' })
  expect(readRoute('/console/runs/a-B_9')).toEqual({ page: 'run', runId: 'a-B_9' })
  for (const path of ['/earnings/x', '/console/runs', '/console/runs/a%2Fb', '/consoles'])
    expect(readRoute(path)).toEqual({ page: 'notFound', path })
})
