/** Owns the measurement of kernels: each shape on all contenders in turns, so that noise hits all alike. */
import { KERNEL_TOLERANCE } from './agreement.ts'
import { isSkein, reason, type Entrant, type Teller } from './entrant.ts'
import { kernelFlops } from './flops.ts'
import type { KernelRecord } from './records.ts'
import type { KernelCase } from './works.ts'

export interface KernelPace {
  readonly rounds: number
  /** A round repeats a kernel until it lasts about this long. */
  readonly roundMs: number
}

export const KERNEL_PACE: KernelPace = { rounds: 7, roundMs: 200 }
export const QUICK_KERNEL_PACE: KernelPace = { rounds: 2, roundMs: 20 }

const MOST_REPEATS = 200

interface Prepared {
  readonly entrant: Entrant
  readonly error: number
  readonly times: number
  best: number
}

export function caseName(kernel: KernelCase | KernelRecord): string {
  if (kernel.op === 'attention') {
    const { pass, batch, heads, seq, headDim } = kernel
    return `attention ${pass === 'forward' ? 'forward' : 'forward + backward'} ${batch}×${heads}×${seq}×${headDim}`
  }
  const { form, m, n, k } = kernel
  return `matmul ${form === 'nn' ? '' : `${form} `}${m}×${n}×${k}`
}

/** Records of the contenders that have the kernel and compute it rightly. Throws when Skein does neither. */
export async function measureKernel(
  entrants: readonly Entrant[],
  kernel: KernelCase,
  pace: KernelPace,
  teller: Teller,
): Promise<KernelRecord[]> {
  const prepared: Prepared[] = []
  try {
    for (const entrant of entrants) {
      teller.now(`${caseName(kernel)}: ${entrant.impl} prepares`)
      const one = await prepare(entrant, kernel, pace, teller)
      if (one) prepared.push(one)
    }
    for (let round = 1; round <= pace.rounds; round++) {
      for (const one of prepared) {
        teller.now(`${caseName(kernel)}: round ${round} of ${pace.rounds}, ${one.entrant.impl}`)
        one.best = Math.min(one.best, (await one.entrant.contender.runKernel(one.times)) / one.times)
      }
    }
  } finally {
    // An entrant whose page or process is gone has nothing left to release.
    for (const { contender } of entrants) await contender.releaseKernel().catch(() => undefined)
  }
  return recordsOf(kernel, prepared)
}

async function prepare(
  entrant: Entrant,
  kernel: KernelCase,
  { roundMs }: KernelPace,
  teller: Teller,
): Promise<Prepared | null> {
  const { contender, impl } = entrant
  try {
    const ready = await contender.prepareKernel(kernel)
    if (!ready) return null
    if (!(ready.error <= KERNEL_TOLERANCE)) {
      throw new Error(`its results are off by ${ready.error.toExponential(1)}, so its speed does not count`)
    }
    const once = await contender.runKernel(1)
    const times = Math.max(1, Math.min(MOST_REPEATS, Math.round(roundMs / once)))
    return { entrant, error: ready.error, times, best: once }
  } catch (caught) {
    if (isSkein(entrant)) throw caught
    teller.say(`${caseName(kernel)}: ${impl} is left out: ${reason(caught)}`)
    return null
  }
}

function recordsOf(kernel: KernelCase, prepared: readonly Prepared[]): KernelRecord[] {
  const fastest = Math.min(...prepared.map(({ best }) => best))
  return prepared.map(({ entrant: { where, adapter, impl }, best, error }) => ({
    where,
    adapter,
    impl,
    ...kernel,
    dtype: 'f32',
    gflops: kernelFlops(kernel) / best / 1e6,
    shareOfBest: fastest / best,
    milliseconds: best,
    error,
  }))
}
