/** Owns the recording of what the world of liars is made of: questions, what honest devices answer, and what liars do. */
import type { GpuContext } from '../../../src/gpu/device.ts'
import { answerAll, deviceClass, kernelClasses, type KernelClass } from '../../bench/audit/answers.ts'
import type { Answered, Archive } from '../../bench/audit/archive.ts'
import { recordQuestions, type RecordingPlan } from '../../bench/audit/questions.ts'
import { computeLies } from './lies.ts'

/** Kernels without workgroup memory on a software adapter, where the others take minutes to compile; all on a GPU. */
export function quickClasses(gpu: GpuContext): KernelClass[] {
  const classes = kernelClasses(gpu)
  if (!gpu.adapter.software) return classes
  return classes.filter(({ matmul, attention }) => attention === 'rows' && !matmul.startsWith('tiled'))
}

export async function answerWith(
  gpu: GpuContext,
  archive: Archive,
  classes: readonly KernelClass[],
  say: (text: string) => void,
): Promise<Archive> {
  const answered: Answered[] = [...archive.answered]
  for (const kernels of classes) {
    say(`answering with ${kernels.name}`)
    const stages = await answerAll(gpu, archive.recording, kernels)
    answered.push({ device: deviceClass(gpu, kernels), kernels: kernels.name, stages })
  }
  return { ...archive, answered }
}

/** Takes what `archive` lacks: questions, answers, lies. */
export async function completeArchive(
  gpu: GpuContext,
  archive: Archive | null,
  plan: RecordingPlan,
  say: (text: string) => void,
): Promise<Archive> {
  if (!archive) say(`training ${plan.points.at(-1)} steps to record stages`)
  const known = archive ?? { recording: await recordQuestions(gpu, plan), answered: [] }
  const full = known.answered.length > 0 ? known : await answerWith(gpu, known, quickClasses(gpu), say)
  if (full.lies) return full
  say('computing lies')
  return { ...full, lies: await computeLies(gpu, full.recording, quickClasses(gpu)[0]!) }
}
