/** Owns what a node's GPU does with one microbatch, fed with the tokens that the stage needs. One call at a time. */
import { receivesCode } from '../model/layout.ts'
import type { ComputeOp, Loss } from './machineTypes.ts'
import type { StageModel } from './model.ts'
import { patiently } from './patience.ts'
import type { TokenSource } from './tokenSource.ts'

export interface ComputeRequest {
  op: ComputeOp
  microbatch: number
  step: number
  input: Uint8Array<ArrayBufferLike> | null
}

export interface ComputeResult {
  output: Uint8Array<ArrayBufferLike> | null
  loss: Loss | null
  /** Of the device alone: what fetching tokens takes is left out. */
  busyMs: number
}

/** Waits for tokens, should the server be away, while `goesOn` holds. @throws whatever the model throws, `transfer.failed` */
export async function computeMicrobatch(
  model: StageModel,
  source: TokenSource,
  { op, microbatch, step, input }: ComputeRequest,
  goesOn: () => boolean,
): Promise<ComputeResult> {
  if (op === 'backward') return timed(async () => ({ output: await model.backward(microbatch, input!), loss: null }))
  const { hasEmbedding, hasHead } = model.layout
  const training = op === 'forward' || op === 'forwardBackward'
  const fetched = hasEmbedding || hasHead || receivesCode(model.layout)
  const fetch = () => (training ? source.train(step, microbatch) : source.evaluation(microbatch))
  const windows = fetched ? await patiently(fetch, goesOn) : null
  const ids = windows?.inputs
  const stageInput = hasEmbedding ? { tokens: ids! } : { boundary: input!, ...(ids && { tokenIds: ids }) }
  switch (op) {
    case 'forward':
      return timed(async () => ({ output: await model.forward(microbatch, stageInput), loss: null }))
    case 'forwardOnly':
      return timed(async () => ({ output: await model.forwardOnly(stageInput), loss: null }))
    case 'evaluate': {
      const { targets } = windows!
      return timed(async () => {
        const sum = await model.evaluate(stageInput, targets)
        return { output: null, loss: { sum, tokens: targets.length } }
      })
    }
    case 'forwardBackward': {
      const { targets } = windows!
      return timed(async () => {
        const { lossSum, inputGradient } = await model.forwardBackward(microbatch, stageInput, targets)
        return { output: inputGradient, loss: { sum: lossSum, tokens: targets.length } }
      })
    }
  }
}

async function timed(work: () => Promise<Omit<ComputeResult, 'busyMs'>>): Promise<ComputeResult> {
  const from = performance.now()
  const result = await work()
  return { ...result, busyMs: performance.now() - from }
}
