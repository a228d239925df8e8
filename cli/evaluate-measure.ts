/**
 * How `demask evaluate` measures a set: pictures run through a network once, and all that is wanted of their features is
 * gathered on the way. Needs Node.
 */

import { scope, tensor } from '../core/index.ts'
import type { World } from '../distributed/index.ts'
import type { SetStatistics, StoredStatistics } from '../evaluation/feature-statistics.ts'
import {
  FeatureStatistics,
  type Features,
  frechetDistance,
  inceptionScore,
  precisionRecall,
} from '../evaluation/index.ts'
import { UserError } from '../io/user-error.ts'
import { Progress } from '../training/index-node.ts'
import type { Measure, Pictures, Source } from './evaluate-sets.ts'

/** Split size of ADM's evaluator for the inception score, and its number of neighbours. */
const split = 5000
const neighbours = 3

/** The share [from, to) of `length` pictures. */
export type Part = (length: number) => readonly [from: number, to: number]

/** Measurements of a set. */
export interface Measured {
  readonly name: string
  /** Pictures, null where a file of statistics does not say. */
  count: number | null
  readonly gaussians: () => Pick<StoredStatistics, 'pool' | 'spatial'>
  readonly sums: SetStatistics | null
  /** Features one by one, for precision and recall; null where only statistics are known. */
  readonly features: Features | null
  /** Of classes; null where only statistics are known, or further parts were merged. */
  score: number | null
}

export interface LookOptions {
  readonly batch: number
  readonly pairs: number
  readonly stream: NodeJS.WriteStream
  readonly part: Part | null
  /** Ranks that measure batches in turn. */
  readonly world: World
}

/** Measures pictures, or checks that statistics are of the same features. Rejects with one line. */
export async function measuredOf(source: Source, measure: Measure, options: LookOptions): Promise<Measured> {
  if ('pictures' in source) return lookedAt(source.pictures, measure, options)
  const { stored, name } = source
  checkStored(stored, name, measure)
  if (options.part !== null)
    throw new UserError(`--part: expected pictures to measure a part of, got statistics: ${name}`)
  return {
    name,
    count: stored.sums?.pool.count ?? null,
    gaussians: () => (stored.sums === null ? stored : gaussiansOf(stored.sums)),
    sums: stored.sums,
    features: null,
    score: null,
  }
}

const gaussiansOf = ({ pool, spatial }: SetStatistics) => ({ pool: pool.gaussian(), spatial: spatial.gaussian() })

/** Throws UserError where statistics are of other features. */
function checkStored(stored: StoredStatistics, name: string, { features, widths }: Measure): void {
  const width = stored.pool.mean.length
  if ((stored.features ?? features) === features && width === widths[0]) return
  const got = stored.features === null ? `${width} numbers` : `${stored.features} features of ${width} numbers`
  throw new UserError(`${name}: expected statistics of ${features} features, of ${widths[0]} numbers, got ${got}`)
}

/** Takes the statistics of a further part into `first`. Throws UserError where they do not go together. */
export function merge(first: Measured, stored: StoredStatistics, name: string, measure: Measure): void {
  checkStored(stored, name, measure)
  if (first.sums === null) throw new UserError(`--with: expected statistics that can be merged, got ${first.name}`)
  first.sums.pool.merge(stored.sums!.pool)
  first.sums.spatial.merge(stored.sums!.spatial)
  first.count = first.sums.pool.count
  first.score = null // of splits of a whole set
}

