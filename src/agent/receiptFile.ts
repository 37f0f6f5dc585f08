/** Owns the agent's own receipts: a line of JSON for each committed step, in its state folder. */
import { appendFile, readFile, rename } from 'node:fs/promises'
import path from 'node:path'
import { RECEIPTS_KEPT, type KeptReceipt } from '../store/receipts.ts'

/** Adds receipts to `receipts.jsonl`; when that holds `most` of them it becomes `receipts.old.jsonl`, in place of the one before. */
export function receiptFile(folder: string, most = RECEIPTS_KEPT): { add(kept: KeptReceipt): Promise<void> } {
  const file = path.join(folder, 'receipts.jsonl')
  let lines: number | null = null
  let adding: Promise<void> = Promise.resolve()
  const add = async (kept: KeptReceipt) => {
    lines ??= await linesOf(file)
    if (lines >= most) {
      await rename(file, path.join(folder, 'receipts.old.jsonl'))
      lines = 0
    }
    await appendFile(file, `${JSON.stringify(kept)}\n`, { mode: 0o600 })
    lines += 1
  }
  return {
    add(kept) {
      const added = adding.then(() => add(kept))
      adding = added.catch(() => {})
      return added
    },
  }
}

async function linesOf(file: string): Promise<number> {
  try {
    return (await readFile(file, 'utf8')).split('\n').length - 1
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw caught
  }
}
