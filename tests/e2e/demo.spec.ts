/** Proves the demo command: what it writes, what it says, and that it ends whatever it started. */
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { test } from '@playwright/test'
import { demoSummarySchema } from '../../server/cli/demo/summary.ts'
import { generateCorpus } from '../../src/formats/corpus.ts'
import { runDemo } from './demoProcess.ts'
import { expect, tinyConfig } from './skein.ts'

let folder = ''

test.beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'skein-demo-spec-'))
  await mkdir(path.join(folder, 'tmp'))
})
test.afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const demo = (args: string[], onOutput?: Parameters<typeof runDemo>[2]) => runDemo(folder, args, onOutput)

test('it trains on a file of text and leaves a summary and a model', async () => {
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ ...tinyConfig, optimizer: { warmupSteps: 3 } }))
  await writeFile(path.join(folder, 'tales.txt'), generateCorpus(3, 6000))
  const flags = ['--volunteers', '2', '--stages', '2', '--steps', '25', '--codec', 'int8', '--seed', '4']
  const { code, output } = await demo([...flags, '--config', 'config.json', '--data', 'tales.txt', '--out', 'result'])
  expect(code, output).toBe(0)
  expect(output).toMatch(/step 25\/25 {2}loss \d\.\d{4} {2}\d+ tokens\/s {2}ETA 0:00/)
  expect(output).toMatch(/Validation loss \d\.\d{4} nats/)

  const summary = demoSummarySchema.parse(JSON.parse(await readFile(path.join(folder, 'result/summary.json'), 'utf8')))
  expect(summary).toMatchObject({
    steps: 25,
    stages: 2,
    volunteers: 2,
    codec: 'int8',
    sync: 'exact',
    recoveredLeases: 0,
  })
  expect(summary.trainLoss).toHaveLength(25)
  expect(summary.trainLoss.at(-1)!).toBeLessThan(summary.trainLoss[0]! - 0.5)
  expect(summary.valLoss!).toBeLessThan(summary.trainLoss[0]!)
  expect(summary.tokensPerSecond).toBeGreaterThan(0)
  expect(summary.adapter).not.toBe('')
  expect((await readdir(path.join(folder, 'result/model'))).sort()).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ])
  expect(await readdir(path.join(folder, 'tmp'))).toEqual([])
})

test('a signal in the middle ends the server and the browser, and leaves nothing behind', async () => {
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ ...tinyConfig, steps: 5000 }))
  let sent = false
  const { code, output } = await demo(['--volunteers', '2', '--config', 'config.json'], (so, child) => {
    if (sent || !/step +1\/5000/.test(so)) return
    sent = true
    child.kill('SIGTERM')
  })
  expect(sent, output).toBe(true)
  expect(code, output).toBe(130)
  const origin = /Server at (\S+);/.exec(output)![1]!
  await expect(fetch(origin)).rejects.toThrow()
  expect(await readdir(path.join(folder, 'tmp'))).toEqual([])
  expect((await readdir(folder)).sort()).toEqual(['config.json', 'tmp'])
})

test('a text that cannot be trained on ends the demo with the server’s remedy', async () => {
  await writeFile(path.join(folder, 'short.txt'), 'too short')
  const { code, output } = await demo(['--data', 'short.txt'])
  expect(code).toBe(1)
  expect(output).toContain('at least')
  expect(output).not.toContain('    at ')
})
