/** Owns the words of what a run is expected to cost and to take, and of what that is reckoned from. */
import type { Quote } from '../../protocol/quote.ts'
import { duration, exact, flops } from './quantities.ts'

export interface QuoteFigure {
  label: string
  value: string
  unit?: string
  note: string
}

export function quoteFigures({ credit, cost, costPerStep, time }: Quote): QuoteFigure[] {
  return [
    {
      label: 'Work',
      value: flops(BigInt(credit)),
      note: 'model FLOPs of all steps, forward and backward',
    },
    cost === null || costPerStep === null
      ? { label: 'Cost', value: '–', note: 'without a price nobody is paid' }
      : {
          label: 'Cost',
          value: exact(BigInt(cost)),
          unit: 'planck',
          note: `${exact(BigInt(costPerStep))} a step; steps that a lost stage makes again are paid again`,
        },
    time.known
      ? {
          label: 'Time',
          value: duration(time.seconds * 1000),
          note: `on ${devices(time.devices)}, at ${flops(BigInt(Math.round(time.flopsPerSecond)))}/s each, measured on ${time.measured} of the connected`,
        }
      : { label: 'Time', value: '–', note: time.reason },
  ]
}

export function dollars(amount: number): string {
  if (amount < 0.01) return 'under 1 cent'
  return `$${amount.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`
}

/** `0.4 of 989 TFLOP/s, $2.69 an hour (2026-04)`. */
export function assumptions({ peakFlops, mfu, dollarsPerHour, asOf }: Quote['clouds'][number]): string {
  return `${mfu} of ${flops(BigInt(peakFlops))}/s, ${dollars(dollarsPerHour)} an hour (${asOf})`
}

const devices = (count: number) => (count === 1 ? '1 device' : `${exact(count)} devices`)
