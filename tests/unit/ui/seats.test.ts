/** Owns the proof that the grid says truly who computes, prepares, stands by, is silent or missing. */
import { describe, expect, test } from 'vitest'
import type { NodeView, RunState } from '../../../src/protocol/api.ts'
import { seatCounts, stageSeats, type Seat } from '../../../src/ui/console/seats.ts'
import { nodeOf } from './fixtures.ts'

const plain = (text: string) => text.replaceAll('\u00a0', ' ')

function seatsOf(nodes: (Partial<NodeView> | null)[], run: RunState = 'training', since = 0): Seat[] {
  const views = nodes.map((change, i) => change && nodeOf(`n${i}`, 0, change))
  const known = new Map(views.flatMap((view) => (view ? [[view.nodeId, view] as const] : [])))
  const row = views.map((view) => view?.nodeId ?? null)
  return stageSeats(row, known, run, since)
}

const seatOf = (change: Partial<NodeView>, run?: RunState, since?: number) => seatsOf([change], run, since)[0]!

describe('a seat', () => {
  test('keeps its place in the row, and more members than replicas add seats', () => {
    const seats = seatsOf([{}, null, { standby: true }, { standby: true }])
    expect(seats.map(({ nodeId }) => nodeId)).toEqual(['n0', null, 'n2', 'n3'])
    expect(seats.map(({ state }) => state)).toEqual(['working', 'empty', 'standby', 'standby'])
    expect(seats[1]!.label).toBe('Empty seat')
  })

  test('of a device without work in the step stands by', () => {
    const { label, mood } = seatOf({ standby: true, phase: 'standby' })
    expect([label, mood]).toEqual(['Stands by', 'standby'])
  })

  test('tells how far a newcomer is, although it has no work either', () => {
    const seat = seatOf({ standby: true, phase: 'loading', progress: 0.42 })
    expect([seat.state, plain(seat.label)]).toEqual(['preparing', 'Downloading weights 42 %'])
  })

  test('is silent before anything else, for as long as the server and this page know', () => {
    const seat = seatOf({ suspect: true, standby: true, phase: 'loading', silentMs: 9000 }, 'training', 4000)
    expect([seat.state, plain(seat.label), seat.silentMs]).toEqual(['silent', 'Silent for 13 s', 13_000])
    expect(seatOf({ silentMs: 9000 }, 'training', 4000).state).toBe('working')
  })

  test('with work computes before its own word has come', () => {
    expect(seatOf({ phase: 'ready' })).toMatchObject({ state: 'working', label: 'Training' })
    expect(seatOf({ phase: 'standby' }, 'evaluating')).toMatchObject({ state: 'working', label: 'Evaluating' })
  })

  test('before the first step is ready only once its device said so', () => {
    expect(seatOf({ phase: 'ready' }, 'preparing').state).toBe('ready')
    expect(seatOf({ phase: 'standby' }, 'preparing').state).toBe('preparing')
    expect(seatOf({ phase: 'standby', runId: null }, 'waiting').state).toBe('ready')
  })
})

describe('a stage', () => {
  test('is counted in words', () => {
    const many = Array.from({ length: 54 }, () => ({}))
    const standbys = Array.from({ length: 3 }, () => ({ standby: true }))
    const seats = seatsOf([...many, ...standbys, { suspect: true, silentMs: 12_000 }])
    expect(plain(seatCounts(seats))).toBe('54 compute, 3 stand by, 1 silent for 12 s')
  })

  test('of few is counted in the singular, and the longest silence of several is told', () => {
    const silent = [5000, 21_000].map((silentMs) => ({ suspect: true, silentMs }))
    const seats = seatsOf([{}, { standby: true }, { phase: 'compiling' }, ...silent, null])
    expect(plain(seatCounts(seats))).toBe('1 computes, 1 prepares, 1 stands by, 2 silent for up to 21 s, 1 seat empty')
  })
})
