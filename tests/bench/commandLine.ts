/** Owns how the commands of `npm run bench` read what was typed behind them; what cannot be meant is refused in words. */
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { fail } from '../../src/protocol/errors.ts'

type Options = NonNullable<ParseArgsConfig['options']>

export const TEXT = { type: 'string' } as const
export const FLAG = { type: 'boolean', default: false } as const

/** What every command takes. */
const COMMON = { json: TEXT, markdown: FLAG, help: { ...FLAG, short: 'h' } } as const

interface Range {
  readonly whole?: boolean
  readonly least?: number
  readonly most?: number
}

export class CommandLine {
  readonly #remedy: string

  /** @param command such as `codec`; empty for `npm run bench` itself */
  constructor(command: string) {
    this.#remedy = `Run \`npm run bench --${command && ` ${command}`} --help\` for the options.`
  }

  /** @throws SkeinError `bench.option` when an argument is no option, lacks its value, or has one that it does not take */
  read<O extends Options>(args: readonly string[], options: O, allowPositionals = false) {
    try {
      return parseArgs({ args: [...args], strict: true, allowPositionals, options: { ...COMMON, ...options } })
    } catch (caught) {
      return this.refuse(caught instanceof Error ? caught.message : String(caught))
    }
  }

  /** @throws SkeinError `bench.option` when the value of `--name` is none of the choices */
  choice<C extends string>(name: string, value: string, choices: readonly C[]): C {
    return (
      choices.find((choice) => choice === value) ??
      this.refuse(`--${name} takes ${choices.join(' or ')}, not “${value}”.`)
    )
  }

  /** @throws SkeinError `bench.option` when the value of `--name` is no number, no whole one, or out of range; `least` is 0 */
  number(name: string, value: string, { whole = false, least = 0, most = Infinity }: Range = {}): number {
    const number = value.trim() === '' ? NaN : Number(value)
    if (Number.isFinite(number) && number >= least && number <= most && (!whole || Number.isInteger(number)))
      return number
    const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`
    return this.refuse(`--${name} takes a ${whole ? 'whole ' : ''}number ${range}, not “${value}”.`)
  }

  /** @throws SkeinError `bench.option` */
  refuse(message: string): never {
    return fail('bench.option', message, this.#remedy)
  }
}
