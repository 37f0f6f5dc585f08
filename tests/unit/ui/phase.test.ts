/** Owns the proof that each phase of the volunteer is said truly, and that the one button does what it says. */
import { describe, expect, test } from 'vitest'
import type { VolunteerPhase, VolunteerSnapshot } from '../../../src/volunteer/snapshot.ts'
import { adapterName, announcement, phaseWords, primaryAction } from '../../../src/ui/words/phase.ts'
import { snapshotOf } from './fixtures.ts'

const at = (phase: VolunteerPhase, more: Partial<VolunteerSnapshot> = {}) => snapshotOf({ phase, ...more })
const assigned = { run: { id: 'r1', name: 'little stories' }, stage: 1, stages: 4 }
const plain = (text: string) => text.replaceAll('\u00a0', ' ')

describe('headline', () => {
  test('training names the stage, from one, and the run', () => {
    const words = phaseWords(at({ name: 'training' }, assigned))
    expect(words.headline).toBe('Training stage 2 of 4 of “little stories”')
    expect(words.mood).toBe('working')
  })

  test('loading says how much, and moves a bar', () => {
    const words = phaseWords(at({ name: 'loading', progress: 0.434 }, assigned))
    expect(plain(words.headline)).toBe('Downloading weights 43 %')
    expect(words.progress).toBe(0.434)
    expect(phaseWords(at({ name: 'loading', progress: null }, assigned)).headline).toBe('Downloading weights')
  })

  test('waiting gives the server’s reason', () => {
    expect(phaseWords(at({ name: 'waiting', reason: 'No run needs you.' })).detail).toBe('No run needs you.')
  })

  test('a member without work stands by for its stage, and does not wait for a run', () => {
    const snapshot = at({ name: 'waiting', reason: 'Waiting for work.' }, assigned)
    const words = phaseWords(snapshot)
    expect(words.headline).toBe('Standing by for stage 2 of 4 of “little stories”')
    expect(words.detail).toBe('Your device holds the weights of stage 2 and steps in when another falls out.')
    expect(words.mood).toBe('standby')
    expect(announcement(snapshot)).toBe(words.headline)
    expect(primaryAction(snapshot)).toBe('pause')
  })

  test('a member that lost the server goes on; one without a stage has nothing to go on with', () => {
    const lost = phaseWords(at({ name: 'reconnecting' }, assigned))
    expect(lost.headline).toBe('Connection to the server lost')
    expect(lost.detail).toContain('goes on with stage 2 of 4 of “little stories”; the session resumes by itself')
    expect(phaseWords(at({ name: 'reconnecting' })).detail).not.toContain('goes on')
  })

  test('another tab and a lost GPU are said', () => {
    expect(phaseWords(at({ name: 'otherTab' })).headline).toBe('Another tab of this browser is contributing')
    const error = { code: 'gpu.lost', message: 'The driver was reset.', remedy: 'Nothing to do.' }
    const lost = phaseWords(at({ name: 'lostDevice', error, retryInMs: 1000 }))
    expect(lost.headline).toBe('GPU lost, restarting')
    expect(lost.detail).toContain('The driver was reset.')
  })
})

describe('the button', () => {
  test.each([
    [{ name: 'idle' }, 'start'],
    [{ name: 'stopped' }, 'start'],
    [{ name: 'paused' }, 'resume'],
    [{ name: 'training' }, 'pause'],
    [{ name: 'waiting', reason: '' }, 'pause'],
    [{ name: 'otherTab' }, 'stop'],
    [{ name: 'blocked', error: { code: 'x', message: 'm', remedy: 'r' } }, 'retry'],
  ] satisfies [VolunteerPhase, string][])('in %o it offers to %s', (phase, action) =>
    expect(primaryAction(at(phase))).toBe(action),
  )
})

describe('announcements', () => {
  test('a percentage alone is not announced', () => {
    const spoken = (progress: number) => announcement(at({ name: 'loading', progress }, assigned))
    expect(spoken(0.1)).toBe(spoken(0.9))
  })

  test('training and merging sound the same; a block tells the remedy', () => {
    expect(announcement(at({ name: 'merging' }, assigned))).toBe(announcement(at({ name: 'training' }, assigned)))
    const error = { code: 'x', message: 'No WebGPU.', remedy: 'Use a newer browser.' }
    expect(announcement(at({ name: 'blocked', error }))).toContain('Use a newer browser.')
  })
})

test('an adapter is named by the best that it tells', () => {
  expect(adapterName({ vendor: 'nvidia', architecture: 'ampere', description: '' })).toBe('nvidia ampere')
  expect(adapterName({ vendor: '', architecture: '', description: '' })).toBe('Unnamed adapter')
})
