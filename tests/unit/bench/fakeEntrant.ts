/** Owns contenders whose speed, losses and errors a test chooses. */
import type { Contender } from '../../bench/contender.ts'
import type { Entrant, Teller } from '../../bench/entrant.ts'

export interface FakeBehaviour {
  milliseconds?: number
  loss?: (step: number) => number
  /** Error of a kernel's results; null for one it has not. */
  error?: number | null
  /** Calls of this method fail. */
  fails?: keyof Contender
}

export interface FakeEntrant extends Entrant {
  /** Calls in order, with their first argument. */
  readonly calls: string[]
}

export function fakeEntrant(impl: string, behaviour: FakeBehaviour = {}, log: string[] = []): FakeEntrant {
  const { milliseconds = 10, loss = (step) => 6 - step / 100, error = 1e-7, fails } = behaviour
  let dispatches = 0
  const seen = <T>(method: keyof Contender, value: T): Promise<T> => {
    log.push(`${impl} ${method}`)
    return fails === method ? Promise.reject(new Error(`no ${method}\n    at a line of code`)) : Promise.resolve(value)
  }
  const contender: Contender = {
    start: () => seen('start', { adapter: 'fake', software: true }),
    prepareKernel: () => seen('prepareKernel', error === null ? null : { error }),
    runKernel: (times) => seen('runKernel', times * milliseconds),
    releaseKernel: () => seen('releaseKernel', undefined),
    prepareTraining: () => seen('prepareTraining', undefined),
    train(first, count) {
      dispatches += 100 * count
      const losses = Array.from({ length: count }, (_, i) => loss(first + i))
      return seen('train', { losses, milliseconds: count * milliseconds })
    },
    gpuWork: () => seen('gpuWork', { dispatches, submits: dispatches / 50, peakBytes: 4096 }),
    releaseTraining: () => seen('releaseTraining', undefined),
  }
  const close = () => Promise.resolve()
  return { impl, where: 'dawn', adapter: 'fake', software: true, contender, close, calls: log }
}

export function fakeTeller(): Teller & { readonly said: string[] } {
  const said: string[] = []
  return { said, say: (text) => void said.push(text), now: () => undefined }
}
