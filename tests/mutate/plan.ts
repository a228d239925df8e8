/**
 * Which mutants are tried, and against which tests. A sample takes from every file in proportion to its mutants; a mutant
 * goes through its folder's quick tests, those first that know the most names of its file, and if it survives them, through the wider ones.
 * Needs Node.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { rng } from '../../core/random.ts'
import { read, root } from '../repo/markdown.ts'
import { changeOf, type Mutant, mutantsOf } from './mutants.ts'

interface Stratum {
  readonly files: RegExp
  readonly quick: readonly string[]
  readonly wide: readonly string[]
}

/** The first that fits. Data and training have tests of another kind: `npm run crash` and `npm run fuzz`. */
const strata: readonly Stratum[] = [
  {
    files: /^core\/ops\//,
    quick: ['core/core', 'core/properties', 'core/tape', 'core/second-order', 'core/registry'],
    wide: ['core/cpu', 'core/scope', 'core/checkpoint', 'nn/nn', 'core/wasm', 'parity/parity'],
  },
  {
    files: /^nn\//,
    quick: ['nn/nn', 'nn/optim', 'training/training-parts'],
    wide: ['models/models', 'models/maskdm', 'training/step-guard', 'parity/parity'],
  },
  {
    files: /^evaluation\//,
    quick: ['evaluation/evaluation', 'evaluation/evaluation-doubles', 'evaluation/features', 'evaluation/inception'],
    wide: ['cli/evaluate', 'parity/parity'],
  },
  {
    files: /^diffusion\//,
    quick: [
      'diffusion/diffusion',
      'diffusion/samplers',
      'diffusion/masking',
      'diffusion/block-masks',
      'diffusion/inpainting',
    ],
    wide: [
      'models/maskdm-diffusion',
      'models/maskdit',
      'diffusion/closed-form',
      'models/mdt-ablations',
      'models/families',
      'parity/parity',
    ],
  },
  {
    files: /^models\//,
    quick: ['models/models', 'models/maskdit', 'models/maskdm', 'models/mdt-ablations', 'models/autoencoder-kl'],
    wide: [
      'models/maskdm-diffusion',
      'models/transfer',
      'diffusion/masking',
      'evaluation/features',
      'diffusion/inpainting',
      'parity/parity',
    ],
  },
]

function stratumOf(file: string): Stratum | undefined {
  return strata.find(({ files }) => files.test(file))
}

/** The files that are changed. */
export function files(): string[] {
  return ['core', 'nn', 'evaluation', 'diffusion', 'models']
    .flatMap(folder =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(name => `${folder}/${name}`),
    )
    .filter(file => file.endsWith('.ts') && !file.endsWith('/index.ts') && stratumOf(file) !== undefined)
    .sort()
}

/** All mutants of all files. */
export function population(): Mutant[] {
  return files().flatMap(file => mutantsOf(file, read(file)))
}

/** A change that no test can notice. */
export interface Equivalent {
  readonly file: string
  /** The line's text, without indentation. */
  readonly line: string
  readonly change: string
  readonly reason: string
}

export function equivalents(): Equivalent[] {
  return JSON.parse(readFileSync(join(import.meta.dirname, 'equivalent.json'), 'utf8'))
}

/** True if the list has a mutant. */
export function isEquivalent(mutant: Mutant): boolean {
  return equivalents().some(
    ({ file, line, change }) => file === mutant.file && line === mutant.text && change === changeOf(mutant),
  )
}

/**
 * `count` mutants, from every file in proportion to those it has. The same seed and source give the same ones; a larger
 * count begins with those of a smaller one where a file's share allows.
 */
export function sample(mutants: readonly Mutant[], count: number, seed: number): Mutant[] {
  const byFile = new Map<string, Mutant[]>()
  for (const mutant of mutants) byFile.set(mutant.file, [...(byFile.get(mutant.file) ?? []), mutant])
  const share = (file: string) => (count * byFile.get(file)!.length) / mutants.length
  const names = [...byFile.keys()]
  const taken = new Map(names.map(file => [file, Math.floor(share(file))]))
  // The rest goes to the largest remainders.
  const rest = count - [...taken.values()].reduce((sum, n) => sum + n, 0)
  const remainder = (file: string) => share(file) % 1
  for (const file of [...names].sort((a, b) => remainder(b) - remainder(a)).slice(0, rest))
    taken.set(file, taken.get(file)! + 1)
  const chosen = names.flatMap(file => shuffled(byFile.get(file)!, rng(seed).fork(file)).slice(0, taken.get(file)))
  return shuffled(chosen, rng(seed))
}

function shuffled<T>(values: readonly T[], random: ReturnType<typeof rng>): T[] {
  const keys = random.uniformArray(values.length)
  return values
    .map((value, i) => ({ value, key: keys[i] }))
    .sort((a, b) => a.key - b.key)
    .map(({ value }) => value)
}

/** The test files for a mutant, in the order in which they are run. */
export function testsOf({ file }: Mutant): string[] {
  const { quick, wide } = stratumOf(file)!
  const names = [...read(file).matchAll(/^export (?:async )?(?:function|const|class) (\w+)/gm)].map(match => match[1])
  const known = (test: string) => {
    const text = read(`tests/${test}.test.ts`)
    return names.filter(name => new RegExp(`\\b${name}\\b`).test(text)).length
  }
  return [quick, wide].flatMap(tests => [...tests].sort((a, b) => known(b) - known(a)))
}

/** Wilson's interval at 95 % for `hits` of `count`. */
export function wilson(hits: number, count: number): [number, number] {
  if (count === 0) return [0, 1]
  const z = 1.959964
  const p = hits / count
  const centre = p + z ** 2 / (2 * count)
  const half = z * Math.sqrt((p * (1 - p)) / count + z ** 2 / (4 * count ** 2))
  const scale = 1 + z ** 2 / count
  return [Math.max(0, (centre - half) / scale), Math.min(1, (centre + half) / scale)]
}
