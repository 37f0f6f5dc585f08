/** Owns the tables that people read, on the terminal and in Markdown. */
import { isSkein } from './entrant.ts'
import { caseName } from './measureKernels.ts'
import type { KernelRecord, TrainRecord } from './records.ts'
import { COMPARED_STEPS } from './works.ts'

/** Rows of cells, the head first. The first column is text, the others are figures. */
export type Table = readonly (readonly string[])[]

/** Columns padded to their widest cell, figures to the right. */
export function terminalTable(table: Table): string {
  const widths = widthsOf(table)
  return table
    .map((row) =>
      row
        .map((cell, i) => padded(cell, widths[i]!, i))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function markdownTable(table: Table): string {
  const widths = widthsOf(table)
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  const rows = table.map((row) => line(row.map((cell, i) => padded(cell, widths[i]!, i))))
  return [rows[0], line(rule), ...rows.slice(1)].join('\n')
}

const widthsOf = (table: Table) => table[0]!.map((_, i) => Math.max(3, ...table.map((row) => row[i]!.length)))
const padded = (cell: string, width: number, column: number) =>
  column === 0 ? cell.padEnd(width) : cell.padStart(width)

/** Three significant digits, without an exponent. */
export function figure(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en')
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

const DASH = '–'
const times = (ratio: number) => `${figure(ratio)}×`
const groups = <T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> => Map.groupBy(items, key)

/** GFLOP/s of every shape and contender, and how much faster Skein is than each peer. One table for each place. */
export function kernelTables(records: readonly KernelRecord[]): { title: string; table: Table }[] {
  return [...groups(records, ({ where, adapter }) => `${where}, ${adapter}`)].map(([place, there]) => {
    const impls = [...new Set(there.map(({ impl }) => impl))]
    const head = ['f32', ...impls.map((impl) => `${impl}, GFLOP/s`)]
    const rows = [...groups(there, caseName)].map(([name, of]) => {
      const own = of.find(isSkein)
      const cells = impls.map((impl) => {
        const record = of.find((one) => one.impl === impl)
        if (!record) return DASH
        const speed = figure(record.gflops)
        return own && record !== own ? `${speed} (${times(own.gflops / record.gflops)})` : speed
      })
      return [name, ...cells]
    })
    return { title: `Kernels in ${place}; in brackets how many times as fast Skein is`, table: [head, ...rows] }
  })
}

const percent = (share: number | null) => (share === null ? DASH : `${(100 * share).toFixed(1)} %`)
const count = (value: number | null) => (value === null ? DASH : value.toLocaleString('en'))
const mebibytes = (bytes: number | null) => (bytes === null ? DASH : `${figure(bytes / 2 ** 20)} MiB`)

/** One table for each work and place; a contender on the CPU stands in each of its work's tables. */
export function trainTables(records: readonly TrainRecord[]): { title: string; table: Table }[] {
  const native = records.filter(({ where }) => where === 'cpu')
  const onGpu = records.filter(({ where }) => where !== 'cpu')
  return [...groups(onGpu, ({ work, where, adapter }) => `${work} in ${where}, ${adapter}`)].map(([place, there]) => {
    const own = there.find(isSkein)
    const all = [...there, ...native.filter(({ work }) => work === there[0]!.work)]
    const rows = all.map((record) => [
      record.where === 'cpu' ? `${record.impl} (${record.adapter})` : record.impl,
      figure(record.tokensPerSecond),
      own && record !== own ? times(own.tokensPerSecond / record.tokensPerSecond) : DASH,
      percent(record.mfu),
      count(record.dispatchesPerStep),
      count(record.submitsPerStep),
      mebibytes(record.gpuBytes),
      record.lossAfter50?.toFixed(4) ?? DASH,
      record.lossDifference.toExponential(1) +
        (record.comparedSteps < COMPARED_STEPS ? ` (${record.comparedSteps})` : ''),
    ])
    const peak = there[0]!.peakGflops
    const title = `Training ${place}${peak === null ? '' : `; measured peak ${figure(peak)} GFLOP/s`}`
    const head = [
      '',
      'tokens/s',
      'Skein is',
      'MFU',
      'dispatches',
      'submits',
      'buffers',
      'loss after 50',
      'losses apart',
    ]
    return { title, table: [head, ...rows] }
  })
}

/** The first ten losses of every contender. */
export function lossTable(losses: ReadonlyMap<string, readonly number[]>): Table {
  const steps = Math.min(COMPARED_STEPS, Math.max(...[...losses.values()].map(({ length }) => length)))
  const head = ['step', ...losses.keys()]
  const rows = Array.from({ length: steps }, (_, i) => [
    String(i + 1),
    ...[...losses.values()].map((of) => of[i]?.toFixed(6) ?? DASH),
  ])
  return [head, ...rows]
}
