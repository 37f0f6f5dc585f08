/** Owns the proof that the console says of a checkpoint that was asked for what is true, and no sooner. */
import { expect, test } from 'vitest'
import type { RunSummary } from '../../../src/protocol/api.ts'
import { toErrorBody } from '../../../src/protocol/errors.ts'
import { ApiError } from '../../../src/ui/api/client.ts'
import { SaveRequest } from '../../../src/ui/state/saveRequest.svelte.ts'
import { detailOf } from './fixtures.ts'

const checkpoint = (step: number) => ({ step, bytes: 1, createdAt: 0 })
const answering = (step: number) => {
  const asked: string[] = []
  const ask = (id: string): Promise<RunSummary> => {
    asked.push(id)
    return Promise.resolve(detailOf({ step }))
  }
  return { asked, save: new SaveRequest({ checkpoint: ask }, toErrorBody) }
}

test('a checkpoint is saved once one of a later step is listed', async () => {
  const { asked, save } = answering(12)
  expect(save.words).toBe('')
  await save.ask('r1')
  save.observe(detailOf({ checkpoints: [checkpoint(0), checkpoint(12)] }))
  expect(save.pending).toBe(true)
  expect(save.words).toContain('asked for')
  await save.ask('r1')
  expect(asked).toEqual(['r1'])
  save.observe(detailOf({ checkpoints: [checkpoint(12), checkpoint(13)] }))
  expect([save.pending, save.words]).toEqual([false, 'The checkpoint of step 13 is saved.'])
})

test('the wish is lost with the generation, and can be made again', async () => {
  const { asked, save } = answering(12)
  await save.ask('r1')
  save.observe(detailOf({ state: 'preparing', checkpoints: [checkpoint(10)] }))
  expect(save.words).toContain('interrupted')
  await save.ask('r1')
  expect(asked).toHaveLength(2)
  save.observe(detailOf({ state: 'evaluating', checkpoints: [checkpoint(10)] }))
  expect(save.pending).toBe(true)
})

test('a refusal is shown, and nothing is pending', async () => {
  const refused = new ApiError(401, { code: 'access.token_wanted', message: 'A token is needed.', remedy: 'Enter it.' })
  const save = new SaveRequest({ checkpoint: () => Promise.reject(refused) }, toErrorBody)
  await save.ask('r1')
  expect(save.error?.message).toBe('A token is needed.')
  expect([save.pending, save.words]).toEqual([false, ''])
})
