/** Owns `npm run demo`: a server, volunteers in real browsers, a model trained, scored, sampled and exported. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { generateCorpus } from '../../src/formats/corpus.ts'
import { readSafetensors } from '../../src/formats/safetensors.ts'
import { tokenizerFor, type Tokenizer } from '../../src/formats/tokenizer.ts'
import { generate } from '../../src/model/generate.ts'
import type { RunDetail } from '../../src/protocol/api.ts'
import { fail, SkeinError } from '../../src/protocol/errors.ts'
import { startServer } from '../main.ts'
import { createApiClient, type ApiClient } from './apiClient.ts'
import { followRun } from './demo/follow.ts'
import { DEMO_USAGE, demoOptions, type DemoOptions } from './demo/options.ts'
import { createProgress } from './demo/progress.ts'
import { demoSummary, lossFell } from './demo/summary.ts'
import { openVolunteers, type Volunteers } from './demo/volunteers.ts'

const CORPUS_BYTES = 400_000
const SAMPLE_TOKENS = 320
const SAMPLE_PROMPT_CHARACTERS = 24

const say = (text: string) => process.stdout.write(`${text}\n`)

async function readText(file: string): Promise<string> {
  try {
    // Fatal: what is not UTF-8 is refused here as it would be by the server.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readFile(file))
  } catch (caught) {
    const why = caught instanceof Error ? caught.message : String(caught)
    return fail('demo.data', `The text ${file} cannot be read: ${why}.`, 'Give the path of a UTF-8 text file.')
  }
}

/** What the sample begins with: the first line of the held-out text, cut short between two words. */
function promptOf(tokenizer: Tokenizer, heldOut: Uint16Array, blockSize: number): Uint32Array {
  const tail = tokenizer.decode(heldOut.subarray(0, 400)).replace(/^.*?\n/s, '')
  const words = tail
    .trimStart()
    .slice(0, SAMPLE_PROMPT_CHARACTERS)
    .replace(/\s+\S*$/, '')
  const prompt = words ? tokenizer.encode(words) : heldOut
  return Uint32Array.from(prompt.subarray(0, blockSize))
}

async function exportModel(api: ApiClient, runId: string, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const { name, bytes } of await api.exportFiles(runId)) {
    const content = await api.exportFile(runId, name)
    if (content.byteLength !== bytes)
      fail('demo.export', `${name} has ${content.byteLength} bytes instead of ${bytes}.`, 'Run the demo again.')
    await writeFile(path.join(folder, name), content)
  }
}

async function sampleText(
  folder: string,
  detail: RunDetail,
  tokenizer: Tokenizer,
  prompt: Uint32Array,
): Promise<string> {
  const file = readSafetensors(await readFile(path.join(folder, 'model.safetensors')))
  const tensors = new Map([...file.tensors].map(([name, tensor]) => [name, tensor.data]))
  const options = { prompt, tokens: SAMPLE_TOKENS, temperature: 0.8, topK: 40, seed: detail.config.seed }
  const tokens = [...generate({ config: detail.config.model, tensors }, options)]
  // A young model says control characters too, which would steer the terminal.
  return tokenizer.decode([...prompt, ...tokens]).replace(/[^\P{Cc}\n]/gu, '\ufffd')
}

const adapters = (detail: RunDetail) => {
  const names = detail.nodes.map(({ adapter: a }) => a.description || `${a.vendor} ${a.architecture}`.trim())
  return [...new Set(names)].join(', ')
}

