/**
 * `npx tsx bench/evidence/yardstick.ts`: checks the measures of the evidence on real emoji of 16 pixels that are damaged by
 * known amounts, or less varied than the set, and writes docs/evidence/data/yardstick.jsonl. A distance that does not rise
 * with the damage would not rank models either. Needs Node.
 */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { emoji, type Measure } from '../../cli/evaluate-sets.ts'
import { main } from '../../cli/main.ts'
import { type Rng, ready, rng, scope, tensor } from '../../core/index.ts'
import { type ImageDataset, imagesOf, openDataset } from '../../data/index.ts'
import { type Features, featureGaussian, frechetDistance, precisionRecall } from '../../evaluation/index.ts'
import { replaceFile } from '../../io/replace.ts'
import { blurred, noised, shifted, specked } from './damage.ts'
import { dataFolder, readLines } from './records.ts'
import { root } from './trees.ts'

const size = 16
/** Pictures of a forward pass. */
const together = 64
/** Neighbours of precision and recall, as in `demask evaluate`. */
const neighbours = 3
/** Samples of a point of a curve, and of an end point. */
const counts = [500, 2000] as const
/** Draws of real pictures for a floor. */
const draws = 10

/** Damage to each picture, by strength. */
const damages = {
  noise: {
    title: 'noise, standard deviation',
    strengths: [0, 0.02, 0.05, 0.1, 0.2, 0.4],
    of: (planes: Float32Array, strength: number, rng: Rng) => noised(planes, strength, rng),
  },
  specks: {
    title: 'share of pixels of another colour',
    strengths: [0, 0.005, 0.01, 0.02, 0.05, 0.1],
    of: (planes: Float32Array, strength: number, rng: Rng) => specked(planes, strength, rng),
  },
  blur: {
    title: 'blur, share of a 5 × 5 filter',
    strengths: [0, 0.1, 0.2, 0.4, 0.7, 1],
    of: (planes: Float32Array, strength: number) => blurred(planes, strength),
  },
  shift: {
    title: 'shift to the right, pixels',
    strengths: [0, 1, 2, 3, 4],
    of: (planes: Float32Array, strength: number) => shifted(planes, strength, 0),
  },
} as const

/** Loss of variety. Strengths choose other pictures. */
const losses = {
  classes: { title: 'categories left out of 9', strengths: [0, 2, 4, 6, 7, 8] },
  copies: { title: 'copies of each picture', strengths: [1, 2, 4, 8, 16, 32] },
} as const

/** Axes of the check, with rising strengths; the first one of each is none. */
export const axes = { ...damages, ...losses } as const
export type AxisName = keyof typeof axes

/** First line of the record. */
export interface YardstickHead {
  /** SHA-256 of the weights of the features. */
  readonly features: string
  readonly size: number
  /** Pictures of the reference. */
  readonly reference: number
}

/** A measurement. `real` are pictures of the set, `even` are as many of each category. */
export interface YardstickPoint {
  readonly kind: AxisName | 'real' | 'even'
  /** On the axis, or the number of the draw. */
  readonly strength: number
  readonly samples: number
  readonly distance: number
  readonly precision: number
  readonly recall: number
}

export const yardstickPath = join(dataFolder, 'yardstick.jsonl')

/** The record; null if nothing was measured. */
export function readYardstick(): { readonly head: YardstickHead; readonly points: readonly YardstickPoint[] } | null {
  const lines = readLines(yardstickPath) as [YardstickHead, ...YardstickPoint[]] | undefined
  if (lines === undefined) return null
  const [head, ...points] = lines
  return { head, points }
}

/** SHA-256 of the weights that `demask evaluate` measures emoji with. */
export function featuresHash(): string {
  return createHash('sha256')
    .update(readFileSync(join(root, 'assets/emoji-features.safetensors')))
    .digest('hex')
}

/** Pooled features of pictures (3, S, S) in [−1, 1]. */
export async function poolOf({ network, widths: [D] }: Measure, pictures: readonly Float32Array[]): Promise<Features> {
  const data = new Float32Array(pictures.length * D)
  for (let from = 0; from < pictures.length; from += together) {
    const some = pictures.slice(from, from + together)
    const pixels = new Float32Array(some.length * some[0].length)
    for (const [n, planes] of some.entries()) pixels.set(planes, n * planes.length)
    const S = Math.sqrt(some[0].length / 3)
    const pool = scope(() => network.features(tensor(pixels, { shape: [some.length, 3, S, S] })).pool)
    data.set(await pool.data(), from * D)
    pool.dispose()
  }
  return { data, shape: [pictures.length, D] }
}

