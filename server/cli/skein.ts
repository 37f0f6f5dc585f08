/** Owns which commands `npx skein` has, and how one that failed says why. */
import { SkeinError } from '../../src/protocol/errors.ts'
import { LEDGER_USAGE, ledgerCommand } from './ledger/command.ts'

/** By name; each returns the exit code: 0 for yes, 1 for no. */
const commands: Record<string, (args: readonly string[]) => Promise<number>> = { ledger: ledgerCommand }

async function main(): Promise<number> {
  const [name = '--help', ...args] = process.argv.slice(2)
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command) return command(args)
  console.log(LEDGER_USAGE)
  if (name === '--help' || name === '-h') return 0
  console.error(`\nThere is no command “${name}”.`)
  return 2
}

main().then(
  (code) => process.exit(code),
  (caught: unknown) => {
    console.error(caught instanceof SkeinError ? `${caught.message} [${caught.code}]\n  ${caught.remedy}` : caught)
    // 1 is an answer, that the ledger is wrong; this is none.
    process.exit(2)
  },
)