async function train(options: DemoOptions, signal: AbortSignal): Promise<boolean> {
  const { config, volunteers: count, out } = options
  const text = options.data ? await readText(options.data) : generateCorpus(config.seed, CORPUS_BYTES)
  const name = options.data ? path.basename(options.data) : 'little stories'
  const dataFolder = await mkdtemp(path.join(os.tmpdir(), 'skein-demo-'))
  let server: Awaited<ReturnType<typeof startServer>> | null = null
  let volunteers: Volunteers | null = null
  try {
    server = await startServer({ host: '127.0.0.1', port: 0, dataFolder, logLevel: 'error', ratePerMinute: 1_000_000 })
    const origin = server.url.replace(/\/$/, '')
    const api = createApiClient(origin, signal)
    say(`Server at ${origin}; console at ${origin}/console`)

    const dataset = await api.uploadDataset(name, text, options.tokenizer)
    const tokenizer = tokenizerFor(options.tokenizer, text)
    const run = await api.launch({ name: `demo on ${name}`, datasetId: dataset.id, config })
    const { stages, replicas, codec, steps } = run.config
    const unit = dataset.tokenizer === 'byte' ? 'bytes' : `characters (${dataset.vocabSize} different ones)`
    say(`Text: ${name}, ${dataset.tokens} ${unit}, the last ${dataset.tokens - dataset.trainTokens} held out.`)
    say(
      `Model: ${run.parameters} parameters in ${stages} stages × ${replicas} replicas, codec ${codec}, ${steps} steps.`,
    )

    signal.throwIfAborted()
    volunteers = await openVolunteers(origin, count, options.headed)
    let adapter = ''
    const progress = createProgress(steps, {
      isTTY: process.stdout.isTTY === true,
      columns: process.stdout.columns ?? 80,
      write: (piece) => void process.stdout.write(piece),
    })
    const followed = await followRun(
      api,
      run.id,
      { ...progress, detail: (detail) => (progress.detail(detail), (adapter ||= adapters(detail))) },
      signal,
    )
    const { detail } = followed
    if (detail.state !== 'finished') {
      const remedy = detail.error?.remedy ?? 'What each volunteer said follows.'
      return fail('demo.run', `The run ended as ${detail.state}: ${detail.detail}`, remedy)
    }

    const folder = path.join(out, 'model')
    await exportModel(api, run.id, folder)
    const summary = demoSummary(followed, { volunteers: count, wallSeconds: process.uptime(), adapter })
    await writeFile(path.join(out, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`)
    const { trainLoss, valLoss, boundaryBytesPerToken, tokensPerSecond } = summary
    say(`\nTraining loss   ${trainLoss[0]?.toFixed(4)} → ${trainLoss.at(-1)?.toFixed(4)} nats`)
    say(`Validation loss ${valLoss === null ? 'not measured' : `${valLoss.toFixed(4)} nats`}`)
    say(`Speed           ${Math.round(tokensPerSecond)} tokens/s on ${adapter}`)
    if (boundaryBytesPerToken !== null)
      say(`Boundaries      ${boundaryBytesPerToken.toFixed(1)} bytes a token and crossing`)
    say(`\nA sample, temperature 0.8:\n`)
    const heldOut = tokenizer.encode(text).subarray(dataset.trainTokens)
    say(await sampleText(folder, detail, tokenizer, promptOf(tokenizer, heldOut, detail.config.model.blockSize)))
    say(`\nModel in ${folder}, figures in ${path.join(out, 'summary.json')}`)
    if (lossFell(summary)) return true
    say('The loss did not fall.')
    return false
  } catch (caught) {
    if (volunteers && !signal.aborted) for (const line of await volunteers.report()) say(line)
    throw caught
  } finally {
    await volunteers?.close().catch(() => {})
    await server?.close().catch(() => {})
    await rm(dataFolder, { recursive: true, force: true })
  }
}

async function main(): Promise<number> {
  const options = demoOptions(process.argv.slice(2))
  if (!options) {
    say(DEMO_USAGE)
    return 0
  }
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupt.signal.aborted) process.exit(130)
      say('\nStopping the server and the volunteers.')
      interrupt.abort(new SkeinError({ code: 'demo.interrupted', message: 'Interrupted.', remedy: '' }))
    })
  }
  try {
    return (await train(options, interrupt.signal)) ? 0 : 1
  } catch (caught) {
    if (interrupt.signal.aborted) return 130
    throw caught
  }
}

main().then(
  (code) => process.exit(code),
  (caught: unknown) => {
    console.error(caught instanceof SkeinError ? `\n${caught.message}\n  ${caught.remedy}` : caught)
    process.exit(1)
  },
)
