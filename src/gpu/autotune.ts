/** Owns the choice among matmul kernels: by measuring them on this adapter for the shapes that a stage will run. */
import { SkeinError } from '../protocol/errors.ts'
import type { GpuContext } from './device.ts'
import { Recorder } from './kernel.ts'
import type { Recording } from './kernel.ts'
import { MATMUL_VARIANTS } from './kernels/matmul.ts'
import type {
  MatmulEpilogue,
  MatmulForm,
  MatmulShape,
  MatmulTensors,
  MatmulVariant,
  MatmulVariantSpec,
} from './kernels/matmul.ts'

export interface Measurement {
  readonly shape: MatmulShape
  readonly variant: string
  /** Milliseconds a run, the best of a few. */
  readonly milliseconds: number
}

/** Matrix multiplication with the kernel that was the fastest for the shape's class. */
export interface Matmul {
  /**
   * c = a·b, or c += a·b with `accumulate`. A shape of a class that {@link tuneMatmul} was not given takes a kernel of
   * the same form that fits it; without one it throws a RangeError.
   */
  record(recorder: Recording, shape: MatmulShape, tensors: MatmulTensors, accumulate?: boolean): void
  /** What was measured, for the bench and the log. */
  readonly measurements: readonly Measurement[]
  /** The name of the variant chosen for a shape. */
  chosen(shape: MatmulShape): string
}

export interface TuneOptions {
  /** Milliseconds that measuring may take, compilation included; shapes it does not reach take the first that fits. */
  readonly budgetMs?: number
  /** The variants to choose from, by name; all that suit the adapter by default. */
  readonly variants?: readonly string[]
}

/** What survives between two stages on one device: the winner of each shape class. */
const winners = new WeakMap<GPUDevice, Map<string, Winner>>()

interface Winner {
  readonly form: MatmulForm
  readonly epilogue: MatmulEpilogue | undefined
  readonly variant: MatmulVariant
  accepts(shape: MatmulShape): boolean
}

/**
 * Workgroup memory and its barriers are emulated on software adapters, and a large kernel takes seconds to compile when
 * several stages share the cores: only two kernels a form are tried there, the better pair where it can run.
 */
function variantsFor({ adapter, subgroupSize }: GpuContext): readonly string[] | undefined {
  if (!adapter.software) return undefined
  return subgroupSize === 4 ? ['quads 8x16', 'quads 8x8'] : ['registers 8x8', 'registers 4x4']
}

/** Shapes within a factor of two in every side share a choice; divisibility by 4 decides which kernels may run. */
function classOf({ form, m, n, k, epilogue }: MatmulShape): string {
  const side = (x: number) => `${Math.round(Math.log2(x))}${x % 4 === 0 ? '' : 'r'}`
  return `${form} ${epilogue ?? 'plain'} ${side(m)} ${side(n)} ${side(k)}`
}

/** Compiles and measures; cached per device by shape class. Throws `gpu.shader`, `gpu.lost` or `gpu.out_of_memory`. */
export async function tuneMatmul(
  gpu: GpuContext,
  shapes: readonly MatmulShape[],
  options: TuneOptions = {},
): Promise<Matmul> {
  const { budgetMs = gpu.adapter.software ? 1500 : 2000 } = options
  const names = options.variants ?? variantsFor(gpu)
  const deadline = performance.now() + budgetMs
  const cache = options.variants ? new Map<string, Winner>() : cacheOf(gpu.device)
  const measurements: Measurement[] = []
  const work = ({ m, n, k }: MatmulShape) => m * n * k
  for (const shape of shapes.toSorted((a, b) => work(b) - work(a))) {
    const key = classOf(shape)
    if (cache.has(key)) continue
    const fitting = MATMUL_VARIANTS.filter((variant) => variant.suits(gpu) && variant.accepts(shape))
    const wanted = fitting.filter((variant) => !names || names.includes(variant.name))
    const candidates = wanted.length > 0 ? wanted : fitting.slice(0, 1)
    cache.set(key, await fastest(gpu, shape, candidates, deadline, measurements))
  }
  const variantFor = (shape: MatmulShape) => {
    const exact = cache.get(classOf(shape))
    const winner =
      exact ??
      [...cache.values()].find(
        (one) => one.form === shape.form && one.epilogue === shape.epilogue && one.accepts(shape),
      )
    if (!winner) throw new RangeError(`No kernel was tuned for ${classOf(shape)}.`)
    return winner.variant
  }
  return {
    measurements,
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

async function fastest(
  gpu: GpuContext,
  shape: MatmulShape,
  candidates: readonly MatmulVariantSpec[],
  deadline: number,
  measurements: Measurement[],
): Promise<Winner> {
  const { m, n, k } = shape
  const buffers = [m * k, n * k, m * n, m * n].map((length) => gpu.pool.allocate(length * 4, 'autotune'))
  const tensors = { a: buffers[0]!, b: buffers[1]!, c: buffers[2]!, residual: buffers[3]!, gated: buffers[3]! }
  let best: (Winner & { milliseconds: number }) | undefined
  try {
    for (const spec of candidates) {
      if (best && performance.now() > deadline) break
      const variant = await tryCreate(gpu, spec, shape)
      if (!variant) continue
      const winner = {
        form: shape.form,
        epilogue: shape.epilogue,
        variant,
        accepts: (other: MatmulShape) => spec.accepts(other),
      }
      if (candidates.length === 1) return winner
      const milliseconds = await measure(gpu, variant, shape, tensors, deadline)
      measurements.push({ shape, variant: variant.name, milliseconds })
      if (!best || milliseconds < best.milliseconds) best = { ...winner, milliseconds }
    }
  } finally {
    for (const buffer of buffers) gpu.pool.release(buffer)
  }
  gpu.check()
  return best ?? failedAll(shape)
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

function failedAll(shape: MatmulShape): never {
  throw new SkeinError({
    code: 'gpu.shader',
    message: `No matrix multiplication kernel compiles here for ${classOf(shape)}.`,
    remedy: 'Update the browser and the graphics driver.',
  })
}

const ROUNDS = 3
/** A round repeats a fast kernel until it lasts about this long, so that the clock's grain does not decide. */
const ROUND_MS = 8

async function measure(
  gpu: GpuContext,
  variant: MatmulVariant,
  shape: MatmulShape,
  tensors: MatmulTensors,
  deadline: number,
): Promise<number> {
  const run = async (times: number) => {
    const recorder = new Recorder(gpu)
    const start = performance.now()
    for (let i = 0; i < times; i++) variant.record(recorder, shape, tensors, false)
    recorder.submit()
    await gpu.device.queue.onSubmittedWorkDone()
    return (performance.now() - start) / times
  }
  await run(1) // The first run of a pipeline pays for its set-up.
  let best = await run(1)
  const times = Math.max(1, Math.min(32, Math.round(ROUND_MS / best)))
  for (let round = 0; round < ROUNDS && performance.now() < deadline; round++) best = Math.min(best, await run(times))
  return best
}
