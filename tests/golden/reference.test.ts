/** Judges the CPU truth itself: against PyTorch's values and against finite differences. */
import { describe, expect, it } from 'vitest'
import { referenceModel, trainStep, zeroState } from '../../src/model/reference/model.ts'
import type { Tensors } from '../../src/model/reference/model.ts'
import { stageLayouts } from '../../src/model/layout.ts'
import { GOLDEN_NAMES, readGolden, relativeError } from './golden.ts'

const copy = (tensors: Tensors): Tensors => new Map([...tensors].map(([name, values]) => [name, values.slice()]))

describe.each(GOLDEN_NAMES)('the reference on the %s model', (name) => {
  const golden = readGolden(name)
  const first = golden.steps[0]!

  it('holds exactly the tensors of the layout', () => {
    const layout = stageLayouts(golden.config, 1)[0]!
    const lengths = new Map(layout.tensors.map((t) => [t.name, t.length]))
    expect(new Map([...golden.parameters].map(([tensor, values]) => [tensor, values.length]))).toEqual(lengths)
  })

  it("gives PyTorch's logits, loss and gradients", () => {
    const model = referenceModel(golden.config, golden.parameters)
    expect(relativeError(model.forward(first.tokens, golden.batch), golden.logits)).toBeLessThan(1e-12)
    const { loss, gradients } = model.lossAndGradients(first.tokens, first.targets, golden.batch)
    expect(Math.abs(loss / first.loss - 1)).toBeLessThan(1e-12)
    for (const [tensor, expected] of golden.gradients) {
      expect(relativeError(gradients.get(tensor)!, expected), tensor).toBeLessThan(1e-10)
    }
  })

  it('follows PyTorch through ten clipped AdamW steps', () => {
    const model = referenceModel(golden.config, copy(golden.parameters))
    const state = zeroState(model.parameters)
    for (const { rate, tokens, targets, loss, gradNorm } of golden.steps) {
      const result = trainStep(model, state, golden.optimizer, rate, { tokens, targets, size: golden.batch })
      expect(Math.abs(result.loss / loss - 1)).toBeLessThan(1e-9)
      expect(Math.abs(result.gradNorm / gradNorm - 1)).toBeLessThan(1e-8)
    }
    // Both sides of the clipping were taken.
    const norms = golden.steps.map((step) => step.gradNorm)
    expect(Math.max(...norms)).toBeGreaterThan(golden.optimizer.gradClip)
    if (name === 'plain') expect(Math.min(...norms)).toBeLessThan(golden.optimizer.gradClip)
  })

  it('has gradients that finite differences confirm', () => {
    const parameters = copy(golden.parameters)
    const model = referenceModel(golden.config, parameters)
    const { gradients } = model.lossAndGradients(first.tokens, first.targets, golden.batch)
    const loss = () => model.lossAndGradients(first.tokens, first.targets, golden.batch).loss
    const step = 1e-5
    for (const [tensor, values] of parameters) {
      const gradient = gradients.get(tensor)!
      // Along its own gradient a tensor's slope is the gradient's norm.
      const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0))
      const start = values.slice()
      const at = (distance: number) => {
        start.forEach((value, i) => (values[i] = value + (distance * gradient[i]!) / norm))
        return loss()
      }
      const slope = (at(step) - at(-step)) / (2 * step)
      values.set(start)
      expect(Math.abs(slope / norm - 1), tensor).toBeLessThan(1e-6)
      const i = gradient.findIndex((g) => Math.abs(g) > norm / gradient.length)
      values[i] = start[i]! + step
      const above = loss()
      values[i] = start[i]! - step
      const single = (above - loss()) / (2 * step)
      values.set(start)
      expect(Math.abs(single - gradient[i]!), tensor).toBeLessThan(1e-7)
    }
  })
})
