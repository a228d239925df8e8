/**
 * Every public function and class of data answers wrong calls in one line that begins with its name, or with the path of a
 * file that is not there. One that has no right call here fails the test. Needs Node.
 */

import { mkdirSync } from 'node:fs'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/index.ts'
import * as data from '../../data/index.ts'
import { sha256Of, writeNpz } from '../../io/index-node.ts'
import { constructing, type RightCall, testCalls, workInOwnFolder } from '../core/wrong-calls.ts'

workInOwnFolder(test, 'data')

const S = 4
const [pictures, picture, arrays, latents] = ['pictures', 'pictures/grey.png', 'pictures.npz', 'latents']
mkdirSync(pictures)
await sharp({ create: { width: S, height: S, channels: 3, background: 'grey' } }).toFile(picture)
await writeNpz(
  arrays,
  new Map([['arr_0', { dtype: 'U8', shape: [1, S, S, 3], data: new Uint8Array(3 * S * S) }]] as const),
)
const npz = await import('../../io/index-node.ts').then(io => io.NpzFile.open(arrays))
test.after(() => npz.close())

const set = (): data.ImageDataset => ({
  name: 'grey',
  length: 3,
  size: S,
  channels: 3,
  classes: ['grey'],
  flips: false,
  label: () => 0,
  group: i => i,
  pixels: () => new Uint8Array(3 * S * S),
})
const encoder = { file: 'vae.safetensors', sha256: await sha256Of(picture), from: picture, scalingFactor: 0.5 }
const source = () => ({
  data: 'pictures',
  size: S,
  pictures: 3,
  classes: ['grey'],
  mirrored: false,
  shape: [1, 2, 2],
  vae: encoder,
  arithmetic: 'cpu',
})
const encoding = () => ({
  encode: async (images: Float32Array) => {
    const values = new Float32Array((4 * images.length) / (3 * S * S)).fill(0.5)
    return { mean: values, std: values }
  },
  together: 2,
  shardBytes: 1024,
  stop: async () => false,
  say: () => {},
  done: () => {},
})
const opening = () => ({ strict: true, report: () => {}, classFrom: 'folder' })
const mirrored = () => false
let made = 0
await data.writeLatents(latents, set(), source() as unknown as data.LatentSource, encoding())
const named = data as unknown as Readonly<Record<string, RightCall['call']>>

type Row = readonly [args: () => readonly unknown[], accepts?: readonly string[], paths?: readonly string[]]

const functions: Record<string, Row> = {
  writeLatents: [
    () => [`${latents}-${made++}`, set(), source(), encoding()],
    ['0 string', '1.name', '2.data', '2.arithmetic'],
  ],
  holdOut: [() => [set(), 0.5, (i: number) => i], ['0.name', '2 undefined', '2 arguments']],
  imagesOf: [() => [[new Uint8Array(3 * S * S)], S, mirrored], ['2 undefined']],
  isList: [() => ['pictures.csv'], ['0 string']],
  npzPixels: [() => [npz, () => {}], ['1 undefined']],
  openDataset: [() => [pictures, S, opening()], [], ['0 string']],
  openEmoji: [() => ['smileys', 8]],
  openFolder: [() => [pictures, S, opening()], [], ['0 string']],
  openFolderAtCommonSize: [() => [pictures, opening()], [], ['0 string']],
  openLatents: [() => [latents, () => {}], ['1 undefined'], ['0 string']],
  planesOf: [() => [new Uint8Array(3 * S * S), 3]],
  readIndex: [() => [latents], ['0 string']],
  readPicture: [() => [picture, S], [], ['0 string']],
  readableFrom: [() => [set(), 1, () => new Uint8Array(3 * S * S)], ['0.name', '2 undefined']],
  subsetOf: [() => [set(), [0, 1]], ['0.name']],
  toByte: [() => [0.5]],
  toModelRange: [() => [127.5]],
  withCrops: [() => [set(), 2], ['0.name']],
}

const unreadable = () => new data.UnreadablePicture('unknown')
const batches = () => new data.Batches(set(), { batch: 2, rng: rng(0) })

/** Classes, methods, and functions that hand an error on, by the name that their errors begin with. */
const more: Record<string, RightCall> = {
  Batches: {
    call: constructing(data.Batches as unknown as RightCall['call']),
    args: () => [set(), { batch: 2, rng: rng(0), flip: true, replacement: true }],
    accepts: ['0.name'],
  },
  'Batches.at': {
    call: (...args: unknown[]) => batches().at(...(args as [number, data.BatchRange])),
    args: () => [1, [0, 1]],
  },
  'Batches.indices': { call: (step: unknown) => batches().indices(step as number), args: () => [1] },
  'Batches.shareOf': { call: (seconds: unknown) => batches().shareOf(seconds as number), args: () => [1.5] },
  Skipped: {
    call: constructing(data.Skipped as unknown as RightCall['call']),
    args: () => [() => {}],
    accepts: ['0 undefined'],
  },
  leaveOut: {
    call: (from: unknown) => data.leaveOut(from as data.ImageDataset, unreadable()),
    args: () => [{ ...set(), skipped: new data.Skipped(() => {}) }],
    accepts: ['0.name', '0.length', '0.size', '0.channels', '0.classes', '0.flips', '0.label', '0.group', '0.pixels'],
    paths: ['0 object'],
  },
}

testCalls(test, {
  ...Object.fromEntries(
    Object.entries(functions).map(([name, [args, accepts, paths]]) => [
      name,
      { call: named[name], args, accepts, paths },
    ]),
  ),
  ...more,
})

test('every public function and class has a right call', () => {
  const isError = (value: unknown) => (value as { prototype?: unknown }).prototype instanceof Error
  const missing = Object.entries(data)
    .filter(([, value]) => typeof value === 'function' && !isError(value))
    .map(([name]) => name)
    .filter(name => !(name in functions || name in more))
  assert.equal(missing, [])
})

test.run()
