/**
 * Transfer: a model starts from the weights of another one of its family, which may have other classes, another size of
 * pictures, or an output with or without variances. Each family's record lists rules for the tensors that depend on these
 * (transfer-rules.ts); all others are copied. Nothing is dropped silently: the report says what became of every tensor.
 */

import { aFunction, anObject, aString, check, type Kind, optional, strings } from '../core/arguments.ts'
import type { Shape } from '../core/index.ts'
import { sameShape, show } from '../core/shape.ts'
import { atCaller } from '../core/traceback.ts'
import type { HostState, Module, StateSource } from '../nn/index.ts'
import { aModule, aStateSource } from '../nn/module.ts'
import { checkSizesOf } from './arguments.ts'
import type { TransformerOptions } from './dit.ts'
import type { Family, Recognised } from './family.ts'

/** Recognised weights, and the names of their classes if they are known. */
export interface Pretrained extends Pick<Recognised, 'family' | 'options' | 'state'> {
  readonly classes?: readonly string[]
}

/** The model that weights are transferred to. */
export interface TransferTarget {
  readonly options: TransformerOptions
  /** Names of its classes, if they are known. */
  readonly classes?: readonly string[]
}

/** Outcome for a tensor. */
export type Fate = 'taken' | 'resized' | 'new' | 'left out'

/** A tensor of the model or of the weights. */
export interface TransferredTensor {
  readonly name: string
  /** In the model; of a tensor that is left out, in the weights. */
  readonly shape: Shape
  readonly fate: Fate
  /** Change to the tensor, if it was not just copied. */
  readonly detail?: string
}

/** Facts that a rule may use. */
export interface TransferContext {
  /** Options of the weights. */
  readonly from: TransformerOptions
  /** Options of the model. */
  readonly to: TransformerOptions
  /** For each class of the model, the class of the weights whose row it takes; −1 for none. */
  readonly classes: readonly number[]
  /** A tensor of the weights. */
  saved(name: string): HostState | undefined
  /** True if the model has such a tensor. */
  has(name: string): boolean
}

/** Result of a rule. */
export interface Adapted {
  /** Values in the model's shape; null to keep the model's own. */
  readonly values: ArrayLike<number> | null
  readonly fate: Fate
  readonly detail?: string
}

/**
 * Adapts one tensor. `own` holds the model's first values, and `saved` those of the weights; one of the two may be
 * undefined. Returns null if the two do not fit.
 */
export type TransferRule = (
  own: HostState | undefined,
  saved: HostState | undefined,
  context: TransferContext,
) => Adapted | null

/** Rules by the names that they are for; the first match counts. */
export type TransferRules = readonly (readonly [name: RegExp, rule: TransferRule])[]

const aFamily: Kind = {
  expected: 'the record of a family',
  accepts: value => {
    const { name, recognise, training } = Object(value) as Partial<Family>
    return aString.accepts(name) && aFunction.accepts(recognise) && anObject.accepts(training)
  },
}

/**
 * Puts pretrained weights into a model of `family`, and returns what became of each tensor. Class rows are taken by name
 * if both sides name their classes, else by index if there are as many. Rejects with RangeError on weights of another
 * family, and on ones that differ in more than classes, size and variances; then the model is unchanged.
 */
export async function transferWeights(
  family: Family,
  model: Module,
  target: TransferTarget,
  from: Pretrained,
): Promise<readonly TransferredTensor[]> {
  check('transferWeights', 'family', family, aFamily)
  check('transferWeights', 'model', model, aModule)
  check('transferWeights', 'target', target, anObject)
  checkSizesOf('transferWeights', target.options)
  check('transferWeights', 'target.classes', target.classes, optional(strings))
  check('transferWeights', 'from', from, anObject)
  check('transferWeights', 'from.family', from.family, aFamily)
  checkSizesOf('transferWeights', from.options)
  check('transferWeights', 'from.classes', from.classes, optional(strings))
  check('transferWeights', 'from.state', from.state, aStateSource)
  if (from.family.name !== family.name)
    throw atCaller(
      new RangeError(`transferWeights: expected weights of ${family.name}, got those of ${from.family.name}`),
    )
  const rules = family.training.transfer ?? []
  const own = model.stateDict()
  const context: TransferContext = {
    from: from.options,
    to: target.options,
    classes: classRows(target, from),
    saved: name => from.state.get(name),
    has: name => own.has(name),
  }
  const loaded = new Map<string, HostState>()
  const report: TransferredTensor[] = []
  const problems: string[] = []
  for (const name of new Set([...own.keys(), ...from.state.keys()])) {
    const [tensor, saved] = [own.get(name), from.state.get(name)]
    const rule = rules.find(([names]) => names.test(name))?.[1] ?? copied
    const first = tensor && { shape: tensor.shape, data: rule === copied ? [] : await tensor.data() }
    const adapted = rule(first, saved, context)
    const shape = (first ?? saved)!.shape
    if (adapted === null) problems.push(problem(name, first, saved))
    else {
      report.push({ name, shape, fate: adapted.fate, detail: adapted.detail })
      if (adapted.values !== null) loaded.set(name, { shape, data: adapted.values })
      else if (adapted.fate === 'taken' && saved !== undefined) loaded.set(name, saved)
    }
  }
  if (problems.length > 0 || target.options.numHeads !== from.options.numHeads)
    throw mismatch(family, model, target.options, from.options, problems)
  model.loadStateDict(loaded as StateSource, { strict: false })
  return report
}