/** Runs pictures through the network. */
async function lookedAt(
  pictures: Pictures,
  { network, widths: [D, S] }: Measure,
  { batch, pairs, stream, part, world }: LookOptions,
): Promise<Measured> {
  const { name, height, width } = pictures
  const [from, to] = part === null ? [0, pictures.length] : part(pictures.length)
  const count = to - from
  const few = (n: number) => new UserError(`${name}: expected at least 2 pictures, got ${n}`)
  if (count < 2) throw few(count)
  const sums = { pool: new FeatureStatistics(D), spatial: new FeatureStatistics(S) }
  const wanted = Math.min(count, pairs)
  const kept = new Float32Array(wanted * D)
  const score = new SplitScore()
  const rounds = Math.ceil(Math.ceil(count / batch) / world.size)
  const progress = new Progress({ total: rounds, stream })
  let [done, rows] = [0, 0]
  /** Takes in features of a batch, in the order of the set, pool (N, D) and logits. */
  const take = (pool: Float32Array, logits: Float32Array) => {
    const N = pool.length / D
    if (N > 0) score.add({ data: logits, shape: [N, logits.length / N] })
    // Evenly over the set, whose classes may come one after the other.
    for (let n = 0; n < N; n++, done++) {
      const place = Math.floor((done * wanted) / count)
      if (Math.floor(((done + 1) * wanted) / count) === place) continue
      kept.set(pool.subarray(n * D, (n + 1) * D), place * D)
      rows = place + 1
    }
  }
  const own = pictures.batches(from, to, batch, world)
  try {
    for (let round = 0; round < rounds; round++) {
      const { value: pixels = new Float32Array() } = await own.next()
      const N = pixels.length / (3 * height * width)
      const { pool, spatial, logits } = await featuresOf(network, pixels, [N, 3, height, width])
      for (const values of [pool, spatial, logits]) {
        const bad = values.find(value => !Number.isFinite(value))
        if (bad !== undefined)
          throw new UserError(`${name}: expected finite features, got ${bad}: the network's weights are too large`)
      }
      sums.pool.add({ data: pool, shape: [N, D] })
      sums.spatial.add({ data: spatial, shape: [N, S] })
      const [pools, scores] = [pool, logits].map(values => world.gather(values))
      for (const [i, each] of pools.entries()) take(each, scores[i])
      progress.update(round + 1, null, N * world.size)
    }
  } finally {
    progress.close()
    await own.return(undefined)
  }
  for (const kind of ['pool', 'spatial'] as const) mergeRanks(sums[kind], world)
  if (done < 2) throw few(done)
  return {
    name,
    count: done, // fewer than `count` where some could not be read
    gaussians: () => gaussiansOf(sums),
    sums,
    features: rows > 0 ? { data: kept.subarray(0, rows * D), shape: [rows, D] } : null,
    score: score.mean(),
  }
}

/** Features of pixels (N, 3, H, W), N of each kind; none of none. */
async function featuresOf(
  network: Measure['network'],
  pixels: Float32Array,
  shape: readonly number[],
): Promise<Record<'pool' | 'spatial' | 'logits', Float32Array>> {
  const none = new Float32Array()
  if (pixels.length === 0) return { pool: none, spatial: none, logits: none }
  const found = scope(() => network.features(tensor(pixels, { shape })))
  const [pool, spatial, logits] = await Promise.all(
    [found.pool, found.spatial, found.logits].map(async each => Float32Array.from(await each.data())),
  )
  for (const each of Object.values(found)) each.dispose()
  return { pool, spatial, logits }
}

/** Merges the statistics of all ranks into each, to the last bit those of the whole set. */
function mergeRanks(sums: FeatureStatistics, world: World): void {
  const { count, size, sums: digits, products } = sums.state()
  const own = Float64Array.from([count, size, ...digits])
  const [heads, tails] = [own, products].map(numbers =>
    world.gather(new Float32Array(numbers.buffer)).map(bytes => new Float64Array(bytes.slice().buffer)),
  )
  for (const [rank, [count, size, ...digits]] of heads.entries())
    if (rank !== world.rank)
      sums.merge(FeatureStatistics.from({ count, size, sums: Float64Array.from(digits), products: tails[rank] }))
}

/** Results by metric; null if it cannot be computed. */
export type Results = Readonly<Record<keyof Measure['names'], number | null>>

/** Returns the metrics of samples, and of samples against a reference. */
export function compared(samples: Measured, reference: Measured | null, { widths }: Measure): Results {
  const unknown = { distance: null, spatial: null, precision: null, recall: null }
  if (reference === null) return { ...unknown, score: samples.score }
  const [a, b] = [samples.gaussians(), reference.gaussians()]
  const hasSpatial = [a, b].every(each => each.spatial?.mean.length === widths[1])
  const enough = (set: Measured) => set.features !== null && set.features.shape[0] > neighbours
  const pr =
    enough(samples) && enough(reference) ? precisionRecall(reference.features!, samples.features!, neighbours) : null
  return {
    distance: frechetDistance(a.pool, b.pool),
    spatial: hasSpatial ? frechetDistance(a.spatial!, b.spatial!) : null,
    score: samples.score,
    precision: pr?.precision ?? null,
    recall: pr?.recall ?? null,
  }
}

/** The inception score of pictures as they come: the mean over splits of 5,000, of which the last may be shorter. */
class SplitScore {
  readonly #scores: number[] = []
  #waiting = new Float32Array(0)
  #count = 0
  #classes = 0

  /** logits (N, K) */
  add({ data, shape: [N, K] }: Features): void {
    if (this.#classes === 0) this.#waiting = new Float32Array(split * K)
    this.#classes = K
    for (let i = 0; i < N * K; i++) {
      this.#waiting[this.#count * K + (i % K)] = data[i]
      if (i % K === K - 1 && ++this.#count === split) this.#score()
    }
  }

  mean(): number {
    if (this.#count > 0) this.#score()
    return this.#scores.reduce((sum, x) => sum + x, 0) / this.#scores.length
  }

  #score(): void {
    const shape = [this.#count, this.#classes]
    this.#scores.push(inceptionScore({ data: this.#waiting.subarray(0, shape[0] * shape[1]), shape }))
    this.#count = 0
  }
}
