/**
 * Command-line flags: a table of what there is becomes checked values, a `--help`, and one clear line for everything
 * that is not in the table. Needs Node; the parsing itself is `node:util`.
 */

import { parseArgs } from 'node:util'
import { reason, UserError } from '../diffusion/training/errors.ts'

interface About {
  /** What it does, for --help. */
  readonly about: string
}

export interface TextFlag extends About {
  readonly type: 'text'
  /** How --help calls the value. */
  readonly value?: string
  readonly choices?: readonly string[]
  readonly default?: string
}

export interface NumberFlag extends About {
  readonly type: 'integer' | 'number'
  readonly min: number
  readonly max?: number
  readonly default?: number
}

export interface SwitchFlag extends About {
  readonly type: 'switch'
}

export type Flag = TextFlag | NumberFlag | SwitchFlag
export type Flags = Readonly<Record<string, Flag>>

type ValueOf<F> = F extends SwitchFlag ? boolean : F extends NumberFlag ? number : string

/** A flag that was not given and has no default is undefined. */
export type Values<F extends Flags> = {
  readonly [K in keyof F]: F[K] extends SwitchFlag | { readonly default: unknown }
    ? ValueOf<F[K]>
    : ValueOf<F[K]> | undefined
}

export interface Program<F extends Flags> {
  /** How it is run, as --help and errors say it. */
  readonly command: string
  readonly about: string
  readonly flags: F
  /** Lines for --help: flags, and what they do. */
  readonly examples: readonly (readonly [flags: string, what: string])[]
}

/** The values of a command line; `--help` prints what there is and ends the process. Throws UserError. */
export function readFlags<const F extends Flags>(program: Program<F>, args = process.argv.slice(2)): Values<F> {
  const table = Object.entries<Flag>(program.flags)
  const options = Object.fromEntries(
    table.map(([name, { type }]) => [name, { type: type === 'switch' ? ('boolean' as const) : ('string' as const) }]),
  )
  let given: Readonly<Record<string, string | boolean | undefined>>
  try {
    given = parseArgs({ args, options: { ...options, help: { type: 'boolean' } }, strict: true }).values
  } catch (error) {
    throw new UserError(`${reason(error).replace(/\. .*$/, '')} (--help lists the flags)`)
  }
  if (given.help === true) {
    console.log(helpOf(program))
    process.exit(0)
  }
  return Object.fromEntries(table.map(([name, flag]) => [name, checked(name, flag, given[name])])) as Values<F>
}

function checked(name: string, flag: Flag, text: string | boolean | undefined): string | number | boolean | undefined {
  if (flag.type === 'switch') return text === true
  if (typeof text !== 'string') return flag.default
  if (flag.type === 'text') {
    if (flag.choices !== undefined && !flag.choices.includes(text))
      throw new UserError(`--${name}: wanted one of ${flag.choices.join(', ')}, got '${text}'`)
    return text
  }
  const { type, min, max = Infinity } = flag
  const value = text.trim() === '' ? Number.NaN : Number(text)
  const whole = type === 'integer'
  if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value)) || value < min || value > max) {
    const range = max === Infinity ? `of at least ${min}` : `in [${min}, ${max}]`
    throw new UserError(`--${name}: wanted ${whole ? 'a whole number' : 'a number'} ${range}, got '${text}'`)
  }
  return value
}

function helpOf({ command, about, flags, examples }: Program<Flags>): string {
  const rows = Object.entries(flags).map(([name, flag]) => {
    const value = flag.type === 'switch' ? '' : flag.type === 'text' ? ` ${flag.value ?? name.toUpperCase()}` : ' N'
    const fallback = flag.type !== 'switch' && flag.default !== undefined ? ` (default ${flag.default})` : ''
    return [`  --${name}${value}`, flag.about + fallback]
  })
  const width = Math.max(...rows.map(([left]) => left.length), '  --help'.length) + 2
  const list = [...rows, ['  --help', 'this text']].map(([left, right]) => left.padEnd(width) + right)
  const usage = examples.flatMap(([line, what]) => [`  # ${what}`, `  ${command} ${line}`.trimEnd()])
  return [about, '', `Usage: ${command} [flags]`, '', ...list, '', 'Examples:', ...usage].join('\n')
}
