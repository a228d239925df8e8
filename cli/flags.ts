/**
 * Command lines: a table of what there is becomes checked values, a `--help` with examples, and one clear line for
 * everything that is not in the table. Needs Node; parsing, the layout of help and the nearest name are commander's.
 */

import { Argument, Command, type CommanderError, Option } from 'commander'
import { UsageError } from '../io/user-error.ts'

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
  /** The command line must have it. */
  readonly needed?: true
  /** May be given again; the values are a list, empty where it is not given. */
  readonly many?: true
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

/** Some of its choices, with commas between; all of them where it is not given. */
export interface ListFlag extends About {
  readonly type: 'list'
  readonly choices: readonly string[]
}

export type Flag = TextFlag | NumberFlag | SwitchFlag | ListFlag
export type Flags = Readonly<Record<string, Flag>>

/** A word without dashes, by its place. */
export interface Operand extends About {
  readonly choices?: readonly string[]
  readonly optional?: true
  /** The last one may be many words; one at least unless optional. */
  readonly many?: true
}

export type Operands = Readonly<Record<string, Operand>>

type Choice<F> = F extends { readonly choices: readonly (infer C)[] } ? C : string
type ValueOf<F> = F extends SwitchFlag
  ? boolean
  : F extends ListFlag
    ? readonly Choice<F>[]
    : F extends NumberFlag
      ? number
      : F extends { readonly many: true }
        ? readonly Choice<F>[]
        : Choice<F>

type AlwaysThere =
  | SwitchFlag
  | ListFlag
  | { readonly default: unknown }
  | { readonly needed: true }
  | { readonly many: true }

/** A flag that was not given and has no default is undefined. */
export type Values<F extends Flags> = {
  readonly [K in keyof F]: F[K] extends AlwaysThere ? ValueOf<F[K]> : ValueOf<F[K]> | undefined
}

export type OperandValues<O extends Operands> = {
  readonly [K in keyof O]: O[K] extends { readonly many: true }
    ? readonly Choice<O[K]>[]
    : O[K] extends { readonly optional: true }
      ? Choice<O[K]> | undefined
      : Choice<O[K]>
}

export interface Program<F extends Flags, O extends Operands> {
  /** How it is run, as --help and errors say it. */
  readonly command: string
  readonly about: string
  readonly operands?: O
  readonly flags: F
  /** Lines for --help: what follows the command, and what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[]
}

/**
 * The values of a command line, operands and flags under their names; `--help` prints what there is and ends the
 * process. Throws UsageError.
 */
export function readFlags<const F extends Flags, const O extends Operands = Record<never, Operand>>(
  { command, about, operands, flags, examples }: Program<F, O>,
  args: readonly string[] = process.argv.slice(2),
): Values<F> & OperandValues<O> {
  const parser = new Command(command)
    .description(about)
    .helpOption('--help', 'this text')
    .addHelpText('after', examplesOf(command, examples))
    .configureOutput({ outputError: () => {} })
    .exitOverride(ended)
  const words = Object.entries<Operand>(operands ?? {})
  for (const [name, operand] of words) parser.addArgument(argumentOf(name, operand))
  const options = Object.entries<Flag>(flags).map(([name, flag]) => [name, optionOf(name, flag)] as const)
  for (const [, option] of options) parser.addOption(option)
  parser.parse(args, { from: 'user' })
  const absent = (name: string) => (flags[name].type === 'switch' ? false : 'many' in flags[name] ? [] : undefined)
  return Object.fromEntries([
    ...options.map(([name, option]) => [name, parser.getOptionValue(option.attributeName()) ?? absent(name)]),
    ...words.map(([name], i) => [name, parser.processedArgs[i]]),
  ])
}

/** `Examples:` and every example under what it does, as --help ends with. */
export function examplesOf(command: string, examples: Program<Flags, Operands>['examples']): string {
  return [
    '\nExamples:',
    ...examples.flatMap(([line, what]) => [`  # ${what}`, `  ${command} ${line}`.replace(/( --)? *$/, '')]),
  ].join('\n')
}

/** What commander ends with, a help text that was shown or a mistake, as ours: for `exitOverride`. */
export function ended({ exitCode, message }: CommanderError): never {
  if (exitCode === 0) process.exit(0)
  const text = message
    .replace(/^error: /, '')
    .replace(/\n/g, ' ')
    .replace(/\.$/, '')
  throw new UsageError(`${text}; --help lists the flags`)
}

function argumentOf(name: string, { about, choices, optional, many }: Operand): Argument {
  const shown = `${name.toUpperCase()}${many === true ? '...' : ''}`
  const argument = new Argument(optional === true ? `[${shown}]` : `<${shown}>`, about)
  if (choices === undefined) return argument
  const checked = (text: string) => chosen(name, choices, text)
  if (many !== true) return argument.choices(choices).argParser(checked)
  return argument.choices(choices).argParser((text: string, before: string[] = []) => [...before, checked(text)])
}

function optionOf(name: string, flag: Flag): Option {
  if (flag.type === 'switch') return new Option(`--${name}`, flag.about)
  if (flag.type === 'list')
    return new Option(`--${name} <NAME,…>`, flag.about)
      .choices(flag.choices)
      .default(flag.choices, 'all')
      .argParser((text: string) => text.split(',').map(word => chosen(`--${name}`, flag.choices, word)))
  if (flag.type === 'text') {
    const { value = name.toUpperCase(), choices, needed = false, many = false } = flag
    const option = new Option(`--${name} <${value}>`, flag.about).makeOptionMandatory(needed)
    if (choices !== undefined) option.choices(choices)
    const checked = (text: string) => (choices === undefined ? text : chosen(`--${name}`, choices, text))
    if (many) return option.argParser((text: string, before: string[] = []) => [...before, checked(text)])
    return option.default(flag.default).argParser(checked)
  }
  return new Option(`--${name} <N>`, flag.about)
    .default(flag.default)
    .argParser((text: string) => number(name, flag, text))
}

function chosen(name: string, choices: readonly string[], text: string): string {
  if (choices.includes(text)) return text
  throw new UsageError(`${name}: expected one of ${choices.join(', ')}, got '${text}'`)
}

function number(name: string, { type, min, max = Infinity }: NumberFlag, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  const whole = type === 'integer'
  if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value)) || value < min || value > max) {
    const range = max === Infinity ? `of at least ${min}` : `in [${min}, ${max}]`
    throw new UsageError(`--${name}: expected ${whole ? 'a whole number' : 'a number'} ${range}, got '${text}'`)
  }
  return value
}

/** `command` with words after it, quoted where a shell would read them otherwise. */
export function shellLine(command: string, ...words: readonly string[]): string {
  const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)
  return [command, ...words.map(quoted)].join(' ')
}
