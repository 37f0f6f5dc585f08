/** Owns the look of the loss chart in uPlot's terms. */
import type uPlot from 'uplot'
import type { XAxis } from './series.ts'
import { count, duration, loss } from '../words/quantities.ts'

export interface ChartColours {
  readonly ink: string
  readonly line: string
  readonly accent: string
}

const axisNames: Record<XAxis, string> = { step: 'step', tokens: 'tokens', time: 'time since the first step, min:s' }

export function xLabel(axis: XAxis, value: number): string {
  return axis === 'time' ? stopwatch(value) : count(value)
}

/** `0:05`, `12:30`, `2:05:00`: minutes and seconds, with hours before them where there are any. */
function stopwatch(seconds: number): string {
  const two = (n: number) => String(Math.floor(n)).padStart(2, '0')
  const minutes = `${Math.floor((seconds % 3600) / 60)}:${two(seconds % 60)}`
  return seconds < 3600 ? minutes : `${Math.floor(seconds / 3600)}:${minutes.padStart(5, '0')}`
}

/** Everything but the size. With smoothing the raw losses stay visible, thin, behind the smoothed curve. */
export function lossOptions(
  colours: ChartColours,
  fontFamily: string,
  axis: XAxis,
  logarithmic: boolean,
  smoothed: boolean,
): Omit<uPlot.Options, 'width' | 'height'> {
  const font = `12px ${fontFamily}`
  const shared = { stroke: colours.ink, font, ticks: { show: false } }
  return {
    scales: {
      x: { time: false },
      y: logarithmic ? { distr: 3, range: (_, low, high) => [low * 0.95, high * 1.05] } : {},
    },
    padding: [10, 16, 0, 0],
    legend: { show: false },
    cursor: { points: { size: 7 }, drag: { x: true, y: false } },
    plugins: [readout(axis)],
    axes: [
      {
        ...shared,
        size: 26,
        space: 64,
        gap: 6,
        grid: { show: false },
        border: { show: true, stroke: colours.line, width: 1 },
        label: axisNames[axis],
        labelFont: font,
        labelSize: 18,
        values: (_, ticks) => ticks.map((tick) => (axis === 'step' && tick % 1 !== 0 ? '' : xLabel(axis, tick))),
      },
      {
        ...shared,
        size: 36,
        label: 'loss, nats',
        labelFont: font,
        labelSize: 20,
        grid: { stroke: colours.line, width: 1 },
        values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : String(Number(tick.toPrecision(3))))),
      },
    ],
    series: [
      {},
      {
        stroke: colours.accent,
        width: smoothed ? 1 : 1.75,
        alpha: smoothed ? 0.4 : 1,
        points: { show: (_, __, from, to) => to - from < 2 },
      },
      { stroke: colours.accent, width: 2.25, points: { show: false } },
    ],
  }
}

/** The point beneath the pointer, in words, in the chart's corner. */
function readout(axis: XAxis): uPlot.Plugin {
  const element = document.createElement('div')
  element.className = 'readout'
  element.hidden = true
  return {
    hooks: {
      ready: (plot) => plot.over.append(element),
      setCursor: (plot) => {
        const at = plot.cursor.idx
        const x = at == null ? undefined : plot.data[0][at]
        const y = at == null ? undefined : plot.data[1]?.[at]
        element.hidden = x === undefined || y == null
        if (x === undefined || y == null) return
        const place =
          axis === 'step' ? `step ${count(x)}` : axis === 'tokens' ? `${count(x)} tokens` : duration(x * 1000)
        element.textContent = `${place}: ${loss(y)} nats`
      },
    },
  }
}
