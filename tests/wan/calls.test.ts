/** Proves that no call of an end waits for ever: not for a late answer, nor for an end that is gone. */
import { expect, it } from 'vitest'
import { Calls } from './box/calls.ts'

const never = () => {}

it('answers a call, names one that failed and one that had no answer in time', async () => {
  const calls = new Calls('The end on a')
  const answered = calls.call('way', 1_000, (id) => calls.answer(id, 'direct'))
  const failed = calls.call('bulk', 1_000, (id) => calls.fail(id, 'no link'))
  await expect(answered).resolves.toBe('direct')
  await expect(failed).rejects.toThrow('The end on a: bulk failed: no link')
  await expect(calls.call('sendOther', 20, never)).rejects.toThrow('The end on a: sendOther had no answer in 20 ms.')
})

it('ends the calls that wait, and those that come, with what was to answer them', async () => {
  const calls = new Calls('The end on a')
  const waiting = [calls.call('others', 60_000, never), calls.call('way', 60_000, never)]
  calls.end('it has ended with SIGSEGV')
  await expect(waiting[0]).rejects.toThrow('The end on a: others was not answered, it has ended with SIGSEGV.')
  await expect(waiting[1]).rejects.toThrow('way was not answered')
  await expect(calls.call('lost', 60_000, never)).rejects.toThrow('lost cannot be answered, it has ended with SIGSEGV.')
})
