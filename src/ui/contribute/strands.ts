/** Owns the geometry of the pipeline's picture: strands that run through one column a stage and cross in between. */

/** The picture's own units; the page stretches it to the width there is. */
export const WIDTH = 600
export const HEIGHT = 160
export const STRANDS = 7

export interface Span {
  /** An SVG path. */
  readonly d: string
  /** Gap 0 lies before stage 0, gap s between stage s−1 and s, the last one behind the last stage. */
  readonly gap: number
}

/** The middle of a stage's column. */
export function columnX(stage: number, stages: number): number {
  return ((stage + 0.5) / stages) * WIDTH
}

/** All strands of all gaps. Within a stage they lie close; outside they fan out, and between stages they cross. */
export function strands(stages: number): Span[] {
  const spans: Span[] = []
  let slots = Array.from({ length: STRANDS }, (_, i) => i)
  for (let gap = 0; gap <= stages; gap++) {
    const from = gap === 0 ? 0 : columnX(gap - 1, stages)
    const to = gap === stages ? WIDTH : columnX(gap, stages)
    const next = gap === 0 || gap === stages ? slots : slots.map((slot) => crossing(slot, gap))
    slots.forEach((slot, i) => {
      const y0 = gap === 0 ? looseY(slot) : gatheredY(slot)
      const y1 = gap === stages ? looseY(next[i]!) : gatheredY(next[i]!)
      // Each strand bends at its own place, so that they cross in a twist and not in a point.
      const bend = r(from + (to - from) * (0.3 + (0.4 * slot) / (STRANDS - 1)))
      spans.push({ d: `M${r(from)} ${r(y0)}C${bend} ${r(y0)} ${bend} ${r(y1)} ${r(to)} ${r(y1)}`, gap })
    })
    slots = next
  }
  return spans
}

/** Odd gaps turn the whole bundle over, even ones each half of it: a braid that never repeats next to itself. */
function crossing(slot: number, gap: number): number {
  if (gap % 2 === 1) return STRANDS - 1 - slot
  const half = (STRANDS - 1) / 2
  if (slot === half) return slot
  return slot < half ? half - 1 - slot : STRANDS + half - slot
}

const gatheredY = (slot: number) => HEIGHT / 2 + (slot - (STRANDS - 1) / 2) * 13
const looseY = (slot: number) => HEIGHT / 2 + (slot - (STRANDS - 1) / 2) * 23
const r = (n: number) => Math.round(n * 10) / 10
