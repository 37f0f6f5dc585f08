/** Owns how numbers, sizes and times are written on the pages: always a unit, never a false digit. */

const NBSP = '\u00a0'
const LOCALE = 'en'

const FLOP_UNITS = ['FLOP', 'kFLOP', 'MFLOP', 'GFLOP', 'TFLOP', 'PFLOP', 'EFLOP', 'ZFLOP']

const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 })

/** Three significant digits, so that a figure keeps its width while it counts. */
function digits(value: number): string {
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)
}

function scaled(value: number, base: number, units: readonly string[]): [string, string] {
  let unit = 0
  // 999.5 would print as 1000 of this unit: carry it into the next.
  while (value >= base - 0.5 && unit < units.length - 1) {
    value /= base
    unit++
  }
  return [digits(value), units[unit]!]
}

/** Binary multiples: `1.50 MiB`. */
export function bytes(value: number): string {
  if (!Number.isFinite(value)) return '–'
  value = Math.max(0, value)
  const [number, unit] = scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'])
  return `${unit === 'B' ? Math.round(value) : number}${NBSP}${unit}`
}

/** Whole mebibytes without the unit, for a column that names it: `1,234`. Needs are rounded up, offers down. */
export function mebibytes(value: number, round = Math.ceil): string {
  return Number.isFinite(value) ? whole.format(round(value / 2 ** 20)) : '–'
}

/** `1,234` below ten thousand, then `12.3 k`, `1.20 M`, `4.56 G`. */
export function count(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) < 10_000) return whole.format(value)
  const [number, unit] = scaled(value, 1000, ['', 'k', 'M', 'G', 'T'])
  return `${number}${NBSP}${unit}`
}

/** Credit, in model FLOPs: `640 FLOP`, `12.3 GFLOP`, `4.56 PFLOP`. */
export function flops(value: bigint): string {
  const [number, unit] = scaled(Number(value), 1000, FLOP_UNITS)
  return `${unit === 'FLOP' ? value : number}${NBSP}${unit}`
}

/** What a chain counts in. */
export interface Currency {
  /** Digits of a unit after the point: 10^decimals planck are one. */
  decimals: number
  symbol: string
}

/** An amount of money to its last digit, for money is not rounded: `1,204.5 DOT`. */
export function money(planck: bigint, { decimals, symbol }: Currency): string {
  const sign = planck < 0n ? '−' : ''
  const digits = String(planck < 0n ? -planck : planck).padStart(decimals + 1, '0')
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, ',')
  const fraction = digits.slice(digits.length - decimals).replace(/0+$/, '')
  return `${sign}${whole}${fraction && `.${fraction}`}${NBSP}${symbol}`
}

/** Every digit, grouped: `1,234,567`. */
export function exact(value: number | bigint): string {
  return whole.format(value)
}

/** `1,230 tokens/s`, or a dash while nothing is known. */
export function rate(value: number | null, unit: string): string {
  return value === null || !Number.isFinite(value) ? '–' : `${speed(value)}${NBSP}${unit}`
}

/** The number of a rate alone: `1,230`, `4.56`. */
export function speed(value: number): string {
  return value < 100 ? digits(value) : count(value)
}

/** Nats, to four decimals: the precision at which two runs are compared. */
export function loss(value: number | null): string {
  return value === null || !Number.isFinite(value) ? '–' : value.toFixed(4)
}

export function percent(share: number): string {
  return `${Math.floor(Math.min(1, Math.max(0, share)) * 100)}${NBSP}%`
}

/** A length of time in at most two units: `850 ms`, `12.4 s`, `3 min 05 s`, `2 h 07 min`, `3 d 4 h`. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return '–'
  ms = Math.max(0, ms)
  if (ms < 1000) return `${Math.round(ms)}${NBSP}ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)}${NBSP}s`
  const seconds = Math.round(ms / 1000)
  const two = (n: number) => String(n).padStart(2, '0')
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${NBSP}min ${two(seconds % 60)}${NBSP}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 1440) return `${Math.floor(minutes / 60)}${NBSP}h ${two(minutes % 60)}${NBSP}min`
  const hours = Math.floor(minutes / 60)
  return `${Math.floor(hours / 24)}${NBSP}d ${hours % 24}${NBSP}h`
}

/** A length of time in one whole unit, rounded down: `40 s`, `5 min`, `3 h`, `2 d`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds}${NBSP}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${NBSP}min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}${NBSP}h`
  return `${Math.floor(seconds / 86_400)}${NBSP}d`
}

/** How long ago: `just now`, `40 s ago`, `5 min ago`. */
export function age(at: number, now: number): string {
  return now - at < 5000 ? 'just now' : `${span(now - at)} ago`
}

/** The clock time of an event, with the day where it is not today: `14:03:09`, `3 May, 14:03:09`. */
export function clock(at: number, now: number): string {
  const then = new Date(at)
  const time = then.toLocaleTimeString('en-GB')
  if (then.toDateString() === new Date(now).toDateString()) return time
  return `${then.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })}, ${time}`
}

/** The day and time of something long ago: `29 Nov 2026, 14:03`. */
export function moment(at: number): string {
  return new Date(at).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })
}

/** A UTC day, given as `2026-11-29`: `29 Nov 2026`. */
export function day(iso: string): string {
  return new Date(iso).toLocaleDateString('en-GB', { dateStyle: 'medium', timeZone: 'UTC' })
}
