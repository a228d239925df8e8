/**
 * The settings of a run as a file: its run.json, from which `--config` starts the same run elsewhere. Needs Node. Values are
 * checked as those of a command line are.
 */

import { readFileSync } from 'node:fs'
import { reason, UserError } from '../io/user-error.ts'
import type { Setting, SettingsTable, Trainable } from '../models/family.ts'
import type { Module } from '../nn/index.ts'
import type { RunFile } from './readme.ts'
import { newSettings, type Settings, settingsTable } from './settings.ts'

/** What a run.json says of a run. */
export interface RunConfig {
  /** The program that trains: 'train mdt'. */
  readonly program: string
  readonly settings: Readonly<Record<string, unknown>>
  /** Number of its last step. */
  readonly steps: number | undefined
}

/** Reads a run.json. Throws UserError on a file that is none, or that an earlier version wrote without settings. */
export function readConfig(path: string): RunConfig {
  let file: (RunFile & { readonly described?: Partial<RunConfig> }) | null
  try {
    file = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new UserError(`--config: expected a run.json: ${path}: ${reason(error)}`)
  }
  const { program, settings } = file?.described ?? {}
  if (typeof program !== 'string' || typeof settings !== 'object' || settings === null)
    throw new UserError(`--config: expected a run.json with the program and settings of a run, got ${path}`)
  const steps = file?.steps ?? settings.steps ?? undefined
  if (steps !== undefined && !(Number.isSafeInteger(steps) && Number(steps) >= 1))
    throw new UserError(`--config: ${path}: steps: expected a whole number of at least 1, got ${JSON.stringify(steps)}`)
  return { program, settings, steps: steps === undefined ? undefined : Number(steps) }
}

/**
 * The settings in `path` for a new run of `family`, as if they were given by flags. Throws UserError, with the name of the
 * setting, on a run of another program, on a setting that does not exist and on a value out of its range.
 */
export function settingsIn<Model extends Module, Options, Own extends SettingsTable>(
  family: Trainable<Model, Options, Own>,
  path: string,
): { readonly given: Partial<Settings<Own>>; readonly steps: number | undefined } {
  const { program, settings, steps } = readConfig(path)
  if (program !== `train ${family.command}`)
    throw new UserError(`--config: expected a run of train ${family.command}, got one of ${program}: ${path}`)
  const table = settingsTable(family)
  const known = new Set([...Object.keys(table), ...Object.keys(newSettings(family)), 'latents'])
  // A run on latents has the size and the name of their pictures from their folder.
  const followed = settings.latents == null ? ['steps'] : ['steps', 'data', 'size']
  const given: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(settings)) {
    if (!known.has(name))
      throw new UserError(`--config: ${path}: expected settings of train ${family.command}, got ${name}`)
    if (value === null || followed.includes(name)) continue
    if (name in table) check(value, table[name], `--config: ${path}: ${name}`)
    given[name] = value
  }
  return { given: given as Partial<Settings<Own>>, steps }
}

/** Throws UserError on a value that the setting does not take. */
function check(value: unknown, setting: Setting, where: string): void {
  const refuse = (wanted: string) => {
    throw new UserError(`${where}: expected ${wanted}, got ${JSON.stringify(value)}`)
  }
  if (setting.type === 'switch') {
    if (typeof value !== 'boolean') refuse('true or false')
  } else if (setting.type === 'text') {
    const { choices } = setting
    const texts = 'many' in setting && Array.isArray(value) ? value : [value]
    if (!texts.every(text => typeof text === 'string')) refuse('text')
    if (choices !== undefined && !texts.every(text => choices.includes(text))) refuse(`one of ${choices.join(', ')}`)
  } else {
    const { type, min, max = Infinity } = setting
    const right = type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)
    const range = max === Infinity ? `of at least ${min}` : `in [${min}, ${max}]`
    if (!right || Number(value) < min || Number(value) > max)
      refuse(`${type === 'integer' ? 'a whole number' : 'a number'} ${range}`)
  }
}