/** The rule for tensors that do not depend on classes, size and variances. */
const copied: TransferRule = (own, saved) =>
  own !== undefined && saved !== undefined && sameShape(own.shape, saved.shape) ? { values: null, fate: 'taken' } : null

/** For each class of the model, the one of the weights that it starts from; −1 for none. */
function classRows(target: TransferTarget, from: Pretrained): number[] {
  const [count, had] = [target.options.numClasses, from.options.numClasses]
  const [names, before] = [target.classes, from.classes]
  if (names !== undefined && before !== undefined && names.length === count && before.length === had)
    return names.map(name => before.indexOf(name))
  return Array.from({ length: count }, (_, i) => (count === had ? i : -1))
}

function problem(name: string, own: HostState | undefined, saved: HostState | undefined): string {
  const shapeOf = (state: HostState | undefined) => (state === undefined ? 'none' : show(state.shape))
  return `${name} ${shapeOf(own)}, got ${shapeOf(saved)}`
}

/** Sizes that transfer cannot change, in words. */
const fixedSizes = {
  patchSize: 'a patch size of',
  inChannels: 'channels',
  hiddenSize: 'a width of',
  depth: 'blocks',
  numHeads: 'heads',
  mlpRatio: 'an MLP ratio of',
} as const satisfies Partial<Record<keyof TransformerOptions, string>>

/** Returns the error about weights that do not fit: in words where sizes differ, else with the first such tensors. */
function mismatch(
  family: Family,
  model: Module,
  { numHeads }: TransformerOptions,
  from: TransformerOptions,
  problems: readonly string[],
): RangeError {
  // Sizes as names and shapes tell them, on both sides: MaskDM of 4 blocks has those of 5.
  const shapes = new Map(Array.from(model.stateDict(), ([name, { shape }]) => [name, { shape, data: [] }]))
  const to = family.recognise(shapes, 'the model', { heads: numHeads, decoderHeads: 1 })?.options
  const keys = (Object.keys(fixedSizes) as (keyof typeof fixedSizes)[]).filter(key => to && to[key] !== from[key])
  const expected = `transferWeights: expected ${family.name} weights with`
  if (to === undefined || keys.length === 0) {
    const more = problems.length > 4 ? ` and ${problems.length - 4} more` : ''
    return new RangeError(`${expected} ${problems.slice(0, 4).join('; ')}${more}`)
  }
  const say = (options: TransformerOptions) => keys.map(key => `${fixedSizes[key]} ${options[key]}`).join(', ')
  return new RangeError(`${expected} ${say(to)}, got ${say(from)}`)
}

const aReport: Kind = {
  expected: 'a list of transferred tensors',
  accepts: value => Array.isArray(value) && value.every(each => anObject.accepts(each) && 'fate' in each),
}

/**
 * Lists a report as a table of lines, fate first: numbers in names become `*`, and tensors that share name and fate one line.
 * Tensors that were taken as they are become one line of their count.
 */
export function transferTable(report: readonly TransferredTensor[]): string[] {
  check('transferTable', 'report', report, aReport)
  const size = (shape: Shape) => shape.reduce((a, b) => a * b, 1)
  const lines: string[] = []
  const row = (fate: string, text: string) => lines.push(`  ${fate.padEnd(9)} ${text}`)
  const whole = report.filter(({ fate, detail }) => fate === 'taken' && detail === undefined)
  if (whole.length > 0) {
    const numbers = whole.reduce((sum, { shape }) => sum + size(shape), 0)
    row('taken', `${whole.length} tensors, ${numbers.toLocaleString('en')} numbers`)
  }
  for (const fate of ['taken', 'resized', 'new', 'left out'] as const) {
    const groups = new Map<string, { readonly name: string; readonly detail: string; readonly count: number }>()
    for (const tensor of report) {
      if (tensor.fate !== fate || whole.includes(tensor)) continue
      const name = tensor.name.replace(/\.\d+(?=\.)/g, '.*')
      const detail = tensor.detail ?? show(tensor.shape)
      const group = groups.get(`${name} ${detail}`) ?? { name: tensor.name, detail, count: 0 }
      groups.set(
        `${name} ${detail}`,
        group.count === 0 ? { ...group, count: 1 } : { name, detail, count: group.count + 1 },
      )
    }
    for (const { name, detail, count } of groups.values())
      row(fate, `${name}${count > 1 ? ` (${count})` : ''}: ${detail}`)
  }
  return lines
}
