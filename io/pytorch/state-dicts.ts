/**
 * The state dicts in what a checkpoint holds: `{'model': …, 'ema': …, 'opt': …}`, one inside the other, the weights alone,
 * or a whole module. Training programs name them as they like. Here the name of one is the keys that lead to it, joined by
 * dots. The usual names are known, so most files need no flag.
 */

import { sizeOf } from '../../core/shape.ts'
import { quote } from '../safetensors-elements.ts'
import { Inert, PickleError } from './pickle.ts'
import { StoredTensor } from './stored-tensor.ts'

export type StateDict = ReadonlyMap<string, StoredTensor>

/** Dicts inside dicts that are looked into. */
const deepest = 4
/** Modules of a whole model, and modules inside modules. */
const mostModules = 2 ** 16
const deepestModule = 64
const longestName = 1000

/** Names in order of preference: averaged weights are those that papers sample with. The file's own dict is ''. */
const averaged = [
  'ema',
  'model_ema',
  'ema_model',
  'ema_state_dict',
  'state_dict_ema',
  'ema_weights',
  'params_ema',
  'shadow',
]
const plain = ['state_dict', 'model_state_dict', 'model', 'net', 'network', 'params', 'weights', 'module', '']

/** Dicts of training programs that hold numbers of their own beside weights. */
const isState = /(^|\.)(opt|sched|lr_sched|scaler)/i

/** All dicts with tensors, by the keys that lead to them; '' is the file's own. */
export function stateDicts(root: unknown): Map<string, StateDict> {
  const found = new Map<string, StateDict>()
  const seen = new Set<unknown>()
  let level: [path: readonly string[], value: unknown][] = [[[], root]]
  for (let depth = 0; depth <= deepest; depth++) {
    const next: typeof level = []
    for (const [path, value] of level) {
      if (seen.has(value)) continue
      seen.add(value)
      const module = moduleTensors(value)
      const entries = module === null ? entriesOf(value) : []
      const tensors =
        module ?? entries.filter((entry): entry is [string, StoredTensor] => entry[1] instanceof StoredTensor)
      if (tensors.length > 0) found.set(path.join('.'), new Map(tensors))
      for (const [key, each] of entries)
        if (each instanceof Map || each instanceof Inert) next.push([[...path, key], each])
    }
    level = next
  }
  return found
}

/** Named values of a dict, of an object like one, or of an object's fields. */
function entriesOf(value: unknown): [string, unknown][] {
  if (value instanceof Inert) return [...entriesOf(value.items), ...entriesOf(value.state)]
  if (!(value instanceof Map)) return []
  return Array.from(value).flatMap(([key, each]) => (isName(key) ? [[String(key), each]] : []))
}

/** Optimizers number their parameters. */
function isName(key: unknown): key is string | number {
  return (typeof key === 'string' && key.length <= longestName) || typeof key === 'number'
}

/** The tensors of a whole module that was saved, under the names of its state dict; null for another value. */
function moduleTensors(root: unknown): [string, StoredTensor][] | null {
  if (fields(root, '_modules') === null || fields(root, '_parameters') === null) return null
  const tensors: [string, StoredTensor][] = []
  const stack: { readonly module: unknown; readonly prefix: string; readonly depth: number }[] = [
    { module: root, prefix: '', depth: 0 },
  ]
  for (let modules = 0; modules < mostModules; modules++) {
    const next = stack.pop()
    if (next === undefined) break
    const { module, prefix, depth } = next
    const own = [...entriesOf(fields(module, '_parameters')), ...entriesOf(fields(module, '_buffers'))]
    for (const [name, value] of own) if (value instanceof StoredTensor) tensors.push([prefix + name, value])
    const children = entriesOf(fields(module, '_modules'))
    for (const [name, child] of children.reverse())
      if (depth < deepestModule && prefix.length + name.length < longestName)
        stack.push({ module: child, prefix: `${prefix}${name}.`, depth: depth + 1 })
  }
  return tensors
}

/** A dict among the fields of an object; null where it has none. */
function fields(value: unknown, name: string): Map<unknown, unknown> | null {
  const found = value instanceof Inert && value.state instanceof Map ? value.state.get(name) : null
  return found instanceof Map ? found : null
}

/** Which state dict is wanted: `part` must be there, `weights` is taken where it holds weights. */
export interface WhichDict {
  readonly part?: string
  readonly weights?: string
}

/**
 * The state dict that is asked for, or else the one by the usual names that holds weights, or the only one. A dict of counters,
 * such as the state of an average, holds none. Throws PickleError, with the names that there are.
 */
export function chooseStateDict(
  dicts: ReadonlyMap<string, StateDict>,
  { part, weights }: WhichDict,
  file: string,
): string {
  if (part !== undefined && dicts.has(part)) return part
  const usual = weights === 'model' ? [...plain, ...averaged] : [...averaged, ...plain]
  const chosen =
    part === undefined ? choose(withWeights(dicts), weights === undefined ? usual : [weights, ...usual]) : undefined
  if (chosen !== undefined) return chosen
  const names = [...dicts.keys()]
  const listed = names
    .slice(0, 12)
    .map(name => `${name === '' ? 'the file itself' : quote(name)} (${dicts.get(name)!.size})`)
  const got = names.length === 0 ? 'none' : listed.join(', ') + (names.length > listed.length ? ', …' : '')
  const what = part === undefined ? 'a state dict with a usual name' : `a state dict ${quote(part)}`
  throw new PickleError(`${file}: expected ${what}, got ${got}`)
}

/**
 * Names of the dicts that are no state of training and hold more than single numbers: at least a hundredth of the elements of
 * the largest.
 */
function withWeights(dicts: ReadonlyMap<string, StateDict>): string[] {
  const names = [...dicts.keys()].filter(name => !isState.test(name))
  const sizes = names.map(name => {
    const counts = Array.from(dicts.get(name)!.values(), ({ shape }) => sizeOf(shape))
    return counts.every(count => count <= 1) ? 0 : counts.reduce((sum, count) => sum + count, 0)
  })
  const largest = sizes.reduce((most, size) => Math.max(most, size), 0)
  return names.filter((_, i) => largest === 0 || (sizes[i] > 0 && 100 * sizes[i] >= largest))
}

/** The first of the usual names, or what it leads to: 'ema' is also 'ema.shadow'. Else the only name. */
function choose(names: readonly string[], usual: readonly string[]): string | undefined {
  for (const name of usual) {
    if (names.includes(name)) return name
    const below = names.filter(each => each.startsWith(`${name}.`)).map(each => each.slice(name.length + 1))
    const chosen = below.length === 0 ? undefined : choose(below, usual)
    if (chosen !== undefined) return `${name}.${chosen}`
  }
  return names.length === 1 ? names[0] : undefined
}

/** Parts that wrappers add to names, at any position: DataParallel, torch.compile, FSDP and activation checkpointing. */
const wrappers = new Set(['module', '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'])

/**
 * The same tensors under their names without wrappers, and without the counter that AveragedModel adds. Where two names
 * would become one, all stay as they are.
 */
export function unwrapped<T>(tensors: ReadonlyMap<string, T>): ReadonlyMap<string, T> {
  const short = (name: string) => {
    const parts = name.split('.')
    return parts.filter((part, i) => i === parts.length - 1 || !wrappers.has(part)).join('.')
  }
  const after = new Map(Array.from(tensors, ([name, tensor]) => [short(name), tensor]))
  if (after.size < tensors.size) return tensors
  const isAverage = tensors.has('n_averaged') && [...tensors.keys()].some(name => name.startsWith('module.'))
  if (isAverage) after.delete('n_averaged')
  return after
}
