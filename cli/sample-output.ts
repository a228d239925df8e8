/**
 * Outputs of sampling: a grid, a folder of files, or an .npz as ADM's evaluation takes it [ADM]. Needs Node. Pictures
 * added so far are kept when sampling ends early. Existing files are never replaced, except a grid.
 */

import {
  accessSync,
  appendFileSync,
  closeSync,
  constants,
  createReadStream,
  existsSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import { toByte } from '../data/index.ts'
import { type NpzSource, writeNpz } from '../io/npz.ts'
import { reason, UserError } from '../io/user-error.ts'
import type { Generated } from '../training/latents.ts'
import { samplesLayout, writeGrid } from '../training/pictures.ts'

/** Some of the pictures, in order; `labels` is null for a model without classes. */
export interface Batch extends Generated {
  readonly seeds: readonly number[]
  readonly labels: readonly number[] | null
}

export interface Output {
  /** Pictures (N, C, H, W) in [-1, 1], C = 1, 3 or more, of which the first three are shown. Throws UserError. */
  add(batch: Batch): Promise<void>
  /** Ends it; what a person reads of it. Nothing is left where nothing was added. */
  close(): Promise<string>
}

export interface OutputOptions {
  /** Seeds of the pictures, in order. */
  readonly seeds: readonly number[]
  readonly labels: readonly number[] | null
  /** How, for the folder's README. */
  readonly about: string
}

/**
 * By the name: .png is a grid, .npz ADM's format, anything else a folder. Throws UserError, before anything is drawn, where
 * something is there already or nothing can be.
 */
export function openOutput(path: string, options: OutputOptions): Output {
  const output = outputOf(path, options)
  return {
    ...output,
    async add(batch) {
      const { values, shape, seeds } = batch
      checkFinite(values, shape, n => `the picture of seed ${seeds[n]}`)
      await output.add(batch)
    },
  }
}

/**
 * Throws UserError on pictures (N, C, H, W) with NaN or infinity, which would be black; `nameOf` names picture n in the
 * message.
 */
export function checkFinite(
  values: Float32Array,
  [, C, H, W]: Generated['shape'],
  nameOf: (n: number) => string,
): void {
  const bad = values.findIndex(value => !Number.isFinite(value))
  if (bad < 0) return
  const name = nameOf(Math.floor(bad / (C * H * W)))
  throw new UserError(`${name}: expected finite values, got ${values[bad]}: weights or settings are wrong`)
}

function outputOf(path: string, options: OutputOptions): Output {
  if (/\.npz$/i.test(path)) {
    checkFile(path)
    return npz(path)
  }
  if (isPicture.test(path)) {
    checkPicture(path)
    return grid(path, options)
  }
  checkFolder(path)
  return folder(path, options)
}

const isPicture = /\.(png|jpe?g|gif|webp|avif|tiff?|bmp)$/i

/** Checks that a picture can be written to `path`. Throws UserError. */
export function checkPicture(path: string): void {
  if (!/\.png$/i.test(path)) throw new UserError(`--out: expected a name that ends with .png, got '${path}'`)
  checkFile(path)
}

/** Throws UserError where there is no folder for a file, or a folder in its place. */
function checkFile(path: string): void {
  if (isFolder(path) === true) throw new UserError(`--out: expected a file, got the folder ${path}`)
  const parent = dirname(path)
  if (isFolder(parent) !== true) throw new UserError(`--out: expected a folder to write into, got none: ${parent}`)
  guarded(path, () => accessSync(parent, constants.W_OK))
}

/** Throws UserError where there is a file in the place of a folder. */
function checkFolder(path: string): void {
  let there = path
  while (isFolder(there) === undefined) there = dirname(there)
  if (isFolder(there) === false)
    throw new UserError(`--out: expected a folder, a .png or an .npz, got the file ${there}`)
  guarded(path, () => accessSync(there, constants.W_OK))
}

/** Undefined where there is nothing. */
function isFolder(path: string): boolean | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory()
  } catch {
    return undefined // a file in the place of one of its folders
  }
}

/** Number of labels after which a list repeats; its length if it does not. */
function periodOf(labels: readonly number[] | null): number | undefined {
  if (labels === null) return undefined
  const repeats = (period: number) => labels.every((label, i) => i < period || label === labels[i - period])
  const period = labels.findIndex((_, i) => i > 0 && repeats(i))
  return period > 0 ? period : labels.length
}

function grid(path: string, { labels }: OutputOptions): Output {
  const batches: Batch[] = []
  return {
    async add(batch) {
      batches.push(batch)
    },
    async close() {
      if (batches.length === 0) return `${path}: nothing was drawn`
      const [, C, H, W] = batches[0].shape
      const N = batches.reduce((sum, { shape }) => sum + shape[0], 0)
      const all = new Float32Array(N * C * H * W)
      let at = 0
      for (const { values } of batches) {
        all.set(values, at)
        at += values.length
      }
      const shape = [N, C, H, W] as const
      await writeGrid(path, all, shape, samplesLayout(shape, periodOf(labels)))
      return `${path}: ${pictures(N)} of ${H} px`
    },
  }
}

