/** Owns the proof that the page's one button is remembered, resumed and obeyed. */
import { describe, expect, test } from 'vitest'
import type { Volunteer, VolunteerSnapshot } from '../../../src/volunteer/snapshot.ts'
import { Contribution } from '../../../src/ui/state/contribution.svelte.ts'
import { snapshotOf } from './fixtures.ts'

function fakeVolunteer() {
  const calls: string[] = []
  let listener: (snapshot: VolunteerSnapshot) => void = () => {}
  const volunteer: Volunteer = {
    start: (options) => calls.push(options?.allowSoftware ? 'start slow' : 'start'),
    pause: () => calls.push('pause'),
    resume: () => calls.push('resume'),
    stop: () => calls.push('stop'),
    snapshot: () => snapshotOf({}),
    subscribe: (l) => {
      listener = l
      l(snapshotOf({}))
      return () => {}
    },
  }
  return { calls, volunteer, emit: (change: Partial<VolunteerSnapshot>) => listener(snapshotOf(change)) }
}

function memory() {
  const kept = new Map<string, string>()
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
  }
}

function page(storage: ReturnType<typeof memory> | null = memory()) {
  const fake = fakeVolunteer()
  let pending = () => {}
  let waits = 0
  const contribution = new Contribution({
    load: async () => fake.volunteer,
    storage,
    clock: () => 0,
    later: (work) => {
      pending = work
      waits++
      return () => (pending = () => {})
    },
  })
  return { ...fake, contribution, elapse: () => pending(), waits: () => waits }
}

const query = (text = '') => new URLSearchParams(text)

describe('starting', () => {
  test('nothing starts by itself on a first visit', async () => {
    const { contribution, calls } = page()
    await contribution.begin(query())
    expect(calls).toEqual([])
  })

  test('the address may press the button and allow a software adapter', async () => {
    const { contribution, calls } = page()
    await contribution.begin(query('start=1&adapter=software'))
    expect(calls).toEqual(['start slow'])
  })

  test('a reload goes on with what was on, and how', async () => {
    const storage = memory()
    await page(storage).contribution.start(true)
    const second = page(storage)
    await second.contribution.begin(query())
    expect(second.calls).toEqual(['start slow'])
  })

  test('a pause is remembered too', async () => {
    const storage = memory()
    const first = page(storage)
    await first.contribution.press()
    first.emit({ phase: { name: 'training' } })
    await first.contribution.press()
    expect(first.calls).toEqual(['start', 'pause'])
    const second = page(storage)
    await second.contribution.begin(query())
    expect(second.calls).toEqual([])
  })

  test('works without storage, and with a storage full of nonsense', async () => {
    const { contribution, calls } = page(null)
    await contribution.press()
    expect(calls).toEqual(['start'])
    const broken = memory()
    broken.setItem('skein.contribute', '{')
    await page(broken).contribution.begin(query())
  })
})

test('the button resumes what is paused and gives up waiting for another tab', async () => {
  const { contribution, calls, emit } = page()
  await contribution.prepare()
  emit({ phase: { name: 'paused' } })
  await contribution.press()
  emit({ phase: { name: 'otherTab' } })
  await contribution.press()
  expect(calls).toEqual(['resume', 'stop'])
})

test('a page that cannot load its volunteer says so, and can try again', async () => {
  let attempts = 0
  const fake = fakeVolunteer()
  const contribution = new Contribution({
    load: () => (attempts++ === 0 ? Promise.reject(new Error('offline')) : Promise.resolve(fake.volunteer)),
    storage: null,
  })
  await contribution.press()
  expect(contribution.snapshot.phase).toMatchObject({ name: 'blocked', error: { code: 'page.load_failed' } })
  await contribution.press()
  expect(fake.calls).toEqual(['start'])
})

describe('what is shown', () => {
  test('a part of a step shows only once it lasts, its figures at once', async () => {
    const { contribution, emit, elapse } = page()
    await contribution.prepare()
    emit({ phase: { name: 'training' }, steps: 1 })
    emit({ phase: { name: 'merging' }, steps: 2 })
    expect(contribution.snapshot).toMatchObject({ phase: { name: 'training' }, steps: 2 })
    elapse()
    expect(contribution.snapshot.phase.name).toBe('merging')
  })

  test('a standby that helps to merge goes on standing by; losing its place shows at once', async () => {
    const { contribution, emit } = page()
    const stage = { stage: 1, stages: 2 }
    await contribution.prepare()
    emit({ phase: { name: 'waiting', reason: 'Waiting for work.' }, ...stage })
    emit({ phase: { name: 'merging' }, ...stage })
    expect(contribution.snapshot.phase.name).toBe('waiting')
    emit({ phase: { name: 'training' }, ...stage })
    emit({ phase: { name: 'waiting', reason: 'The run ended.' }, stage: null, stages: null })
    expect(contribution.snapshot.phase).toEqual({ name: 'waiting', reason: 'The run ended.' })
  })

  test('work shows at once after waiting for the others, however short its parts are', async () => {
    const { contribution, emit } = page()
    await contribution.prepare()
    emit({ phase: { name: 'ready' } })
    emit({ phase: { name: 'merging' } })
    emit({ phase: { name: 'training' } })
    expect(contribution.snapshot.phase.name).toBe('training')
  })

  test('standing by shows although short merges come between', async () => {
    const { contribution, emit, elapse, waits } = page()
    const stage = { stage: 1, stages: 2 }
    await contribution.prepare()
    emit({ phase: { name: 'training' }, ...stage })
    emit({ phase: { name: 'waiting', reason: '' }, ...stage })
    emit({ phase: { name: 'merging' }, ...stage })
    emit({ phase: { name: 'waiting', reason: '' }, ...stage })
    expect(waits()).toBe(1)
    expect(contribution.snapshot.phase.name).toBe('training')
    elapse()
    expect(contribution.snapshot.phase.name).toBe('waiting')
  })

  test('a merge that ends in time never shows, and trouble shows at once', async () => {
    const { contribution, emit, elapse } = page()
    await contribution.prepare()
    emit({ phase: { name: 'training' } })
    emit({ phase: { name: 'merging' } })
    emit({ phase: { name: 'training' } })
    elapse()
    expect(contribution.snapshot.phase.name).toBe('training')
    emit({ phase: { name: 'merging' } })
    emit({ phase: { name: 'reconnecting' } })
    expect(contribution.snapshot.phase.name).toBe('reconnecting')
  })
})
