/** A run as advice.ts looks at it: with its variants, and the flags that make them. Runs in a browser, too. */

import { UserError } from '../io/user-error.ts'
import type { SettingsTable, Trainable } from '../models/family.ts'
import type { Module } from '../nn/index.ts'
import type { Advised, Change } from './advice.ts'
import type { ModelInTraining } from './memory.ts'
import { flagOf, type Settings, settingsTable } from './settings.ts'

/** A new run whose settings are known. */
export interface SettledRun<Model extends Module, Options, Own extends SettingsTable> {
  readonly family: Trainable<Model, Options, Own>
  readonly given: Partial<Settings<Own>>
  readonly settings: Settings<Own>
  readonly data: { readonly channels: number; readonly size: number; readonly classes: readonly string[] }
  /** Settings of a run that is given others. Throws UserError or RangeError where they contradict each other. */
  settle(given: Partial<Settings<Own>>): Settings<Own>
  /** Throws UserError if options do not fit the settings. */
  check?(options: Options, settings: Settings<Own>): void
}

/** Settings that a variant keeps, unless it changes them: a preset follows from the size, and has defaults of its own. */
const kept = ['preset', 'size', 'labels', 'batch'] as const

/** The run and its variants. */
export function advisedRun<Model extends Module, Options, Own extends SettingsTable>({
  family,
  given,
  settings,
  data,
  settle,
  check,
}: SettledRun<Model, Options, Own>): Advised<Model, Options, Own> {
  const table = settingsTable(family)
  const withSettings = (settings: Settings<Own>): ModelInTraining<Model, Options, Own> => {
    const { preset, labels, latents } = settings
    const size = latents === null ? settings.size : data.size
    const numClasses = labels === 'yes' ? data.classes.length : 0
    const options = family.options(preset, { inputSize: size, inChannels: data.channels, numClasses }, settings)
    check?.(options, settings)
    return { family, options, settings, images: { channels: data.channels, size }, labelled: numClasses > 0 }
  }
  const vary = (change: Change) => {
    const names = kept.filter(name => name in table && !(name === 'size' && settings.latents !== null))
    const same = Object.fromEntries(names.map(name => [name, settings[name]]))
    // A flag for each that would change too; one may bring others back, as a preset its batch.
    let changed: Readonly<Record<string, unknown>> = change
    for (const name of names) {
      const isSame = name in change || settle({ ...given, ...changed })[name] === settings[name]
      if (!isSame) changed = { ...changed, [name]: settings[name] }
    }
    return {
      run: withSettings(settle({ ...given, ...same, ...change })),
      flags: Object.entries(changed)
        .map(([name, value]) => (value === true ? flagOf(name, table[name]) : `${flagOf(name, table[name])} ${value}`))
        .join(' '),
    }
  }
  return {
    run: withSettings(settings),
    vary(change) {
      if (!Object.keys(change).every(name => name in table)) return null
      try {
        return vary(change)
      } catch (error) {
        if (error instanceof UserError || error instanceof RangeError) return null // it does not fit
        throw error
      }
    },
  }
}
