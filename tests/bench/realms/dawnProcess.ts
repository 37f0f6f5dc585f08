/** Owns the inside of a Dawn process: WebGPU's globals as a page has them, and the answers to its parent. */
import { create, globals } from 'webgpu'
import type { Contender } from '../contender.ts'

Object.assign(globalThis, globals)
// Engines look for a worker's or a window's global.
Object.assign(globalThis, { self: globalThis })
// The navigator keeps it referenced: Dawn ends the process silently when it is collected.
Object.defineProperty(globalThis.navigator, 'gpu', { value: create([]) })

export interface Question {
  readonly id: number
  readonly method: keyof Contender
  readonly args: unknown[]
}

export interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

export function answerParent(contender: Contender): void {
  process.on('message', ({ id, method, args }: Question) => {
    const call = contender[method] as (...given: unknown[]) => Promise<unknown>
    const answer = (rest: Omit<Answer, 'id'>) => process.send!({ id, ...rest } satisfies Answer)
    Promise.resolve()
      .then(() => call(...args))
      .then(
        (value) => answer({ value }),
        (caught: unknown) =>
          answer({ error: caught instanceof Error ? (caught.stack ?? caught.message) : String(caught) }),
      )
  })
  process.on('disconnect', () => process.exit(0))
}
