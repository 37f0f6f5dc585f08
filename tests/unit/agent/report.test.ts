/** Proves what the agent's log says, and that it says nothing twice. */
import { beforeEach, expect, it } from 'vitest'
import { formatLine, Report } from '../../../src/agent/report.ts'
import { INITIAL_STATE } from '../../../src/volunteer/fold.ts'
import type { VolunteerSnapshot } from '../../../src/volunteer/snapshot.ts'

const { snapshot: idle } = INITIAL_STATE
const at = { run: { id: 'r1', name: 'Stories' }, stage: 1, stages: 4, link: 'direct' } as const
const error = { code: 'net.no_route', message: 'No way.', remedy: 'Open a port.' }
let report = new Report('https://skein.example')
beforeEach(() => (report = new Report('https://skein.example')))

const messages = (change: Partial<VolunteerSnapshot>, now = 0) =>
  report.changes({ ...idle, ...change }, now).map((line) => line.message)

it('says each phase once, and a step’s parts as one', () => {
  expect(messages({})).toEqual([])
  expect(messages({ phase: { name: 'checking' } })).toEqual(['looking for a GPU and for https://skein.example'])
  expect(messages({ phase: { name: 'waiting', reason: 'No run.' } })).toEqual(['waiting: No run.'])
  expect(messages({ phase: { name: 'waiting', reason: 'No run.' } })).toEqual([])
  expect(messages({ ...at, phase: { name: 'loading', progress: 0.1 } })).toHaveLength(1)
  expect(messages({ ...at, phase: { name: 'loading', progress: 0.2 } })).toEqual([])
  expect(messages({ ...at, phase: { name: 'training' } })).toEqual(['training stage 2 of 4 of “Stories”'])
  for (const name of ['merging', 'checkpointing', 'training'] as const)
    expect(messages({ ...at, phase: { name } })).toEqual([])
  expect(messages({ ...at, phase: { name: 'waiting', reason: 'No lease.' } })).toEqual([
    'stands by for stage 2 of 4 of “Stories”',
  ])
  expect(messages({ phase: { name: 'reconnecting' } })).toEqual([
    'https://skein.example does not answer; dialling until it does',
  ])
  expect(messages({ phase: { name: 'lostDevice', error, retryInMs: 2000 } })).toEqual([
    'No way. Starting again in 2 s.',
  ])
})

it('names the GPU, and says of a software one that it is slow', () => {
  const adapter = {
    vendor: 'nvidia',
    architecture: 'hopper',
    description: '',
    software: false,
    maxBufferSize: 1,
    maxStorageBufferBindingSize: 1,
  }
  expect(messages({ adapter })).toEqual(['GPU: nvidia hopper'])
  expect(messages({ adapter })).toEqual([])
  expect(messages({ adapter: { ...adapter, description: 'llvmpipe', software: true } })).toEqual([
    'GPU: llvmpipe (software, slow)',
  ])
})

it('says what went wrong with its remedy once, and again when it happens anew', () => {
  const phase = { name: 'training' } as const
  messages({ ...at, phase })
  expect(messages({ ...at, phase, error })).toEqual(['No way. Open a port.'])
  expect(messages({ ...at, phase, error })).toEqual([])
  messages({ ...at, phase })
  expect(messages({ ...at, phase, error })).toEqual(['No way. Open a port.'])
})

it('tells the progress of training, by the tokens since it told it last', () => {
  const training = { ...idle, ...at, phase: { name: 'training' } as const, step: 3, upBytes: 2_500_000, downBytes: 800 }
  expect(report.progress(training, 0)).toBeNull()
  report.changes({ ...training, tokens: 100 }, 1000)
  expect(report.progress({ ...training, tokens: 1100 }, 11_000)).toMatchObject({
    message: 'step 3: 100 tokens/s, 2.5 MB up, 0.8 kB down, direct',
    tokensPerSecond: 100,
    step: 3,
  })
  report.changes({ ...training, tokens: 2000, phase: { name: 'merging' } }, 12_000)
  expect(report.progress({ ...training, tokens: 4100 }, 21_000)!.tokensPerSecond).toBe(300)
  report.changes({ ...idle, phase: { name: 'waiting', reason: '' } }, 22_000)
  expect(report.progress(idle, 30_000)).toBeNull()
})

it('writes a line for people, without what would steer their terminal, or as JSON', () => {
  const when = new Date('2026-11-21T10:20:30.456Z')
  const line = { event: 'phase', message: 'of “\u001b[2J”', stage: 1 } as const
  expect(formatLine(line, when, false)).toBe('2026-11-21T10:20:30Z  of “\ufffd[2J”')
  expect(JSON.parse(formatLine(line, when, true))).toEqual({ time: '2026-11-21T10:20:30Z', ...line })
})
