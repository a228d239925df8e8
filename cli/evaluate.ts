/**
 * `demask evaluate`: how near pictures are to a reference, by the features of a network: Fréchet distances, a score of
 * classes, precision and recall. Needs Node. What the numbers are: docs/evaluation.md; the mathematics:
 * evaluation/; how sets are measured: evaluate-measure.ts.
 */

import { ready } from '../core/index.ts'
import { classFromHelp, classSources } from '../data/index.ts'
import { init, launched, threadsPerRank } from '../distributed/index.ts'
import { readStatistics, type StoredStatistics, writeStatistics } from '../evaluation/feature-statistics.ts'
import { UserError } from '../io/user-error.ts'
import { checkRanksFlag } from '../training/settings.ts'
import { demask } from './command.ts'
import { compared, type Measured, measuredOf, merge, type Part, type Results } from './evaluate-measure.ts'
import { emoji, inception, isFolder, type Measure, openSource, type Source } from './evaluate-sets.ts'
import { readFlags } from './flags.ts'
import { ranksIn, runRanks } from './run-ranks.ts'

export async function run(words: readonly string[]): Promise<void> {
  const ranks = ranksIn(words)
  if (ranks !== null && launched() === null) return runRanks(ranks)
  const given = readFlags(
    {
      command: `${demask} evaluate`,
      about:
        'Compares pictures with a reference. Each is a folder of pictures, an .npz of pictures (arr_0) or of statistics ' +
        '(mu, sigma), statistics that --save wrote, or a data set as training takes them.',
      operands: {
        samples: { about: 'the pictures in question' },
        reference: { about: 'what they should be like', optional: true },
      },
      flags: {
        inception: {
          type: 'text',
          value: 'FILE',
          about: "pytorch-fid's weights, .pth or .safetensors, for FID (default emoji features, which are not FID)",
        },
        save: { type: 'text', value: 'FILE', about: 'keep statistics of the samples, .safetensors or .npz' },
        part: { type: 'text', value: 'I/N', about: 'measure only the I-th of N parts of the samples' },
        with: { type: 'text', value: 'FILE', many: true, about: 'statistics of further parts of the samples' },
        size: {
          type: 'integer',
          min: 1,
          max: 4096,
          about: 'height and width that pictures of a folder are brought to',
        },
        'class-from': { type: 'text', choices: classSources, about: `${classFromHelp} (default folder)` },
        batch: { type: 'integer', min: 1, max: 1024, about: 'pictures at a time (default 8, emoji features 64)' },
        pairs: {
          type: 'integer',
          min: 0,
          default: 10_000,
          about: 'of each set so many are looked at for precision and recall; 0 leaves them out',
        },
        ranks: { type: 'integer', min: 1, about: 'start this many processes over MPI, which measure batches in turn' },
        threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
        json: { type: 'switch', about: 'print JSON, and progress to the error stream' },
      },
      examples: [
        ['samples.npz emoji', 'without further files: features of emoji, which are not those of FID'],
        [
          'samples.npz reference-pictures --inception pt_inception-2015-12-05-6726825d.pth',
          'FID, sFID, precision, recall',
        ],
        ['my-pictures --save mine.npz --inception FILE', 'statistics for later, as pytorch-fid has them'],
        ['many --part 1/2 --save one.safetensors', 'half of the work on one machine, and the other on another;'],
        ['one.safetensors --with two.safetensors reference.npz', 'then the same numbers as in one go'],
      ],
    },
    words,
  )
  const { samples: samplesSpec, reference: referenceSpec, size, pairs } = given
  if (referenceSpec === undefined && given.save === undefined)
    throw new UserError('evaluate: expected a reference to compare with, or --save, got neither')
  if (given.save !== undefined && !/\.(npz|safetensors)$/.test(given.save))
    throw new UserError(`--save: expected a name that ends with .npz or .safetensors, got '${given.save}'`)
  const classFrom = given['class-from']
  const specs = [samplesSpec, referenceSpec].filter(spec => spec !== undefined)
  if (classFrom === 'prefix' && !specs.some(isFolder))
    throw new UserError(`--class-from: expected a folder of pictures for 'prefix', got ${specs.join(' and ')}`)
  const open = (spec: string) => openSource(spec, size, isFolder(spec) ? classFrom : undefined)
  const part = given.part === undefined ? null : partOf(given.part)
  const world = await init()
  checkRanksFlag(given.ranks, world.size)
  const backend = await ready({ threads: given.threads ?? threadsPerRank() })
  const sources: Source[] = []
  try {
    const samples = await open(samplesSpec)
    sources.push(samples)
    const reference = referenceSpec === undefined ? null : await open(referenceSpec)
    if (reference !== null) sources.push(reference)
    const measure = await (given.inception === undefined ? emoji() : inception(given.inception))
    const further: readonly (readonly [string, StoredStatistics])[] = await Promise.all(
      given.with.map(async path => [path, await readStatistics(path)] as const),
    )
    for (const [path, { sums }] of further)
      if (sums === null)
        throw new UserError(`${path}: expected statistics that can be merged (.safetensors), got an .npz`)

    const batch = given.batch ?? (given.inception === undefined ? 64 : 8)
    const stream = given.json && world.first ? process.stderr : process.stdout
    const look = (source: Source, which: Part | null) =>
      measuredOf(source, measure, { batch, pairs: reference === null ? 0 : pairs, stream, part: which, world })
    const first = await look(samples, part)
    for (const [path, stored] of further) merge(first, stored, path, measure)
    if (given.save !== undefined) {
      if (first.sums === null) throw new UserError(`--save: expected pictures or mergeable statistics: ${samplesSpec}`)
      if (world.first) await writeStatistics(given.save, first.sums, measure.features)
    }
    const second = reference === null ? null : await look(reference, null)
    if (world.first)
      report({ measure, first, second, results: compared(first, second, measure), json: given.json, saved: given.save })
    await world.barrier()
    world.end()
  } finally {
    for (const source of sources) if ('pictures' in source) source.pictures[Symbol.dispose]()
    backend.dispose()
  }
}

