/** Owns reading a file of any size line by line; a line without end is cut where no sound one goes on. */
import { createReadStream } from 'node:fs'
import { MAX_LINE } from '../../../src/ledger/verify.ts'
import { SkeinError } from '../../../src/protocol/errors.ts'

const CHUNK_BYTES = 1_048_576

/**
 * Lists of lines without their line feeds. Bytes that are no UTF-8 become U+FFFD, which no hash covers.
 * @param file `-` for standard input
 * @throws SkeinError `ledger.file`
 */
export async function* readLines(file: string): AsyncGenerator<string[]> {
  const input = file === '-' ? process.stdin : createReadStream(file, { highWaterMark: CHUNK_BYTES })
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  let rest = ''
  try {
    for await (const bytes of input as AsyncIterable<Uint8Array>) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n')
      rest = lines.pop()!
      // More than any line of an export: whoever reads it refuses it.
      if (rest.length > MAX_LINE) {
        yield [...lines, rest]
        return
      }
      yield lines
    }
  } catch (caught) {
    throw new SkeinError(
      {
        code: 'ledger.file',
        message: `${file} cannot be read: ${caught instanceof Error ? caught.message : String(caught)}`,
        remedy: 'Give the file that `npx skein ledger export` wrote.',
      },
      { cause: caught },
    )
  }
  rest += decoder.decode()
  if (rest !== '') yield [rest]
}
