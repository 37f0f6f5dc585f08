/** Owns `skein ledger verify`: an export checked from the first byte to the last, and the outcome in words. */
import { accountView } from '../../../src/ledger/view.ts'
import { ExportVerifier, isFault } from '../../../src/ledger/verify.ts'
import type { ExportFault, ExportSummary } from '../../../src/ledger/verify.ts'
import { nodeSha256 } from '../../ledger/nodeSha256.ts'
import { readLines } from './lines.ts'

export interface VerifyOptions {
  /** By epoch. */
  roots: ReadonlyMap<number, string>
  head: string | null
  account: string | null
  json: boolean
}

const grouped = (value: number | bigint): string => value.toLocaleString('en-US')

/** @returns 0 when the ledger is sound, else 1; @throws SkeinError `ledger.file` */
export async function verifyFile(file: string, { roots, head, account, json }: VerifyOptions): Promise<number> {
  const started = performance.now()
  const verifier = new ExportVerifier(nodeSha256)
  const outcome = await readThrough(file, verifier, head)
  const checked = isFault(outcome) ? outcome : (anchorFault(verifier, roots) ?? outcome)
  const seconds = (performance.now() - started) / 1000
  const { user, system } = process.cpuUsage()
  const cpuSeconds = (user + system) / 1e6
  const view = account === null || isFault(checked) ? null : accountView(verifier.state, account)
  if (json) {
    const plain = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)
    console.log(
      JSON.stringify(
        { sound: !isFault(checked), ...checked, seconds, cpuSeconds, ...(view && { account: view }) },
        plain,
      ),
    )
  } else if (isFault(checked)) console.log(inWords(checked))
  else {
    const { rows, epochs, accounts, credit, paid } = checked
    console.log(
      `The ledger is sound: ${grouped(rows)} rows, ${grouped(epochs)} epochs, ${grouped(accounts)} accounts, ` +
        `${grouped(credit)} FLOPs of accepted credit, ${grouped(paid)} planck paid.`,
    )
    console.log(
      `Last row ${checked.head}. ${seconds.toFixed(1)} s (${cpuSeconds.toFixed(1)} s of a core), ${grouped(Math.round(rows / seconds))} rows a second.`,
    )
    if (roots.size === 0)
      console.log(
        'It is the ledger of this file; compare roots with the chain (--root EPOCH=HASH) to know it is everybody’s.',
      )
    if (view) console.log(JSON.stringify(view, null, 2))
  }
  return isFault(checked) ? 1 : 0
}

async function readThrough(file: string, verifier: ExportVerifier, head: string | null) {
  let met = head === null
  for await (const lines of readLines(file))
    for (const line of lines) {
      const fault = verifier.push(line)
      if (fault) return fault
      met ||= verifier.state.head.hash === head
    }
  const outcome = verifier.end()
  if (met || isFault(outcome)) return outcome
  return { seq: 0, code: 'export.other_ledger', message: `No row has the hash ${head}: this is another ledger.` }
}

function anchorFault({ state }: ExportVerifier, roots: VerifyOptions['roots']): ExportFault | null {
  for (const [epoch, root] of roots) {
    const seal = state.seals[epoch - 1]
    if (!seal) return { seq: 0, code: 'export.epoch_missing', message: `Epoch ${epoch} is not sealed in this file.` }
    if (seal.entry.root !== root)
      return {
        seq: seal.seq,
        code: 'export.anchor',
        message: `Epoch ${epoch} has the root ${seal.entry.root} here and ${root} on the chain: this is another ledger.`,
      }
  }
  return null
}

function inWords({ seq, code, message }: Exclude<ExportFault | ExportSummary, ExportSummary>): string {
  if (seq === 0) return `The ledger is not sound: ${message} [${code}]`
  const before = seq === 1 ? '' : `\nRows 1 to ${grouped(seq - 1)} are sound.`
  return `The ledger is not sound at row ${grouped(seq)}, line ${grouped(seq + 1)}: ${message} [${code}]${before}`
}
