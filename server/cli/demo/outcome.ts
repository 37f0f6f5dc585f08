/** Owns what a finished run leaves: the exported model, summary.json, and a sample in the terminal. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { readSafetensors } from '../../../src/formats/safetensors.ts'
import { tokenizerFor, type Tokenizer } from '../../../src/formats/tokenizer.ts'
import { generate } from '../../../src/model/generate.ts'
import { learnedBoundaries } from '../../../src/model/learnedBoundaries.ts'
import type { DatasetView, RunDetail } from '../../../src/protocol/api.ts'
import { fail } from '../../../src/protocol/errors.ts'
import type { ApiClient } from '../apiClient.ts'
import type { DemoSummary } from './summary.ts'

const SAMPLE_TOKENS = 320
const SAMPLE_PROMPT_CHARACTERS = 24

/** The adapters of those who hold a stage, each named once. */
export function adaptersOf({ nodes }: RunDetail): string {
  const names = nodes.map(({ adapter: a }) => a.description || `${a.vendor} ${a.architecture}`.trim())
  return [...new Set(names)].join(', ')
}

/** @throws SkeinError `demo.run` */
export function requireFinished({ state, detail, error }: RunDetail): void {
  if (state === 'finished') return
  fail('demo.run', `The run ended as ${state}: ${detail}`, error?.remedy ?? 'What each volunteer said follows.')
}

export interface Outcome {
  api: ApiClient
  detail: RunDetail
  dataset: DatasetView
  text: string
  summary: DemoSummary
  /** Folder of model/ and summary.json. */
  out: string
  say: (text: string) => void
}

/** @throws SkeinError `demo.export`; what the API says */
export async function leaveOutcome({ api, detail, dataset, text, summary, out, say }: Outcome): Promise<void> {
  const folder = path.join(out, 'model')
  await exportModel(api, detail.id, folder)
  await writeFile(path.join(out, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`)
  const { trainLoss, valLoss, boundaryBytesPerToken, tokensPerSecond, adapter } = summary
  say(`\nTraining loss   ${trainLoss[0]?.toFixed(4)} → ${trainLoss.at(-1)?.toFixed(4)} nats`)
  say(`Validation loss ${valLoss === null ? 'not measured' : `${valLoss.toFixed(4)} nats`}`)
  say(`Speed           ${Math.round(tokensPerSecond)} tokens/s on ${adapter}`)
  if (boundaryBytesPerToken !== null)
    say(`Boundaries      ${boundaryBytesPerToken.toFixed(1)} bytes a token and crossing`)
  say(`\nA sample, temperature 0.8:\n`)
  const tokenizer = tokenizerFor(dataset.tokenizer, text)
  const heldOut = tokenizer.encode(text).subarray(dataset.trainTokens)
  say(await sampleText(folder, detail, tokenizer, promptOf(tokenizer, heldOut, detail.config.model.blockSize)))
  say(`\nModel in ${folder}, figures in ${path.join(out, 'summary.json')}`)
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

async function sampleText(
  folder: string,
  detail: RunDetail,
  tokenizer: Tokenizer,
  prompt: Uint32Array,
): Promise<string> {
  const file = readSafetensors(await readFile(path.join(folder, 'model.safetensors')))
  const tensors = new Map([...file.tensors].map(([name, tensor]) => [name, tensor.data]))
  const options = { prompt, tokens: SAMPLE_TOKENS, temperature: 0.8, topK: 40, seed: detail.config.seed }
  const tokens = [
    ...generate({ config: detail.config.model, tensors, boundaries: learnedBoundaries(detail.config) }, options),
  ]
  // A young model says control characters too, which would steer the terminal.
  return tokenizer.decode([...prompt, ...tokens]).replace(/[^\P{Cc}\n]/gu, '\ufffd')
}
