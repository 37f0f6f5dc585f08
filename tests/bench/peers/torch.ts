/** Owns PyTorch on the CPU as a contender of the training works: a Python process, asked line by line. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { initialParameters } from '../../../src/model/init.ts'
import { stageLayouts } from '../../../src/model/layout.ts'
import type { Contender } from '../contender.ts'
import type { Entrant } from '../entrant.ts'
import { FOLDER } from '../engines.ts'
import { stepInput, WORKS, type Work } from '../works.ts'

const PYTHONS = ['python3', '/usr/bin/python3']
const THREADS = 2

/** A Python that has PyTorch, and its version; null where there is none. */
function findTorch(): { python: string; version: string } | null {
  for (const python of PYTHONS) {
    const found = spawnSync(python, ['-c', 'import torch; print(torch.__version__)'], { encoding: 'utf8' })
    if (found.status === 0) return { python, version: found.stdout.trim() }
  }
  return null
}

/** Null where Python or PyTorch is missing, which it says. */
export function openTorch(say: (line: string) => void): Entrant | null {
  const found = findTorch()
  if (!found) {
    say('PyTorch is left out: no python3 here can import torch.')
    return null
  }
  const child = spawn(found.python, [path.join(FOLDER, 'peers', 'torch_train.py'), String(THREADS)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const ask = questions(child)
  return {
    impl: `pytorch ${found.version}`,
    where: 'cpu',
    adapter: `CPU, ${THREADS} threads`,
    software: true,
    contender: contenderOf(ask),
    async close() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.stdin.end()
      if (child.exitCode === null) await ended
    },
  }
}

type Ask = (question: object) => Promise<Record<string, unknown>>

/** One line of JSON for each line asked. */
function questions(child: ChildProcess): Ask {
  let said = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2000)))
  const waiting: { resolve(value: Record<string, unknown>): void; reject(error: Error): void }[] = []
  createInterface({ input: child.stdout! }).on('line', (line) => {
    waiting.shift()?.resolve(JSON.parse(line) as Record<string, unknown>)
  })
  const gone = () => {
    for (const { reject } of waiting.splice(0)) reject(new Error(`Python ended: ${said.trim().split('\n').at(-1)}`))
  }
  child.on('exit', gone)
  child.on('error', gone)
  child.stdin!.on('error', gone)
  return (question) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject })
      child.stdin!.write(`${JSON.stringify(question)}\n`)
      if (child.exitCode !== null) gone()
    })
}

function contenderOf(ask: Ask): Contender {
  let work: Work
  const none = () => Promise.reject(new Error('PyTorch takes part in training only.'))
  return {
    start: () => Promise.resolve({ adapter: 'CPU', software: true }),
    prepareKernel: none,
    runKernel: none,
    releaseKernel: () => Promise.resolve(),
    gpuWork: () => Promise.resolve(null),
    async prepareTraining(name) {
      work = WORKS[name]
      const { config } = work
      const layout = stageLayouts(config.model, 1)[0]!
      const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-bench-'))
      try {
        const weights = path.join(folder, 'weights.bin')
        await writeFile(weights, initialParameters(layout, config.seed))
        const { model, optimizer, batch } = config
        await ask({ prepare: { model, optimizer, batch, weights, tensors: layout.tensors } })
      } finally {
        await rm(folder, { recursive: true })
      }
    },
    async train(first, count) {
      const steps = Array.from({ length: count }, (_, i) => {
        const { step, lr, tokens, targets } = stepInput(work.config, first + i)
        return { step, lr, tokens: [...tokens], targets: [...targets] }
      })
      return (await ask({ steps })) as { losses: number[]; milliseconds: number }
    },
    releaseTraining: async () => void (await ask({ release: true })),
  }
}