/** Parses I/N. Throws UserError. */
function partOf(text: string): Part {
  const [, i, n] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number)
  if (!(i >= 1 && i <= n)) throw new UserError(`--part: expected I/N with I from 1 to N, got '${text}'`)
  return length => [Math.floor(((i - 1) * length) / n), Math.floor((i * length) / n)]
}

interface Report {
  readonly measure: Measure
  readonly first: Measured
  readonly second: Measured | null
  readonly results: Results
  readonly json: boolean
  readonly saved: string | undefined
}

function report({ measure: { features, title, names, widths }, first, second, results, json, saved }: Report): void {
  const about = (set: Measured) => ({ name: set.name, pictures: set.count })
  if (json) {
    const metrics = Object.entries(results).map(([key, value]) => [names[key as keyof Results], value])
    const sets = { samples: about(first), reference: second && about(second) }
    console.log(JSON.stringify({ features, ...sets, metrics: Object.fromEntries(metrics) }, null, 2))
    return
  }
  const counted = ({ name, count }: Measured) => (count === null ? name : `${name}, ${count} pictures`)
  const rows: [string, string][] = [
    ['features', title],
    ['samples', counted(first)],
  ]
  if (second !== null) rows.push(['reference', counted(second)])
  for (const [key, value] of Object.entries(results))
    if (value !== null) rows.push([names[key as keyof Results], value.toFixed(4)])
  if (saved !== undefined) rows.push(['saved', saved])
  const width = Math.max(...rows.map(([left]) => left.length)) + 2
  for (const [left, right] of rows) console.log(left.padEnd(width) + right)
  const fewest = Math.min(first.count ?? Infinity, second?.count ?? Infinity)
  if (second !== null && fewest < widths[0])
    console.log(`${fewest} pictures are fewer than ${widths[0]} features: distances of so few are far too large`)
}
