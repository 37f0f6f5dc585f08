/** Owns the command line of `npm run sim`. */
import { parseArgs } from 'node:util'
import { FLEET, type FleetOptions } from './fleet.ts'

export interface SimOptions {
  fleet: FleetOptions
  seeds: number
  seed: number
  /** Of how many seeds one is also run without churn, for the ratio of throughputs. */
  calmEvery: number
  workers: number | null
  trace: boolean
  json: string | null
  mutations: boolean
  shrink: boolean
  /** Another simulation: of audits, with the numerics of recorded stages. */
  liars: LiarRun | null
}

export interface LiarRun {
  /** Of the nodes. */
  share: number
  /** Null: as many as suits. */
  nodes: number | null
  steps: number | null
  /** An archive of `npm run bench -- audit --out`; null records one first. */
  recorded: string | null
}

export const SIM_USAGE = `npm run sim -- [options]: the deterministic simulation of a fleet on a virtual clock

  --nodes N       volunteers (${FLEET.nodes})
  --stages S      stages of the model (${FLEET.stages})
  --steps T       steps until the end (${FLEET.steps})
  --seeds K       worlds (20), from the first seed on:
  --seed FIRST    (1)
  --churn P       share of the nodes that is replaced each minute (${FLEET.churn})
  --loss P        share of all messages that is lost (${FLEET.loss})
  --slow P        share of the nodes that is four times slower (${FLEET.slow})
  --restarts R    restarts of the server a minute (${FLEET.restarts})
  --accidents R   mute and broken links, partitions and hung GPUs a minute (${FLEET.accidents})
  --forward MS    a microbatch's forward takes; its backward takes twice as long (${FLEET.forward})
  --regions R     parts of the world, any two 75 ms apart one way (${FLEET.regions}); with several, calm seeds run with lanes by seat too
  --nearer MS     round trip that lanes save at least for links to be given up (${FLEET.nearer}; Infinity: lanes go by seat)
  --calm-every N  one seed in N is also run without churn, for the ratio of throughputs (20; 0: none)
  --workers N     processes (one a core)
  --trace         prints what happens, in words; with --seeds 1
  --no-shrink     does not look for a smaller fleet with the same violation
  --json FILE     writes the record
  --liars P       the share of nodes that lie: the audits before recorded stages instead, with --nodes, --steps and --seeds
  --recorded FILE stages and answers of \`npm run bench -- audit --out FILE\`, for --liars; else some are recorded first
  --mutations     takes out one guard of the protocol after another and expects each to be missed`

/** @throws RangeError, TypeError a sentence that says which option is wrong */
export function simOptions(args: readonly string[]): SimOptions | null {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      nodes: text,
      stages: text,
      steps: text,
      seeds: text,
      seed: text,
      churn: text,
      loss: text,
      slow: text,
      restarts: text,
      accidents: text,
      forward: text,
      regions: text,
      nearer: text,
      'calm-every': text,
      workers: text,
      json: text,
      liars: text,
      recorded: text,
      trace: flag,
      'no-shrink': flag,
      mutations: flag,
      help: flag,
    },
  })
  if (values.help) return null
  const number = (name: keyof typeof values, fallback: number, least: number, most: number, whole: boolean) => {
    const value = values[name] === undefined ? fallback : Number(values[name])
    if (!(value >= least && value <= most) || (whole && !Number.isInteger(value)))
      throw new RangeError(`--${name} takes ${whole ? 'a whole number' : 'a number'} from ${least} to ${most}.`)
    return value
  }
  const fleet: FleetOptions = {
    nodes: number('nodes', FLEET.nodes, 1, 10_000, true),
    stages: number('stages', FLEET.stages, 1, 64, true),
    steps: number('steps', FLEET.steps, 1, 1000, true),
    churn: number('churn', FLEET.churn, 0, 10, false),
    loss: number('loss', FLEET.loss, 0, 0.5, false),
    slow: number('slow', FLEET.slow, 0, 1, false),
    restarts: number('restarts', FLEET.restarts, 0, 10, false),
    accidents: number('accidents', FLEET.accidents, 0, 60, false),
    forward: number('forward', FLEET.forward, 1, 10_000, false),
    regions: number('regions', FLEET.regions, 1, 100, true),
    nearer: number('nearer', FLEET.nearer, 0, Infinity, false),
  }
  if (values.recorded !== undefined && values.liars === undefined) throw new RangeError('--recorded is for --liars.')
  if (fleet.nodes < fleet.stages) throw new RangeError('--nodes is less than --stages: some stage would have nobody.')
  return {
    fleet,
    seeds: number('seeds', 20, 1, 100_000, true),
    seed: number('seed', 1, 0, 0xffff_ffff, true),
    calmEvery: number('calm-every', 20, 0, 100_000, true),
    workers: values.workers === undefined ? null : number('workers', 1, 1, 64, true),
    trace: values.trace,
    json: values.json ?? null,
    mutations: values.mutations,
    shrink: !values['no-shrink'],
    liars:
      values.liars === undefined
        ? null
        : {
            share: number('liars', 0, 0, 0.5, false),
            nodes: values.nodes === undefined ? null : fleet.nodes,
            steps: values.steps === undefined ? null : fleet.steps,
            recorded: values.recorded ?? null,
          },
  }
}

/** The arguments that run this fleet again: what differs from the defaults. */
export function fleetArguments(fleet: FleetOptions): string {
  const names = Object.keys(FLEET) as (keyof FleetOptions)[]
  return names
    .filter((name) => fleet[name] !== FLEET[name] || name === 'nodes' || name === 'stages')
    .map((name) => `--${name} ${fleet[name]}`)
    .join(' ')
}
