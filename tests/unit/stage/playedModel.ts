/** Owns a stage's model in plain arithmetic on its four vectors, which a test can look into and hold up. */
import { runLayouts } from '../../../src/model/layout.ts'
import type { Shard } from '../../../src/protocol/routing.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { StageModel, UpdateParameters, VectorKind } from '../../../src/stage/model.ts'

export class PlayedModel implements StageModel {
  readonly layout
  readonly calls: string[] = []
  readonly parameters
  readonly firstMoment
  readonly secondMoment
  readonly gradient
  destroyed = false
  /** Awaited by every call that computes. */
  gate: Promise<void> = Promise.resolve()

  constructor(config: RunConfig, stage: number) {
    this.layout = runLayouts(config)[stage]!
    const vector = () => new Float32Array(this.layout.length)
    this.parameters = vector()
    this.firstMoment = vector()
    this.secondMoment = vector()
    this.gradient = vector()
  }

  async #call(name: string): Promise<void> {
    this.calls.push(name)
    await this.gate
    if (this.destroyed) throw new Error('The model is gone.')
  }

  beginStep(): void {
    this.calls.push('beginStep')
    this.gradient.fill(0)
  }

  /** A boundary's elements, each one more. */
  async forward(microbatch: number, input: { boundary: Uint8Array } | { tokens: Uint32Array }) {
    await this.#call(`forward ${microbatch}`)
    return this.#more(input as { boundary: Uint8Array })
  }

  /** Adds one to every gradient; the input's gradient is the output's, each element one more. */
  async backward(microbatch: number, outputGradient: Uint8Array) {
    await this.#call(`backward ${microbatch}`)
    this.gradient.forEach((x, i) => (this.gradient[i] = x + 1))
    return this.#more({ boundary: outputGradient })
  }

  async forwardBackward(): Promise<never> {
    return Promise.reject(new Error('This is no last stage.'))
  }

  async evaluate(): Promise<never> {
    return Promise.reject(new Error('This is no last stage.'))
  }

  async forwardOnly(input: { boundary: Uint8Array } | { tokens: Uint32Array }) {
    await this.#call('forwardOnly')
    return this.#more(input as { boundary: Uint8Array })
  }

  async readGradient({ offset, length }: Shard) {
    await this.#call('readGradient')
    return this.gradient.slice(offset, offset + length)
  }

  async reduceGradient({ offset, length }: Shard, contributions: readonly Float32Array[]) {
    await this.#call(`reduce ${contributions.length}`)
    const range = this.gradient.subarray(offset, offset + length)
    if (contributions.length > 0) range.forEach((_, i) => (range[i] = contributions.reduce((sum, c) => sum + c[i]!, 0)))
    return range.reduce((sum, x) => sum + x * x, 0)
  }

  restoreGradient({ offset, length }: Shard, values: Float32Array | null): void {
    this.calls.push('restoreGradient')
    this.gradient.set(values ?? new Float32Array(length), offset)
  }

  async update({ offset, length }: Shard, { lr, scale, step }: UpdateParameters) {
    await this.#call(`update ${step}`)
    for (let i = offset; i < offset + length; i++) {
      this.parameters[i]! -= lr * Math.sign(scale * this.gradient[i]!)
      this.firstMoment[i]! += 1
      this.secondMoment[i]! += 2
    }
  }

  async read(kind: VectorKind, { offset, length }: Shard) {
    await this.#call(`read ${kind}`)
    return this[kind].slice(offset, offset + length)
  }

  write(kind: VectorKind, offset: number, values: Float32Array): void {
    this.calls.push(`write ${kind}`)
    this[kind].set(values, offset)
  }

  destroy(): void {
    this.destroyed = true
  }

  #more({ boundary }: { boundary: Uint8Array }): Uint8Array<ArrayBuffer> {
    const values = new Float32Array(boundary.slice().buffer).map((x) => x + 1)
    return new Uint8Array(values.buffer)
  }
}
