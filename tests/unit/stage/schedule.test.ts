/** Proves the order in which a stage computes: 1F1B, backward first, no more in flight than its window. */
import { describe, expect, it } from 'vitest'
import { enqueue } from '../../../src/stage/schedule.ts'
import { type LeaseOf, Stage } from './stage.ts'

const leasesOf = (count: number, up: string | null, down: string | null) =>
  Array.from({ length: count }, (_, m): LeaseOf => [m, up, down])

describe('the schedule', () => {
  it('lets in as many microbatches as the server says, then one for each that is done', () => {
    const stage = Stage.ready({ stages: 3 })
    stage.step(1, { leases: leasesOf(8, null, 'down'), window: 4 })
    for (let m = 0; m < 6; m++) if (stage.computes().length > m) stage.computed('forward', m, 'x')
    expect(stage.computes()).toEqual(['forward 0', 'forward 1', 'forward 2', 'forward 3'])
    stage.frame('down', 'gradient', 0)
    stage.computed('backward', 0)
    expect(stage.computes().slice(4)).toEqual(['backward 0', 'forward 4'])
  })

  it('takes a gradient before a waiting activation, the earliest first', () => {
    const stage = Stage.ready({ stage: 1, stages: 3 })
    stage.step(1, { leases: leasesOf(4, 'up', 'down') })
    for (const m of [0, 1, 3, 2]) stage.frame('up', 'activation', m)
    stage.computed('forward', 0, 'x')
    stage.computed('forward', 1, 'x')
    stage.frame('down', 'gradient', 1)
    stage.frame('down', 'gradient', 0)
    stage.computed('forward', 2, 'x')
    stage.computed('backward', 0, 'g')
    stage.computed('backward', 1, 'g')
    expect(stage.computes()).toEqual(['forward 0', 'forward 1', 'forward 2', 'backward 0', 'backward 1', 'forward 3'])
  })

  it('computes one thing at a time, out of order where only that has arrived', () => {
    const stage = Stage.ready({ stage: 1, stages: 2 })
    stage.step(1, { leases: leasesOf(3, 'up', null) })
    stage.frame('up', 'activation', 2)
    stage.frame('up', 'activation', 0)
    expect(stage.computes()).toEqual(['forwardBackward 2'])
    stage.computed('forwardBackward', 2, 'g')
    expect(stage.computes()).toEqual(['forwardBackward 2', 'forwardBackward 0'])
    expect(stage.of('compute')[1]!.input).toBe('activation 0 of up')
  })

  it('takes leases in ascending order, those that came late too', () => {
    const stage = Stage.ready()
    const leases: LeaseOf[] = [[3, null, null], [9, null, null]] // prettier-ignore
    stage.step(1, { leases })
    stage.leases(2, [[5, null, null], ...leases])
    for (const m of [3, 5, 9]) stage.computed('forwardBackward', m)
    expect(stage.computes()).toEqual(['forwardBackward 3', 'forwardBackward 5', 'forwardBackward 9'])
  })

  it('has no window in an evaluation, where nothing comes back', () => {
    const stage = Stage.ready({ stages: 2 })
    stage.step(1, { mode: 'evaluate', committed: 0, leases: leasesOf(10, null, 'down') })
    for (let m = 0; m < 10; m++) stage.computed('forwardOnly', m, 'x')
    expect(stage.computes()).toHaveLength(10)
    expect(stage.of('beginStep')).toEqual([])
    expect(stage.of('readGradient')).toEqual([])
  })

  it('keeps a queue ascending, a repeated entry too', () => {
    const queue: number[] = []
    for (const m of [4, 1, 9, 1, 5]) enqueue(queue, m)
    expect(queue).toEqual([1, 1, 4, 5, 9])
  })
})
