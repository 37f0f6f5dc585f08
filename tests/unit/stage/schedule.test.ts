/** Proves the order in which a stage computes: 1F1B, backward first, no more in flight than its window. */
import { describe, expect, it } from 'vitest'
import { injectionWindow } from '../../../src/stage/schedule.ts'
import { Stage } from './stage.ts'

const PIPELINE = [['a'], ['b'], ['c']]

describe('the schedule', () => {
  it('lets in as many microbatches as the pipeline behind is deep, and one more', () => {
    expect([0, 1, 2].map((stage) => injectionWindow(stage, 3))).toEqual([4, 3, 2])
    const stage = new Stage(PIPELINE, 'a')
    stage.step(1, { microbatches: 8 })
    for (let m = 0; m < 6; m++) if (stage.computes().length > m) stage.computed('forward', m, 'x')
    expect(stage.computes()).toEqual(['forward 0', 'forward 1', 'forward 2', 'forward 3'])
    stage.frame('b', 'gradient', 0)
    stage.computed('backward', 0)
    expect(stage.computes().slice(4)).toEqual(['backward 0', 'forward 4'])
  })

  it('takes a gradient before a waiting activation, the earliest first', () => {
    const stage = new Stage(PIPELINE, 'b')
    stage.step(1)
    for (const m of [0, 1, 2, 3]) stage.frame('a', 'activation', m)
    stage.computed('forward', 0, 'x')
    stage.computed('forward', 1, 'x')
    stage.frame('c', 'gradient', 1)
    stage.frame('c', 'gradient', 0)
    stage.computed('forward', 2, 'x')
    stage.computed('backward', 0, 'g')
    stage.computed('backward', 1, 'g')
    expect(stage.computes()).toEqual(['forward 0', 'forward 1', 'forward 2', 'backward 0', 'backward 1', 'forward 3'])
  })

  it('computes one thing at a time, out of order where only that has arrived', () => {
    const stage = new Stage(PIPELINE, 'c')
    stage.step(1)
    stage.frame('b', 'activation', 2)
    stage.frame('b', 'activation', 0)
    expect(stage.computes()).toEqual(['forwardBackward 2'])
    stage.computed('forwardBackward', 2, 'g')
    expect(stage.computes()).toEqual(['forwardBackward 2', 'forwardBackward 0'])
    expect(stage.of('compute')[1]!.input).toBe('activation 0 of b')
  })

  it('gives a replica its share of the microbatches', () => {
    const stage = new Stage([['a', 'b'], ['c']], 'b')
    stage.step(1, { first: 5, microbatches: 4, mode: 'evaluate' })
    stage.computed('forwardOnly', 5, 'x')
    stage.computed('forwardOnly', 7, 'x')
    expect(stage.computes()).toEqual(['forwardOnly 5', 'forwardOnly 7'])
  })

  it('has no window in an evaluation, where nothing comes back', () => {
    const stage = new Stage([['a'], ['b']], 'a')
    stage.step(1, { mode: 'evaluate', microbatches: 10 })
    for (let m = 0; m < 10; m++) stage.computed('forwardOnly', m, 'x')
    expect(stage.computes()).toHaveLength(10)
    expect(stage.of('beginStep')).toEqual([])
    expect(stage.of('reduce')).toEqual([])
  })
})
