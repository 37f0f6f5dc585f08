/** Owns the text that the demo trains on: a file, or little stories made up from the seed. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { fail } from '../../../src/protocol/errors.ts'
import type { DemoOptions } from './options.ts'

const CORPUS_BYTES = 400_000

/** @throws SkeinError `demo.data` */
export async function demoText({
  data,
  config,
}: Pick<DemoOptions, 'data' | 'config'>): Promise<{ name: string; text: string }> {
  if (data === null) return { name: 'little stories', text: generateCorpus(config.seed, CORPUS_BYTES) }
  try {
    // Fatal: what is not UTF-8 is refused here as it would be by the server.
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readFile(data))
    return { name: path.basename(data), text }
  } catch (caught) {
    const why = caught instanceof Error ? caught.message : String(caught)
    return fail('demo.data', `The text ${data} cannot be read: ${why}.`, 'Give the path of a UTF-8 text file.')
  }
}
