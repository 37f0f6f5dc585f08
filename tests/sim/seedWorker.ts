/** Owns a worker of `npm run sim`: runs one fleet after another as it is told and answers with what came of each. */
import { parentPort } from 'node:worker_threads'
import { runFleet, type FleetOptions, type FleetOutcome } from './fleet.ts'

export interface Job {
  seed: number
  options: FleetOptions
}

export interface JobDone {
  outcome: FleetOutcome
  wallMs: number
}

parentPort!.on('message', ({ seed, options }: Job) => {
  const started = performance.now()
  const outcome = runFleet(seed, options)
  parentPort!.postMessage({ outcome, wallMs: performance.now() - started } satisfies JobDone)
})
