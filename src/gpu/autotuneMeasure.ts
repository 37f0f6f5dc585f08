/** Owns the clock of the autotuner: how long a matmul variant takes for a shape on this adapter. */
import type { GpuContext } from './device.ts'
import { Recorder } from './recorder.ts'
import type { MatmulShape, MatmulVariant } from './kernels/matmul.ts'

const ROUNDS = 3
/** A round repeats a fast kernel until it lasts about this long, so that the clock's grain does not decide. */
const ROUND_MS = 8

/** Milliseconds a run, the best of at least one and at most {@link ROUNDS} rounds before `deadline`. */
export async function measureMatmul(
  gpu: GpuContext,
  variant: MatmulVariant,
  shape: MatmulShape,
  deadline: number,
): Promise<number> {
  const { m, n, k } = shape
  const buffers = [m * k, n * k, m * n, m * n].map((length) => gpu.pool.allocate(length * 4, 'autotune'))
  const tensors = { a: buffers[0]!, b: buffers[1]!, c: buffers[2]!, residual: buffers[3]!, gated: buffers[3]! }
  const run = async (times: number) => {
    const recorder = new Recorder(gpu)
    const start = performance.now()
    for (let i = 0; i < times; i++) variant.record(recorder, shape, tensors, false)
    recorder.submit()
    await gpu.device.queue.onSubmittedWorkDone()
    return (performance.now() - start) / times
  }
  try {
    await run(1) // The first run of a pipeline pays for its set-up.
    let best = Math.max(await run(1), 1e-3)
    const times = Math.max(1, Math.min(32, Math.round(ROUND_MS / best)))
    for (let round = 0; round < ROUNDS && performance.now() < deadline; round++) best = Math.min(best, await run(times))
    return Math.max(best, 1e-3)
  } finally {
    for (const buffer of buffers) gpu.pool.release(buffer)
  }
}
