/**
 * The state dicts in what a checkpoint holds: `{'model': …, 'ema': …, 'opt': …}`, one inside the other, or the weights
 * alone. Training programs name them as they like; here one is called by the keys that lead to it, joined by dots, and
 * the usual names are known, so that most files need not be told which.
 */

import { quote } from '../safetensors-elements.ts'
import { PickleError } from './pickle.ts'
import { StoredTensor } from './stored-tensor.ts'

export type StateDict = ReadonlyMap<string, StoredTensor>

/** Dicts inside dicts that are looked into. */
const deepest = 4

/** What is wanted most first: averaged weights are those that papers draw with. The file's own dict is ''. */
const usual = [
  'ema',
  'model_ema',
  'ema_state_dict',
  'state_dict_ema',
  'state_dict',
  'model_state_dict',
  'model',
  'module',
  '',
]

/** All dicts with tensors, by the keys that lead to them; '' is the file's own. */
export function stateDicts(root: unknown): Map<string, StateDict> {
  const found = new Map<string, StateDict>()
  const seen = new Set<unknown>()
  let level: [path: readonly string[], value: unknown][] = [[[], root]]
  for (let depth = 0; depth <= deepest; depth++) {
    const next: typeof level = []
    for (const [path, value] of level) {
      if (!(value instanceof Map) || seen.has(value)) continue
      seen.add(value)
      const entries = [...value].flatMap(([key, each]) => (isName(key) ? [[String(key), each] as const] : []))
      const tensors = entries.filter((entry): entry is [string, StoredTensor] => entry[1] instanceof StoredTensor)
      if (tensors.length > 0) found.set(path.join('.'), new Map(tensors))
      for (const [key, each] of entries) next.push([[...path, key], each])
    }
    level = next
  }
  return found
}

/** Optimizers number their parameters. */
function isName(key: unknown): key is string | number {
  return typeof key === 'string' || typeof key === 'number'
}

/**
 * The state dict called `wanted`, or without it the one by the usual names, or the only one that is not an optimizer's.
 * Throws PickleError, with the names that there are.
 */
export function chooseStateDict(
  dicts: ReadonlyMap<string, StateDict>,
  wanted: string | undefined,
  file: string,
): string {
  const names = [...dicts.keys()]
  const listed = names
    .slice(0, 12)
    .map(name => `${name === '' ? 'the file itself' : quote(name)} (${dicts.get(name)!.size})`)
  const got = names.length === 0 ? 'none' : listed.join(', ') + (names.length > listed.length ? ', …' : '')
  const only = names.filter(name => !/^opt/.test(name))
  const chosen =
    wanted === undefined ? (usual.find(name => dicts.has(name)) ?? (only.length === 1 ? only[0] : undefined)) : wanted
  if (chosen !== undefined && dicts.has(chosen)) return chosen
  const what = wanted === undefined ? 'a state dict with a usual name' : `a state dict ${quote(wanted)}`
  throw new PickleError(`${file}: wanted ${what}, got ${got}`)
}

/** Prefixes that wrappers leave in front of every name: DistributedDataParallel and torch.compile. */
const wrappers = ['module.', '_orig_mod.']

/** The same tensors, without prefixes of wrappers that all names have. */
export function unwrapped<T>(tensors: ReadonlyMap<string, T>): ReadonlyMap<string, T> {
  const names = [...tensors.keys()]
  const prefix = wrappers.find(each => names.length > 0 && names.every(name => name.startsWith(each)))
  if (prefix === undefined) return tensors
  return unwrapped(new Map(Array.from(tensors, ([name, tensor]) => [name.slice(prefix.length), tensor])))
}
