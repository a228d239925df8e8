/**
 * Advice for a run that is slow or does not fit into memory: the flags that help, and their effect. Times follow from the
 * operations that models/cost.ts counts, bytes from memory.ts. Nothing here is measured but the seconds of a step. Runs in a
 * browser, too.
 */

import { gridOf } from '../models/dit.ts'
import type { SettingsTable } from '../models/family.ts'
import type { TransformerOptions } from '../models/index.ts'
import { type Module, shapesOnly } from '../nn/index.ts'
import { countTraining, isFamily, type ModelInTraining } from './memory.ts'
import type { CommonSettings } from './settings.ts'

/** A step that takes longer than this many seconds is slow. */
export const slowStep = 10
/** Smaller gains are not worth a flag. */
const leastGain = 1.5

/** Settings that advice may change. */
export type Change = Partial<Pick<CommonSettings, 'preset' | 'size' | 'batch' | 'parts'>> & {
  readonly checkpointBlocks?: true
}

/** The run with a change, and the flags that make it. */
export interface Variant<Model extends Module, Options, Own extends SettingsTable> {
  readonly run: ModelInTraining<Model, Options, Own>
  readonly flags: string
}

/** A run as it was asked for, and its variants. */
export interface Advised<Model extends Module, Options, Own extends SettingsTable> {
  readonly run: ModelInTraining<Model, Options, Own>
  /** Size, labels and batch stay as they are, unless they change. Null if the change does not fit the run. */
  vary(change: Change): Variant<Model, Options, Own> | null
}

/** Lines for a run whose step takes `seconds`; none if it is fast enough. */
export function timeAdvice<Model extends Module, Options, Own extends SettingsTable>(
  advised: Advised<Model, Options, Own>,
  seconds: number,
): string[] {
  if (seconds <= slowStep) return []
  const { run } = advised
  const gainOf = ({ run: other }: Variant<Model, Options, Own>) => work(run) / work(other)
  const helps = (variant: Variant<Model, Options, Own>) => gainOf(variant) >= leastGain
  const enough = (variant: Variant<Model, Options, Own>) => seconds / gainOf(variant) <= slowStep
  const presets = presetsOf(advised).filter(helps)
  presets.sort((a, b) => gainOf(a) - gainOf(b)) // from the smallest change
  const sizes = run.settings.latents === null ? halves(run.settings.size, 8).map(size => ({ size })) : []
  const batches = halves(run.settings.batch, 1).map(batch => ({ batch }))
  const chosen = [presets, variants(advised, sizes).filter(helps), variants(advised, batches).filter(helps)].flatMap(
    found => found.find(enough) ?? found.at(-1) ?? [],
  )
  if (chosen.length === 0) return []
  return [
    `a step takes ${figure(seconds)} s. Faster are:`,
    ...chosen.map(
      variant => `  ${variant.flags}: ${changesOf(run, variant.run)}, about ${figure(gainOf(variant))} × faster`,
    ),
  ]
}

/** Lines for a run that needs `bytes` at its peak, more than `limit`. */
export function memoryAdvice<Model extends Module, Options, Own extends SettingsTable>(
  advised: Advised<Model, Options, Own>,
  bytes: number,
  limit: number,
): string[] {
  const { run } = advised
  const { batch } = run.settings
  const divisors = Array.from({ length: batch }, (_, i) => i + 1).filter(parts => parts > 1 && batch % parts === 0)
  const groups: readonly (readonly Variant<Model, Options, Own>[])[] = [
    variants(
      advised,
      divisors.map(parts => ({ parts })),
    ),
    variants(advised, [{ checkpointBlocks: true }]),
    variants(
      advised,
      divisors.map(parts => ({ parts, checkpointBlocks: true })),
    ),
    variants(
      advised,
      halves(batch, 1).map(batch => ({ batch })),
    ),
    presetsOf(advised).sort((a, b) => work(b.run) - work(a.run)),
  ]
  const lines: string[] = []
  for (const group of groups) {
    if (lines.length > 1) break // more would not be read
    const fitting = firstFitting(group, limit)
    if (fitting === null) continue
    const { flags, run: other, step } = fitting
    const slower = work(other) / work(run)
    const effects = [changesOf(run, other), slower > 1.05 ? `about ${figure(slower)} × slower` : '']
    const rest = effects.filter(text => text !== '').map(text => `, ${text}`)
    lines.push(`  ${flags}: ${inGiB(step)} instead of ${inGiB(bytes)}${rest.join('')}`)
  }
  const head = `a step needs ${inGiB(bytes)} of memory, ${inGiB(limit)} can be used`
  return lines.length === 0 ? [`${head}, and no flag makes it fit`] : [`${head}. These fit:`, ...lines]
}

