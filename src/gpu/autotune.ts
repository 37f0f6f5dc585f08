/** Owns the choice among matmul kernels: by measuring them on this adapter for the shapes that a stage will run. */
import { SkeinError } from '../protocol/errors.ts'
import { measureMatmul } from './autotuneMeasure.ts'
import { loadWinners, saveWinners, tuningKey } from './autotuneStore.ts'
import type { StoredWinners, TuningStore } from './autotuneStore.ts'
import { verifyMatmul } from './autotuneVerify.ts'
import type { GpuContext } from './device.ts'
import type { Recording } from './kernel.ts'
import { HALF_MATMUL_VARIANTS, MATMUL_VARIANTS } from './kernels/matmul.ts'
import type { MatmulShape, MatmulTensors, MatmulVariant, MatmulVariantSpec } from './kernels/matmul.ts'

export type { TuningStore } from './autotuneStore.ts'

export interface Measurement {
  readonly shape: MatmulShape
  readonly variant: string
  /** Milliseconds a run, the best of a few. */
  readonly milliseconds: number
  /** Why the variant was dropped though it was fast. */
  readonly note?: string
}

/** Matrix multiplication with the kernel that was the fastest for the shape's class. */
export interface Matmul {
  /**
   * c = a·b, or c += a·b with `accumulate`. A shape of a class that {@link tuneMatmul} was not given takes a kernel of
   * the same form that fits it; without one it throws a RangeError.
   */
  record(recorder: Recording, shape: MatmulShape, tensors: MatmulTensors, accumulate?: boolean): void
  /** What was measured, for the bench and the log; empty where the choice was known. */
  readonly measurements: readonly Measurement[]
  /** Multiply-adds a second of the kernel chosen for the largest shape, by which submits are paced. */
  readonly rate: number
  /** The name of the variant chosen for a shape. */
  chosen(shape: MatmulShape): string
}

export interface TuneOptions {
  /** Milliseconds that measuring may take, compilation included; shapes it does not reach take the first that fits. */
  readonly budgetMs?: number
  /** The variants to choose from, by name; all that suit the adapter by default. */
  readonly variants?: readonly string[]
  /** What names stand for. */
  readonly ladder?: readonly MatmulVariantSpec[]
  /** Also variants that round A and B to f16 on the way, where the adapter has `shader-f16`. Never by itself. */
  readonly halves?: boolean
  /** Where choices are kept from visit to visit. */
  readonly store?: TuningStore
  /** The browser and its version, or the runtime's, as part of the store's key. */
  readonly runtime?: string
  /** Shape classes settled so far, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

interface Winner {
  readonly shape: MatmulShape
  readonly variant: MatmulVariant
  readonly spec: MatmulVariantSpec
  /** Multiply-adds a second; 0 where it was the only choice and never measured. */
  readonly rate: number
  /** Whether it was measured against all others: an interrupted choice is not worth keeping. */
  readonly settled: boolean
}

/** What survives between two stages on one device: the winner of each shape class. */
const winners = new WeakMap<GPUDevice, Map<string, Winner>>()

const work = ({ m, n, k }: MatmulShape) => m * n * k

/** Variants worth trying, the best guess first: with its time up the tuner takes the first. */
function namesFor({ adapter, subgroupSize }: GpuContext): readonly string[] | undefined {
  if (!adapter.software) return undefined
  // Workgroup memory and its barriers are emulated there. Larger quads were slower at every size and took three times as
  // long to compile, which is what a newcomer there waits for.
  return subgroupSize === 4 ? ['quads 4x8'] : ['registers 8x8', 'registers 4x4']
}

function ladderOf({ ladder, halves }: TuneOptions): readonly MatmulVariantSpec[] {
  return ladder ?? [...MATMUL_VARIANTS, ...(halves ? HALF_MATMUL_VARIANTS : [])]
}

function candidatesFor(gpu: GpuContext, shape: MatmulShape, options: TuneOptions): readonly MatmulVariantSpec[] {
  const names = options.variants ?? namesFor(gpu)
  const fitting = ladderOf(options).filter((spec) => spec.suits(gpu) && spec.accepts(shape))
  const wanted = names
    ? names.flatMap((name) => fitting.filter((spec) => spec.name === name))
    : fitting.filter(({ fallback }) => !fallback)
  return wanted.length > 0 ? wanted : fitting.slice(0, 1)
}

/** Shapes within a factor of two in every side share a choice; divisibility by 16 decides which kernels may run. */
function classOf({ form, m, n, k, epilogue }: MatmulShape): string {
  const side = (x: number) => `${Math.round(Math.log2(x))}${x % 16 === 0 ? '' : x % 4 === 0 ? 'q' : 'r'}`
  return `${form} ${epilogue ?? 'plain'} ${side(m)} ${side(n)} ${side(k)}`
}

/**
 * Compiles, measures and verifies, the largest work first; cached per device by shape class, and in `store`.
 * Throws `gpu.shader`, `gpu.lost` or `gpu.out_of_memory`.
 */
