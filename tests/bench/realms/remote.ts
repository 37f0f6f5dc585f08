/** Owns contenders that live elsewhere: every call is passed on as a name and plain arguments. */
import type { Contender } from '../contender.ts'

const METHODS = [
  'start',
  'prepareKernel',
  'runKernel',
  'releaseKernel',
  'prepareTraining',
  'train',
  'gpuWork',
  'releaseTraining',
] as const satisfies readonly (keyof Contender)[]

export type Call = (method: string, args: unknown[]) => Promise<unknown>

export function remoteContender(call: Call): Contender {
  const methods = METHODS.map((name) => [name, (...args: unknown[]) => call(name, args)])
  return Object.fromEntries(methods) as unknown as Contender
}

/** The contenders of one place, each in a page or process of its own. */
export interface Realm {
  /** Opens a page or process for an engine that was built; `close` ends it and frees its memory. */
  open(engine: string): Promise<{ contender: Contender; close(): Promise<void> }>
  close(): Promise<void>
}
