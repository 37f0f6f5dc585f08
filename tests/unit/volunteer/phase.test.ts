/** Proves the page's phase machine: what each event makes of each phase, and what must never be said. */
import { describe, expect, it } from 'vitest'
import { nextPhase, type PhaseEvent } from '../../../src/volunteer/phase.ts'
import type { VolunteerPhase } from '../../../src/volunteer/snapshot.ts'

const error = { code: 'x.y', message: 'It broke.', remedy: 'Mend it.' }
const run = (events: PhaseEvent[], from: VolunteerPhase = { name: 'idle' }) => events.reduce(nextPhase, from)
const phase = (name: 'ready' | 'training' | 'paused' | 'standby' | 'compiling', progress: number | null = null) =>
  ({ type: 'phase', phase: name, progress }) as const
const assigned = { type: 'assigned', run: { id: 'r', name: 'Run' }, stage: 1, stages: 4 } as const
const working: PhaseEvent[] = [{ type: 'start' }, { type: 'control', connected: true }, assigned, phase('training')]

describe('the phase machine', () => {
  it('goes from the click to training in plain words', () => {
    const names = working.map((_, i) => run(working.slice(0, i + 1)).name)
    expect(names).toEqual(['checking', 'waiting', 'loading', 'training'])
    expect(run([...working.slice(0, 3), { type: 'phase', phase: 'loading', progress: 0.4 }])).toEqual({
      name: 'loading',
      progress: 0.4,
    })
    expect(run([...working.slice(0, 2), { type: 'standby', reason: 'No run.' }])).toEqual({
      name: 'waiting',
      reason: 'No run.',
    })
  })

  it('keeps the reason it waits for when the Worker only repeats that it stands by', () => {
    const waiting = run([
      { type: 'start' },
      { type: 'standby', reason: 'Two more volunteers are needed.' },
      phase('standby'),
    ])
    expect(waiting).toEqual({ name: 'waiting', reason: 'Two more volunteers are needed.' })
    expect(run([...working, phase('standby')])).toMatchObject({ name: 'waiting' })
  })

  it('says reconnecting until the socket is back, whatever the Worker still computes', () => {
    const lost = [...working, { type: 'control', connected: false } as const]
    expect(run([...lost, phase('training')]).name).toBe('reconnecting')
    expect(run([...lost, { type: 'control', connected: true }]).name).toBe('waiting')
    expect(run([...lost, { type: 'control', connected: true }, phase('training')]).name).toBe('training')
  })

  it('stays paused until the person resumes', () => {
    const paused = [...working, { type: 'pause' } as const]
    const after: PhaseEvent[] = [
      phase('training'),
      assigned,
      { type: 'standby', reason: '' },
      { type: 'control', connected: false },
    ]
    for (const event of after) expect(run([...paused, event]).name).toBe('paused')
    expect(run([...paused, { type: 'resume' }]).name).toBe('waiting')
    expect(run([...paused, { type: 'resume' }, phase('ready')]).name).toBe('ready')
  })

  it('says the device is lost until the next try, and hears nothing from the dead Worker', () => {
    const lost = [...working, { type: 'down', error, retryInMs: 2000 } as const]
    expect(run(lost)).toEqual({ name: 'lostDevice', error, retryInMs: 2000 })
    expect(run([...lost, phase('training')]).name).toBe('lostDevice')
    expect(run([...lost, { type: 'retry' }]).name).toBe('checking')
  })

  it('is blocked until a person starts it again', () => {
    const blocked = [...working, { type: 'blocked', error } as const]
    const after: PhaseEvent[] = [phase('training'), assigned, { type: 'retry' }, { type: 'resume' }, { type: 'pause' }]
    for (const event of after) expect(run([...blocked, event])).toEqual({ name: 'blocked', error })
    expect(run([...blocked, { type: 'start' }]).name).toBe('checking')
  })

  it('waits for another tab and takes over', () => {
    const other = [{ type: 'start' }, { type: 'otherTab' }] as const
    expect(run([...other, { type: 'start' }]).name).toBe('otherTab')
    expect(run([...other, { type: 'leading' }]).name).toBe('checking')
    expect(run([...other, { type: 'stop' }]).name).toBe('stopped')
  })

  it('stops from anywhere but idle, and only a start ends that', () => {
    expect(run([{ type: 'stop' }]).name).toBe('idle')
    const stopped = [...working, { type: 'stop' } as const]
    for (const event of [...working.slice(1), { type: 'leading' } as const])
      expect(run([...stopped, event]).name).toBe('stopped')
    expect(run([...stopped, { type: 'start' }]).name).toBe('checking')
  })
})
