/** Owns the proof that a server killed at any moment forgets nothing: its nodes go on under the next one where they stood. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import type { RunDetail, StepMetric } from '../../../src/protocol/api.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import { testDevice } from '../deviceKeys.ts'
import { FakeNode } from './fakeNode.ts'

const STEPS = 10
const config = {
  model: { dModel: 16, layers: 2, heads: 2, kvHeads: 2, ffn: 32, blockSize: 8 },
  stages: 2,
  replicas: 2,
  batch: 4,
  microbatch: 2,
  steps: STEPS,
  checkpointEvery: 3,
  evalTokens: 64,
}

const devices = [1, 2, 3, 4].map(testDevice)

let folder: string
let url: string
let child: ChildProcess
let nodes: FakeNode[]

async function start(): Promise<void> {
  const environment = { PATH: process.env.PATH, SKEIN_PORT: new URL(url).port, SKEIN_DATA: folder, SKEIN_LOG: 'warn' }
  const path = new URL('../../../server/main.ts', import.meta.url).pathname
  child = spawn(process.execPath, [path], { env: environment, stdio: ['ignore', 'pipe', 'inherit'] })
  const up = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit')])
  expect(String(up[0])).toContain('Skein is at')
}

async function kill(): Promise<void> {
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-kill-'))
  nodes = []
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  url = `http://127.0.0.1:${(free.address() as AddressInfo).port}`
  free.close()
  await once(free, 'close')
})
afterEach(async () => {
  const closed = nodes.map((node) => node.close())
  if (child.exitCode === null && child.signalCode === null) await kill()
  await Promise.all(closed)
  await rm(folder, { recursive: true })
})

const read = async <T>(path: string): Promise<T> => (await fetch(`${url}/api/v1/runs/${path}`)).json() as Promise<T>

async function checkpointsOf(id: string): Promise<number[]> {
  const { checkpoints } = await read<RunDetail>(id)
  return checkpoints.map(({ step }) => step)
}

async function launch(): Promise<string> {
  const text = { method: 'POST', headers: { 'content-type': 'text/plain' }, body: generateCorpus(1, 20_000) }
  const { id: datasetId } = await (await fetch(`${url}/api/v1/datasets?name=Stories`, text)).json()
  const body = JSON.stringify({ name: 'Run', datasetId, config })
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(`${url}/api/v1/runs`, { method: 'POST', headers, body })
  expect(answer.status).toBe(201)
  return (await answer.json()).id
}

/** What a dead server left in its folder. */
function remains(id: string) {
  const db = new Database(join(folder, 'skein.db'))
  try {
    const run = db.prepare('select step, generation, prepared from runs where id = ?').get(id) as {
      step: number
      generation: number
      prepared: string | null
    }
    const steps = db.prepare('select step from metrics where run_id = ? order by step').pluck().all(id) as number[]
    const checkpoints = db.prepare('select step from checkpoints where run_id = ?').pluck().all(id) as number[]
    const places = db.prepare('select device_id, stage from reservations where run_id = ?').raw().all(id)
    return { ...run, steps, checkpoints, places: new Map(places as [string, number][]) }
  } finally {
    db.close()
  }
}

/** When the server dies: at the first message that `at` picks; who hears it then may still do what it says. */
interface Death {
  name: string
  at(message: ServerMessage): boolean
  obeyed: boolean
}
const deaths: Death[] = [
  { name: 'gradients are being summed', at: (m) => m.type === 'reduce' && m.step === 2, obeyed: false },
  { name: 'nobody has heard `apply`', at: (m) => m.type === 'apply' && m.step === 3, obeyed: false },
  { name: 'one node has applied', at: (m) => m.type === 'apply' && m.step === 5, obeyed: true },
  { name: 'shards are being saved', at: (m) => m.type === 'save' && m.step === 9, obeyed: true },
  { name: 'the run is scored', at: (m) => m.type === 'step' && m.mode === 'evaluate', obeyed: false },
]

it(
  'goes on after each death with every step counted once, every place and every checkpoint kept',
  { timeout: 120_000 },
  async () => {
    let death: Death | undefined
    let died: (() => void) | null = null
    /** What nodes were told, and so what must not be forgotten. */
    const told = { committed: 0, applied: 0, generation: 0 }
    let finished = 0
    const heard = (message: ServerMessage): boolean => {
      if (message.type === 'welcome') return true
      // A dead server says nothing more; what was under way from it is lost.
      if (child.killed) return false
      if (message.type === 'assign') {
        told.generation = Math.max(told.generation, message.assignment.generation)
        if (message.assignment.finish) finished += 1
      }
      if (message.type === 'step') told.committed = Math.max(told.committed, message.committed)
      if (message.type === 'apply') told.applied = Math.max(told.applied, message.step)
      if (!death?.at(message)) return true
      child.kill('SIGKILL')
      died?.()
      return death.obeyed
    }

    await start()
    const id = await launch()
    /** Step 8 takes as long as the checkpoint of step 6 does, so that there is one to be kept. */
    const compute = async (step: number) => {
      if (step === 8) await expect.poll(() => checkpointsOf(id), { timeout: 30_000 }).toContain(6)
    }
    const dead = () => new Promise<void>((resolve) => (died = resolve))
    death = deaths[0]
    let next = dead()
    nodes = devices.map((device) => new FakeNode(url, device, heard, compute))
    const kept = new Set<number>()
    for (const [i, { name }] of deaths.entries()) {
      await next
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      const left = remains(id)
      expect(left.steps, name).toEqual(Array.from({ length: left.step }, (_, step) => step + 1))
      expect(left.step, name).toBeGreaterThanOrEqual(told.committed)
      expect(left.generation, name).toBeGreaterThanOrEqual(told.generation)
      const prepared = left.prepared === null ? 0 : (JSON.parse(left.prepared) as { metric: StepMetric }).metric.step
      expect(Math.max(left.step, prepared), name).toBeGreaterThanOrEqual(told.applied)
      expect([...left.places.keys()].sort(), name).toEqual(devices.map(({ id }) => id).sort())
      for (const step of left.checkpoints) kept.add(step)
      death = deaths[i + 1]
      next = dead()
      await start()
    }
    await expect.poll(async () => (await read<RunDetail>(id)).state, { timeout: 60_000 }).toBe('finished')
    const detail = await read<RunDetail>(id)
    expect(detail, detail.events.map(({ text }) => text).join('\n')).toMatchObject({ step: STEPS, rollbacks: 0 })
    expect(detail.valLoss).toBeCloseTo(2, 10)
    const metrics = await read<StepMetric[]>(`${id}/metrics`)
    expect(metrics.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1))
    // The steps whose `apply` was cut off were finished from what the nodes held, not computed again.
    expect(finished).toBeGreaterThanOrEqual(8)
    expect(kept).toContain(6)
    for (const step of [...kept, STEPS]) expect(await checkpointsOf(id)).toContain(step)
    for (const node of nodes) expect(new Set(node.stages).size, node.device.id).toBe(1)
  },
)
