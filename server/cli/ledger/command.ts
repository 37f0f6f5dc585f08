/** Owns `skein ledger`: its subcommands and their options. */
import { parseArgs } from 'node:util'
import { fail } from '../../../src/protocol/errors.ts'
import { accountIdSchema, hashSchema } from '../../../src/protocol/ledger.ts'
import { exportLedger } from './download.ts'
import { proveAccount } from './prove.ts'
import { verifyFile } from './verifyFile.ts'

export const LEDGER_USAGE = `npx skein ledger verify FILE [--root EPOCH=HASH …] [--head HASH] [--account ID] [--json]
  Checks an export, and needs nothing else: every row's hash and place in the chain, every rule, the root and the totals of every
  epoch, every payout. FILE is - for standard input.
    --root EPOCH=HASH  the root that the chain has for an epoch; the export must have the same
    --head HASH        the hash of a row that you know; the export must have such a row
    --account ID       also print what device:<hex> or wallet:<hex> earned and got
    --json             print the outcome as one line of JSON
npx skein ledger export --server URL [--out FILE]
  Downloads the whole ledger (ledger.ndjson).
npx skein ledger proof ACCOUNT --server URL [--epoch N] [--root HASH]
  Fetches and checks the proof that an account is under an epoch's root (the last epoch).
Exit code: 0 sound, 1 not sound, 2 the question could not be answered.`

const REMEDY = 'Run `npx skein ledger --help` for the options.'

function parse(args: readonly string[]) {
  try {
    const text = { type: 'string' } as const
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: true,
      options: {
        root: { ...text, multiple: true },
        head: text,
        account: text,
        server: text,
        out: text,
        epoch: text,
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (caught) {
    return fail('ledger.option', caught instanceof Error ? caught.message : String(caught), REMEDY)
  }
}

type Options = ReturnType<typeof parse>['values']

/** @returns the exit code; @throws SkeinError `ledger.option` and what the subcommand says */
export async function ledgerCommand(args: readonly string[]): Promise<number> {
  const { positionals, values } = parse(args)
  const [action, subject, ...more] = positionals
  if (values.help || action === undefined) {
    console.log(LEDGER_USAGE)
    return values.help ? 0 : 2
  }
  if (more.length > 0) fail('ledger.option', `“${more[0]}” is one argument too many.`, REMEDY)
  const account = values.account === undefined ? null : accountOf(values.account)
  const [known] = values.root ?? []
  switch (action) {
    case 'verify': {
      if (subject === undefined) return fail('ledger.option', 'Which file?', REMEDY)
      const head = values.head === undefined ? null : hashOf(values.head)
      return verifyFile(subject, { roots: rootsOf(values), head, account, json: values.json ?? false })
    }
    case 'export':
      return exportLedger(serverOf(values), values.out ?? subject ?? 'ledger.ndjson')
    case 'proof': {
      const epoch = values.epoch === undefined ? null : epochOf(values.epoch)
      const root = known === undefined ? null : hashOf(known)
      return proveAccount(serverOf(values), { account: accountOf(subject ?? ''), epoch, root })
    }
    default:
      return fail('ledger.option', `There is no “skein ledger ${action}”.`, REMEDY)
  }
}

const hashOf = (text: string): string =>
  hashSchema.safeParse(text.replace(/^0x/, '')).data ??
  fail('ledger.option', `“${text}” is no hash of 64 lower-case hex digits.`, REMEDY)

const accountOf = (text: string): string =>
  accountIdSchema.safeParse(text).data ??
  fail('ledger.option', `“${text}” is no account.`, 'Give device:<64 hex digits> or wallet:<64 hex digits>.')

function epochOf(text: string): number {
  const epoch = Number(text)
  if (/^\d{1,12}$/.test(text) && epoch >= 1) return epoch
  return fail('ledger.option', `“${text}” is no epoch.`, 'Epochs are 1, 2, 3 and so on.')
}

function rootsOf({ root = [] }: Options): Map<number, string> {
  return new Map(
    root.map((text) => {
      const [epoch = '', hash = ''] = text.split('=')
      return [epochOf(epoch), hashOf(hash)]
    }),
  )
}

function serverOf({ server }: Options): string {
  const url = server === undefined ? null : URL.parse(server)
  if (url && /^https?:$/.test(url.protocol)) return url.origin
  return fail('ledger.option', 'Which server?', 'Add --server http://127.0.0.1:8080, or wherever it is.')
}