function folder(path: string, { seeds, labels, about }: OutputOptions): Output {
  const nameOf = (seed: number, label: number | undefined) =>
    `${String(seed).padStart(6, '0')}${label === undefined ? '' : `-${label}`}.png`
  const files = seeds.map((seed, i) => join(path, nameOf(seed, labels?.[i])))
  const there = files.find(file => existsSync(file))
  if (there !== undefined)
    throw new UserError(`--out: ${there} is there already: --seed or another folder avoids drawing over it`)
  const seen = new Set<string>()
  const twice = files.find(file => seen.size === seen.add(file).size)
  if (twice !== undefined)
    throw new UserError(`--seed: expected every picture of a folder to have a seed of its own, got ${twice} twice`)
  let written = 0
  return {
    async add({ values, shape: [N, C, H, W], seeds, labels }) {
      guarded(path, () => mkdirSync(path, { recursive: true }))
      for (let n = 0; n < N; n++) {
        const bytes = rgbOf(values.subarray(n * C * H * W, (n + 1) * C * H * W), C)
        const file = join(path, nameOf(seeds[n], labels?.[n]))
        await sharp(bytes, { raw: { width: W, height: H, channels: 3 } })
          .png()
          .toFile(file)
          .catch(error => refuse(file, error))
        written++
      }
    },
    async close() {
      if (written === 0) return `${path}: nothing was drawn`
      const names = `A file is named by its picture's seed${labels === null ? '' : ' and class'}.`
      guarded(path, () => appendFileSync(join(path, 'README.md'), `${pictures(written)}. ${about}\n${names}\n\n`))
      return `${path}: ${pictures(written)}`
    },
  }
}

/** Bytes go aside as they come, since an array's length stands before its elements. */
function npz(path: string): Output {
  if (existsSync(path)) throw new UserError(`--out: ${path} is there already: another name avoids drawing over it`)
  const aside = `${path}.part`
  const allLabels: number[] = []
  let size: readonly [H: number, W: number] = [0, 0]
  let descriptor: number | null = null
  let written = 0
  return {
    async add({ values, shape: [N, C, H, W], labels }) {
      guarded(aside, () => {
        descriptor ??= openSync(aside, 'w')
        for (let n = 0; n < N; n++) writeSync(descriptor, rgbOf(values.subarray(n * C * H * W, (n + 1) * C * H * W), C))
      })
      written += N
      size = [H, W]
      if (labels !== null) allLabels.push(...labels)
    },
    async close() {
      if (descriptor === null) return `${path}: nothing was drawn`
      closeSync(descriptor)
      const bytes = () => createReadStream(aside)
      const arrays = new Map<string, NpzSource>([['arr_0', { dtype: 'U8', shape: [written, ...size, 3], data: bytes }]])
      if (allLabels.length > 0) arrays.set('arr_1', { dtype: 'I64', shape: [written], data: allLabels })
      await writeNpz(path, arrays)
      rmSync(aside)
      return `${path}: ${pictures(written)} of ${size[0]} px`
    },
  }
}

/** A picture (C, H, W) in [-1, 1] as interleaved bytes, grey as RGB. */
function rgbOf(values: Float32Array, C: number): Uint8Array {
  const area = values.length / C
  const bytes = new Uint8Array(3 * area)
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < area; i++) bytes[3 * i + c] = toByte(values[(C < 3 ? 0 : c) * area + i])
  return bytes
}

/** Every picture's first three channels, each stretched so that ±2 standard deviations become −1 … 1. */
export function falseColour({ values, shape }: Generated): Generated {
  const [N, C, H, W] = shape
  const out = Float32Array.from(values)
  for (let plane = 0; plane < N * C; plane++) {
    const some = out.subarray(plane * H * W, (plane + 1) * H * W)
    const mean = some.reduce((a, b) => a + b, 0) / some.length
    const deviation = Math.sqrt(some.reduce((sum, v) => sum + (v - mean) ** 2, 0) / some.length) || 1
    for (let i = 0; i < some.length; i++) some[i] = (some[i] - mean) / (2 * deviation)
  }
  return { values: out, shape }
}

function pictures(count: number): string {
  return `${count} ${count === 1 ? 'picture' : 'pictures'}`
}

function guarded(path: string, action: () => void): void {
  try {
    action()
  } catch (error) {
    refuse(path, error)
  }
}

function refuse(path: string, error: unknown): never {
  throw new UserError(`${path}: could not be written: ${reason(error)}`, { cause: error })
}
