/** The command line of a training program: its settings table as flags and operands. Needs Node. */

import { UsageError } from '../io/user-error.ts'
import type { Setting, SettingsTable } from '../models/family.ts'
import type { Module } from '../nn/index.ts'
import { settingsIn } from '../training/config.ts'
import type { TrainingCommand, TrainingProgram } from '../training/program.ts'
import { flagOf, runTable, settingsTable } from '../training/settings.ts'
import { type Flag, type Flags, type Operand, readFlags, shellLine } from './flags.ts'

/**
 * Reads the words that follow `command`, which runs `program`; `looks` are more flags, of a command that can look at a run
 * without training. `--help` prints the flags and ends the process. Throws UserError.
 */
export function readTrainingCommand<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  command: string,
  words: readonly string[] = process.argv.slice(2),
  looks: SettingsTable = {},
): TrainingCommand<Own> & { readonly looks: Readonly<Record<string, unknown>> } {
  const { family, about, examples } = program
  const table = settingsTable(family)
  const settings = Object.entries(table)
  const run = Object.entries(runFlags(family.command, 'latents' in table))
  const isOperand = ([, setting]: [string, Setting]) => 'operand' in setting
  const values = readFlags(
    {
      command,
      about,
      operands: Object.fromEntries(settings.filter(isOperand).map(([name, setting]) => [name, operandOf(setting)])),
      flags: Object.fromEntries(
        [...settings.filter(entry => !isOperand(entry)), ...run, ...Object.entries(looks)].map(entry => [
          keyOf(...entry),
          flagFor(entry[1]),
        ]),
      ) as Flags,
      examples,
    },
    words,
  ) as Readonly<Record<string, unknown>>
  const read = (entries: readonly (readonly [string, Setting])[]) =>
    Object.fromEntries(
      entries.map(([name, setting]) => [name, values[keyOf(name, setting)]]).filter(([, value]) => !isAbsent(value)),
    )
  // A switch can be given, but not taken back: a resumed run keeps its own.
  const isSet = ([name, setting]: [string, Setting]) => values[keyOf(name, setting)] !== false
  const operands = settings.filter(isOperand).flatMap(([name]) => (values[name] as string | undefined) ?? [])
  const flags = read(run) as TrainingCommand<Own>['flags']
  const config = flags.config === undefined ? null : settingsIn(family, flags.config)
  if (config !== null && flags.resume) throw new UsageError('--config: expected without --resume, got both')
  return {
    given: { ...config?.given, ...read(settings.filter(isSet)) } as TrainingCommand<Own>['given'],
    flags: { ...flags, ...(config !== null && { steps: flags.steps ?? config.steps }) },
    looks: read(Object.entries(looks)),
    line: shellLine(command, ...words),
    resume: (folder, steps) => shellLine(command, ...operands, '--out', folder, '--resume', '--steps', String(steps)),
  }
}

/** The flags of every run; `--vae` belongs to models of latents. */
function runFlags(command: string, onLatents: boolean): SettingsTable {
  const { vae, out, ...rest } = runTable
  const folder = { ...out, help: `${out.help} (default runs/${command}-PRESET)` }
  return { ...rest, ...(onLatents && { vae }), out: folder }
}

/** A flag that may be repeated is an empty list if it is not given. */
function isAbsent(value: unknown): boolean {
  return value === undefined || (Array.isArray(value) && value.length === 0)
}

/** Key of a setting among the values: the flag without its dashes. */
function keyOf(name: string, setting: Setting): string {
  return 'operand' in setting ? name : flagOf(name, setting).slice(2)
}

function operandOf({ help, ...setting }: Setting): Operand {
  const choices = setting.type === 'text' ? setting.choices : undefined
  return { about: helpOf({ help, ...setting }), choices, ...('default' in setting && { optional: true }) }
}

/** The flag of a setting. A flag that is not given has no value, so that defaults may depend on others. */
function flagFor(setting: Setting): Flag {
  const about = helpOf(setting)
  if (setting.type === 'switch') return { type: 'switch', about }
  if (setting.type === 'text') {
    const { value, choices, many } = setting
    return { type: 'text', value, choices, about, ...(many && { many }) }
  }
  return { type: setting.type, min: setting.min, max: setting.max, about }
}

function helpOf({ help, default: value }: Setting): string {
  if (value === undefined) return help
  return `${help} (default ${typeof value === 'function' ? 'by preset' : value})`
}