export async function tuneMatmul(
  gpu: GpuContext,
  shapes: readonly MatmulShape[],
  options: TuneOptions = {},
): Promise<Matmul> {
  const { budgetMs = gpu.adapter.software ? 2000 : 10_000, runtime = globalThis.navigator?.userAgent ?? '' } = options
  const deadline = performance.now() + budgetMs
  const usual = !options.variants && !options.ladder && !options.halves
  const cache = usual ? cacheOf(gpu.device) : new Map<string, Winner>()
  const { store } = options
  const offered = options.variants ?? ladderOf(options).map(({ name }) => name)
  const key = tuningKey(gpu, runtime, offered)
  const stored: StoredWinners = store ? await loadWinners(store, key) : {}
  const measurements: Measurement[] = []
  const classes = new Map(shapes.toSorted((a, b) => work(a) - work(b)).map((shape) => [classOf(shape), shape]))
  const open = [...classes].toReversed()
  const session: Session = { deadline, measurements, verified: new Map() }
  // What needs no measuring may compile all at once: pipelines are found again by their text.
  const decided = open.map(async ([name, shape]) => {
    const candidates = candidatesFor(gpu, shape, options)
    const spec = candidates.length === 1 ? candidates[0] : candidates.find((one) => one.name === stored[name]?.variant)
    if (spec && !cache.has(name)) await tryCreate(gpu, spec, shape)
  })
  await Promise.all(decided)
  let done = 0
  for (const [name, shape] of open) {
    const candidates = candidatesFor(gpu, shape, options)
    let winner =
      cache.get(name) ??
      (await known(gpu, shape, candidates, stored[name])) ??
      (await fastest(gpu, shape, candidates, session))
    if (done === 0 && winner.rate === 0) {
      const milliseconds = await measureMatmul(gpu, winner.variant, shape, deadline)
      winner = { ...winner, rate: (work(shape) / milliseconds) * 1000 }
    }
    cache.set(name, winner)
    options.onProgress?.(++done, open.length)
  }
  if (store && measurements.length > 0) {
    const settled = open.flatMap(([name]) => {
      const winner = cache.get(name)!
      return winner.settled ? [[name, { variant: winner.variant.name, rate: winner.rate }] as const] : []
    })
    await saveWinners(store, key, { ...stored, ...Object.fromEntries(settled) })
  }
  return matmulOf(cache, open[0]?.[0], measurements)
}

function matmulOf(
  cache: ReadonlyMap<string, Winner>,
  largest: string | undefined,
  measurements: readonly Measurement[],
): Matmul {
  const variantFor = (shape: MatmulShape) => {
    const fits = ({ shape: { form, epilogue }, spec }: Winner) =>
      form === shape.form && epilogue === shape.epilogue && spec.accepts(shape)
    const exact = cache.get(classOf(shape))
    const winner = exact && fits(exact) ? exact : [...cache.values()].find(fits)
    if (!winner) throw new RangeError(`No kernel was tuned for ${classOf(shape)}.`)
    return winner.variant
  }
  return {
    measurements,
    rate: largest === undefined ? 0 : cache.get(largest)!.rate,
    chosen: (shape) => variantFor(shape).name,
    record: (recorder, shape, tensors, accumulate = false) =>
      variantFor(shape).record(recorder, shape, tensors, accumulate),
  }
}

function cacheOf(device: GPUDevice): Map<string, Winner> {
  let cache = winners.get(device)
  if (!cache) winners.set(device, (cache = new Map()))
  return cache
}

async function known(
  gpu: GpuContext,
  shape: MatmulShape,
  candidates: readonly MatmulVariantSpec[],
  stored: StoredWinners[string] | undefined,
): Promise<Winner | undefined> {
  const spec = candidates.find(({ name }) => name === stored?.variant)
  const variant = spec && (await tryCreate(gpu, spec, shape))
  return variant ? { shape, variant, spec, rate: stored!.rate, settled: true } : undefined
}

interface Session {
  readonly deadline: number
  readonly measurements: Measurement[]
  /** What was found of a variant with a form and an epilogue: the shape matters to its speed only. */
  readonly verified: Map<string, boolean>
}

async function fastest(
  gpu: GpuContext,
  shape: MatmulShape,
  candidates: readonly MatmulVariantSpec[],
  { deadline, measurements, verified }: Session,
): Promise<Winner> {
  const tried: (Winner & { milliseconds: number })[] = []
  let settled = candidates.length > 1
  for (const spec of candidates) {
    if (tried.length > 0 && performance.now() > deadline) {
      settled = false
      break
    }
    const variant = await tryCreate(gpu, spec, shape)
    if (!variant) continue
    const milliseconds = candidates.length > 1 ? await measureMatmul(gpu, variant, shape, deadline) : 0
    const rate = milliseconds > 0 ? (work(shape) / milliseconds) * 1000 : 0
    tried.push({ shape, variant, spec, rate, settled, milliseconds })
  }
  gpu.check()
  const dropped = new Set<string>()
  let winner: Winner | undefined
  for (const one of tried.toSorted((x, y) => x.milliseconds - y.milliseconds)) {
    const subject = `${one.spec.name} ${shape.form} ${shape.epilogue ?? ''}`
    const right = verified.get(subject) ?? (await verifyMatmul(gpu, one.spec, one.variant, shape))
    gpu.check()
    verified.set(subject, right)
    if (right) {
      winner = { ...one, settled }
      break
    }
    dropped.add(one.variant.name)
  }
  for (const { variant, milliseconds } of tried) {
    const note = dropped.has(variant.name) ? { note: 'dropped: it disagrees with the reference' } : {}
    if (milliseconds > 0 || dropped.size > 0) measurements.push({ shape, variant: variant.name, milliseconds, ...note })
  }
  return winner ?? failedAll(shape)
}

function failedAll(shape: MatmulShape): never {
  throw new SkeinError({
    code: 'gpu.shader',
    message: `No matrix multiplication kernel compiles here and computes rightly for ${classOf(shape)}.`,
    remedy: 'Update the browser and the graphics driver.',
  })
}

/** A variant that one driver cannot compile is left out; the others stand in. */
async function tryCreate(gpu: GpuContext, spec: MatmulVariantSpec, shape: MatmulShape): Promise<MatmulVariant | null> {
  try {
    return await spec.create(gpu, shape.form, shape.epilogue)
  } catch (caught) {
    gpu.check()
    if (caught instanceof SkeinError && caught.code === 'gpu.shader') return null
    throw caught
  }
}