/** Rows of features at these indices. */
function rowsOf({ data, shape: [, D] }: Features, indices: readonly number[]): Features {
  const rows = new Float32Array(indices.length * D)
  for (const [n, i] of indices.entries()) rows.set((data as Float32Array).subarray(i * D, (i + 1) * D), n * D)
  return { data: rows, shape: [indices.length, D] }
}

/** All pictures of a set in [−1, 1]. */
export async function planesOfSet(set: ImageDataset): Promise<Float32Array[]> {
  return Promise.all(Array.from({ length: set.length }, async (_, i) => imagesOf([await set.pixels(i)], set.size)))
}

/** Indices of `count` pictures for a point of an axis of variety; `order` is a random order of the set. */
export function chosenFor(
  kind: keyof typeof losses,
  strength: number,
  order: readonly number[],
  set: Pick<ImageDataset, 'label' | 'classes'>,
  count: number,
): number[] {
  if (kind === 'copies') {
    const distinct = Math.ceil(count / strength)
    return Array.from({ length: count }, (_, n) => order[n % distinct])
  }
  const sizes = set.classes.map((_, c) => order.filter(i => set.label(i) === c).length)
  const smallestFirst = set.classes.map((_, c) => c).sort((a, b) => sizes[a] - sizes[b])
  const left = new Set(smallestFirst.slice(strength))
  return order.filter(i => left.has(set.label(i))).slice(0, count)
}

/** Means of points that differ in their draw only. A few missing pictures move the distance less than a draw does. */
function meanOf(points: readonly YardstickPoint[]): YardstickPoint {
  const mean = (key: 'distance' | 'precision' | 'recall') =>
    points.reduce((sum, point) => sum + point[key], 0) / points.length
  return { ...points[0], distance: mean('distance'), precision: mean('precision'), recall: mean('recall') }
}

/** Measures all points, in the order of the record. */
async function* measured(measure: Measure, set: ImageDataset): AsyncGenerator<YardstickPoint> {
  const pictures = await planesOfSet(set)
  const all = await poolOf(measure, pictures)
  const reference = featureGaussian(all)
  const point = (kind: YardstickPoint['kind'], strength: number, features: Features): YardstickPoint => ({
    kind,
    strength,
    samples: features.shape[0],
    distance: frechetDistance(featureGaussian(features), reference),
    ...precisionRecall(all, features, neighbours),
  })
  const random = rng(0).fork('yardstick')
  const orders = Array.from({ length: draws }, (_, draw) => [
    ...random.fork('order').fork(draw).permutationArray(set.length),
  ])
  for (const count of counts)
    for (const [draw, order] of orders.entries()) yield point('real', draw, rowsOf(all, order.slice(0, count)))
  const [order] = orders
  const [count] = counts
  const byClass = set.classes.map((_, c) => order.filter(i => set.label(i) === c))
  const even = Array.from({ length: count }, (_, n) => byClass[n % byClass.length])
  yield point(
    'even',
    0,
    rowsOf(
      all,
      even.map((some, n) => some[Math.floor(n / byClass.length) % some.length]),
    ),
  )
  for (const kind of Object.keys(losses) as (keyof typeof losses)[])
    for (const strength of losses[kind].strengths)
      yield meanOf(orders.map(each => point(kind, strength, rowsOf(all, chosenFor(kind, strength, each, set, count)))))
  for (const kind of Object.keys(damages) as (keyof typeof damages)[]) {
    const { strengths, of } = damages[kind]
    for (const strength of strengths) {
      const some = order.slice(0, count).map((i, n) => of(pictures[i], strength, random.fork(kind).fork(n)))
      yield point(kind, strength, await poolOf(measure, some))
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  await main(async () => {
    const backend = await ready({ threads: 1 })
    const set = await openDataset('emoji', size)
    const head: YardstickHead = { features: featuresHash(), size, reference: set.length }
    const lines = [JSON.stringify(head)]
    for await (const point of measured(await emoji(), set)) {
      const { kind, strength, samples, distance, precision, recall } = point
      console.log(
        `${kind} ${strength}, ${samples} samples: distance ${distance.toFixed(3)}, precision ${precision.toFixed(3)}, recall ${recall.toFixed(3)}`,
      )
      lines.push(JSON.stringify(point))
    }
    mkdirSync(dirname(yardstickPath), { recursive: true })
    replaceFile(yardstickPath, `${lines.join('\n')}\n`)
    backend.dispose()
  })