/** The first variant whose step fits, and its bytes; null if there is none. The last variant needs the least memory. */
function firstFitting<Model extends Module, Options, Own extends SettingsTable>(
  all: readonly Variant<Model, Options, Own>[],
  limit: number,
): (Variant<Model, Options, Own> & { readonly step: number }) | null {
  const last = all.at(-1)
  if (last === undefined || countTraining(last.run).step > limit) return null
  for (const variant of all) {
    const { step } = countTraining(variant.run)
    if (step <= limit) return { ...variant, step }
  }
  return null
}

function variants<Model extends Module, Options, Own extends SettingsTable>(
  { vary }: Advised<Model, Options, Own>,
  changes: readonly Change[],
): Variant<Model, Options, Own>[] {
  return changes.flatMap(change => vary(change) ?? [])
}

/** Presets of models that are not larger but do less work; none for a model without a formula for its work. */
function presetsOf<Model extends Module, Options, Own extends SettingsTable>(
  advised: Advised<Model, Options, Own>,
): Variant<Model, Options, Own>[] {
  const { run } = advised
  if (!isFamily(run.family)) return []
  const all = variants(
    advised,
    run.family.presets.map(preset => ({ preset })),
  )
  const most = 1.1 * parametersOf(run) // patches of another size change a few
  return all.filter(({ run: other }) => work(other) < work(run) && parametersOf(other) <= most)
}

/** Operations of a step, up to a factor that all variants of a run share. */
function work<Model extends Module, Options, Own extends SettingsTable>({
  family,
  options,
  settings,
}: ModelInTraining<Model, Options, Own>): number {
  const { batch, size } = settings
  // Without a formula: convolutions, whose work follows the number of pixels.
  if (!isFamily(family)) return batch * size ** 2
  const { forward, step } = family.cost(options as TransformerOptions, batch)
  return 'checkpointBlocks' in settings && settings.checkpointBlocks ? step + forward : step
}

/** What a variant changes, in words: tokens, parameters, pictures a step. */
function changesOf<Model extends Module, Options, Own extends SettingsTable>(
  before: ModelInTraining<Model, Options, Own>,
  after: ModelInTraining<Model, Options, Own>,
): string {
  const words: string[] = []
  const add = (unit: string, [had, has]: readonly (number | string)[]) => {
    if (had !== has) words.push(`${has} ${unit} instead of ${had}`)
  }
  const runs = [before, after] as const
  if (isFamily(before.family)) add('tokens', runs.map(tokensOf))
  else
    add(
      'pixels',
      runs.map(({ settings }) => settings.size ** 2),
    )
  if (before.settings.preset !== after.settings.preset)
    add(
      'M parameters',
      runs.map(run => (parametersOf(run) / 1e6).toFixed(1)),
    )
  add(
    'pictures a step',
    runs.map(({ settings }) => settings.batch),
  )
  return words.join(', ')
}

function tokensOf({ options }: { readonly options: unknown }): number {
  const [rows, columns] = gridOf(options as TransformerOptions)
  return rows * columns
}

function parametersOf<Model extends Module, Options, Own extends SettingsTable>({
  family,
  options,
}: ModelInTraining<Model, Options, Own>): number {
  return family.make(options, shapesOnly).countParameters().total
}

/** Half of a number, half of that, … while they are whole and at least `least`. */
function halves(value: number, least: number): number[] {
  const half = value / 2
  return Number.isInteger(half) && half >= least ? [half, ...halves(half, least)] : []
}

function figure(value: number): string {
  return String(Number(value.toPrecision(2)))
}

/** A number of bytes in GiB. */
export function inGiB(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`
}
