/** Owns what a measurement knows of a contender that takes part in it. */
import type { Contender } from './contender.ts'

export interface Entrant {
  /** Name and version. */
  readonly impl: string
  readonly where: 'chromium' | 'dawn' | 'cpu'
  readonly adapter: string
  readonly software: boolean
  readonly contender: Contender
  close(): Promise<void>
}

/** Where progress and refusals are told. */
export interface Teller {
  /** A line that stays. */
  say(text: string): void
  /** What is going on now; the next one takes its place. */
  now(text: string): void
}

/** Skein's own name at the start of `impl`. */
export const isSkein = ({ impl }: { readonly impl: string }) => impl.startsWith('skein ')

/** One line of an error for a person, without the stack. */
export const reason = (caught: unknown) =>
  (caught instanceof Error ? caught.message : String(caught)).split('\n')[0]!.slice(0, 200)
