import { describe, expect, it } from 'vitest'
import type { SignedReceipt } from '../../../src/protocol/receipt.ts'
import { entryOf } from '../../../src/protocol/receipt.ts'
import { digestOf, Stage, type LeaseOf } from './stage.ts'

const LEASES: LeaseOf[] = [[3, 'up', 'down'], [1, 'other', 'down']] // prettier-ignore

/** What was said of each microbatch, in the order of the last receipt. */
function claimed(stage: Stage) {
  const { receipt } = stage.last('receipt') as SignedReceipt
  return receipt.microbatches.map((row) => entryOf(receipt, row))
}

/** A stage in the middle that takes all its leases there and back. */
function middle(leases: LeaseOf[] = LEASES, signs = true): Stage {
  const stage = Stage.ready({ stage: 1, stages: 3 })
  stage.signs = signs
  stage.step(1, { leases })
  there(stage, leases)
  return stage
}

function there(stage: Stage, leases: LeaseOf[]): void {
  for (const [m, up] of leases) stage.settle(stage.frame(up!, 'activation', m))
  for (const [m, , down] of leases) stage.settle(stage.frame(down!, 'gradient', m))
}

describe('the receipt of a step', () => {
  it('names for each lease what was taken, from whom, and what was made of it', () => {
    const stage = middle()
    expect(claimed(stage)).toEqual([
      {
        microbatch: 1,
        up: 'other',
        down: 'down',
        activationTaken: digestOf('activation 1 of other'),
        activationMade: digestOf('forward 1'),
        gradientTaken: digestOf('gradient 1 of down'),
        gradientMade: digestOf('backward 1'),
      },
      expect.objectContaining({ microbatch: 3, up: 'up', activationTaken: digestOf('activation 3 of up') }),
    ])
  })

  it('comes before the word that the leases are finished, which waits for the signature', () => {
    const stage = middle(LEASES, false)
    expect(stage.of('sign')).toMatchObject([{ step: 1, version: 1 }])
    expect(stage.reports()).toEqual(['ready'])
    stage.signed(stage.of('sign')[0]!)
    expect(stage.reports()).toEqual(['ready', 'receipt', 'finished'])
    stage.idle(3)
    stage.signed(stage.of('sign')[0]!)
    expect(stage.of('sign')).toHaveLength(1)
    expect(stage.reports()).toEqual(['ready', 'receipt', 'finished'])
  })

  it('keeps to the node whose tensor was used, though another owns the neighbour’s lease by now', () => {
    const stage = Stage.ready({ stage: 1, stages: 3 })
    stage.step(1, { leases: [[0, 'up', 'down']] })
    stage.settle(stage.frame('up', 'activation', 0))
    stage.settle(stage.leases(1, [[0, 'next', 'down']]))
    stage.settle(stage.frame('next', 'activation', 0))
    stage.settle(stage.frame('down', 'gradient', 0))
    expect(claimed(stage)).toMatchObject([{ up: 'up', activationTaken: digestOf('activation 0 of up') }])
  })

  it('is made anew, of all leases, when more come', () => {
    const stage = middle([[0, 'up', 'down']])
    const more: LeaseOf[] = [[0, 'up', 'down'], [4, 'up', 'down']] // prettier-ignore
    stage.settle(stage.leases(2, more))
    there(stage, more.slice(1))
    expect(stage.of('sign').map(({ version }) => version)).toEqual([1, 2])
    expect(claimed(stage).map(({ microbatch }) => microbatch)).toEqual([0, 4])
    expect(stage.reports().slice(-2)).toEqual(['receipt', 'finished'])
  })

  it('is not sent once more leases have come while it was signed', () => {
    const stage = middle([[0, 'up', 'down']], false)
    stage.settle(stage.leases(2, [[0, 'up', 'down'], [4, 'up', 'down']])) // prettier-ignore
    stage.signed(stage.of('sign')[0]!)
    expect(stage.reports()).toEqual(['ready'])
    there(stage, [[4, 'up', 'down']])
    stage.signed(stage.of('sign')[1]!)
    expect(stage.reports()).toEqual(['ready', 'receipt', 'finished'])
  })

  it('of a revoked step is not sent', () => {
    const stage = middle(LEASES, false)
    stage.revoked()
    stage.signed(stage.of('sign')[0]!)
    expect(stage.reports()).toEqual(['ready'])
  })

  it('has no edges beyond the ends of the model', () => {
    const alone = Stage.ready()
    alone.settle(alone.step(1, { leases: [[0, null, null]] }))
    const none = { up: null, down: null, activationTaken: null, activationMade: null, gradientTaken: null, gradientMade: null } // prettier-ignore
    expect(claimed(alone)).toEqual([{ microbatch: 0, ...none }])
  })

  it('is of training alone', () => {
    const stage = Stage.ready({ stage: 1, stages: 2, at: 5 })
    stage.step(6, { mode: 'evaluate', committed: 5, leases: [[0, 'up', null]], owners: [] })
    stage.settle(stage.frame('up', 'activation', 0))
    expect(stage.reports()).toEqual(['ready', 'finished'])
  })

  it('of a device that cannot sign is missing, and its work goes on', () => {
    const stage = middle(LEASES, false)
    stage.do({ type: 'signed', generation: 1, step: 1, version: 1, receipts: [] })
    expect(stage.reports()).toEqual(['ready', 'finished'])
  })
})
