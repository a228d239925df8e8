/**
 * How `demask evaluate` measures a set: pictures run through a network once, and all that is wanted of their features is
 * gathered on the way. Needs Node. Next: evaluation/index.ts.
 */

import { scope, tensor } from '../core/index.ts'
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

/** ADM's evaluator splits so for the inception score, and takes so many neighbours. */
const split = 5000
const neighbours = 3

/** The share [from, to) of so many pictures. */
export type Part = (length: number) => readonly [from: number, to: number]

/** What is known of a set. */
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
  { batch, pairs, stream, part }: LookOptions,
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
  const progress = new Progress({ total: Math.ceil(count / batch), stream })
  let [done, step, rows] = [0, 0, 0]
  try {
    for await (const pixels of pictures.batches(from, to, batch)) {
      const N = pixels.length / (3 * height * width)
      const found = scope(() => network.features(tensor(pixels, { shape: [N, 3, height, width] })))
      const [pool, spatial, logits] = await Promise.all(
        [found.pool, found.spatial, found.logits].map(async each => ({ data: await each.data(), shape: each.shape })),
      )
      for (const each of Object.values(found)) each.dispose()
      const bad = [pool, spatial, logits].flatMap(({ data }) => data.find(value => !Number.isFinite(value)) ?? [])
      if (bad.length > 0)
        throw new UserError(`${name}: expected finite features, got ${bad[0]}: the network's weights are too large`)
      sums.pool.add(pool)
      sums.spatial.add(spatial)
      score.add(logits)
      // Evenly over the set, whose classes may come one after the other.
      for (let n = 0; n < N; n++, done++) {
        const place = Math.floor((done * wanted) / count)
        if (Math.floor(((done + 1) * wanted) / count) === place) continue
        kept.set(pool.data.subarray(n * D, (n + 1) * D), place * D)
        rows = place + 1
      }
      progress.update(++step, null, N)
    }
  } finally {
    progress.close()
  }
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

/** null for what cannot be said. */
export type Results = Readonly<Record<keyof Measure['names'], number | null>>

/** What can be said of samples, and of samples beside a reference. */
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
