/** Proves static plans: places by lifetime, inputs that nothing overwrites, variables, submits, and no object made by a run. */
import { afterAll, describe, expect, it } from 'vitest'
import { createKernel, variable } from '../../src/gpu/kernel.ts'
import { reduceKernels } from '../../src/gpu/kernels/reduce.ts'
import { PlanBuilder } from '../../src/gpu/plan.ts'
import { Workspace } from '../../src/gpu/workspace.ts'
import { countObjects, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())
const { accumulate } = await reduceKernels(gpu)

const fill = await createKernel(
  gpu,
  'fill',
  `struct Params { length: u32, value: f32, index: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < p.length) { out[id.x] = p.value + f32(p.index); }
}`,
)

const floats = async (reads: Promise<ArrayBuffer>[]) =>
  (await Promise.all(reads)).map((bytes) => Array.from(new Float32Array(bytes)))

describe('a workspace', () => {
  it('gives a place again once it was given back, and never an input one that was used', () => {
    const workspace = new Workspace(gpu.pool)
    const builder = new PlanBuilder(gpu, workspace, 'places')
    const first = builder.scratch(1000)
    builder.release(first)
    expect(builder.scratch(900).buffer).toBe(first.buffer)
    builder.release(first)
    expect(builder.input(900).buffer).not.toBe(first.buffer)
    // The next plan has every place again, and a tensor far smaller than a place does not take it.
    const held = gpu.pool.bytesInUse
    const next = new PlanBuilder(gpu, workspace, 'next')
    expect([first.buffer].includes(next.input(900).buffer) || next.scratch(900).buffer === first.buffer).toBe(true)
    expect(gpu.pool.bytesInUse).toBe(held)
    const large = next.scratch(1 << 20)
    next.release(large)
    expect(next.scratch(8000).buffer).not.toBe(large.buffer)
    workspace.destroy()
  })
})

describe('a plan', () => {
  it('runs with other values every time, in the order of the runs, and makes nothing', async () => {
    const workspace = new Workspace(gpu.pool)
    const builder = new PlanBuilder(gpu, workspace, 'values')
    const input = builder.input(4 * 4)
    const filled = builder.scratch(4 * 4)
    const total = gpu.pool.upload(new Float32Array(4))
    builder.dispatch(fill, [4, variable('value'), variable('index', 'u32')], [filled], [1])
    accumulate(builder, filled, total, 4)
    accumulate(builder, input, total, 4)
    const plan = builder.build()
    await Promise.all(plan.run({ value: 0, index: 0 }, [total])) // The first read makes its staging buffer.
    const made = countObjects(gpu.device)
    const runs: Promise<number[][]>[] = []
    for (let i = 1; i <= 3; i++) {
      gpu.pool.write(input, new Float32Array([i, 0, 0, 0]))
      runs.push(floats(plan.run({ value: 0.5, index: 10 * i }, i === 3 ? [total] : [])))
    }
    const [, , last] = await Promise.all(runs)
    expect(last).toEqual([[67.5, 61.5, 61.5, 61.5]])
    expect(made.stop()).toEqual({})
    expect(() => plan.run({ value: 1 })).toThrow(RangeError)
    plan.destroy()
    workspace.destroy()
    gpu.pool.release(total)
  })

  it('copies, clears, and cuts its work into submits', async () => {
    const workspace = new Workspace(gpu.pool)
    const builder = new PlanBuilder(gpu, workspace, 'submits', 100)
    const [a, b] = [builder.scratch(16), builder.scratch(16)]
    for (let i = 0; i < 4; i++) {
      builder.dispatch(fill, [4, { f32: i }, 0], [a], [1])
      builder.spent(60)
    }
    builder.copy(a, b)
    builder.clear({ ...a, size: 8 })
    const plan = builder.build()
    expect([plan.dispatches, plan.submits]).toEqual([4, 3])
    const views = [a, b].map((view) => ({ ...view, size: 16 }))
    expect(await floats(plan.run({}, views))).toEqual([
      [0, 0, 3, 3],
      [3, 3, 3, 3],
    ])
    plan.destroy()
    workspace.destroy()
  })
})
