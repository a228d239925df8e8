/**
 * Folders of latents: what is written is what the encoder made, whatever ended the writing in between; damage is found and
 * named; batches are draws from the posteriors that follow from seed and step. Needs Node.
 */

import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/random.ts'
import {
  Batches,
  type EncodeOptions,
  type ImageDataset,
  type LatentSource,
  openLatents,
  readIndex,
  writeLatents,
} from '../../data/index.ts'
import { Skipped, UnreadablePicture } from '../../data/unreadable.ts'
import { sha256Of } from '../../io/checksum.ts'
import { readSafetensors } from '../../io/safetensors-node.ts'
import { bytesOf } from '../programs/example.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-latents-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))
let folders = 0
const fresh = () => join(root, String(folders++))

const weights = join(root, 'weights.safetensors')
writeFileSync(weights, 'any bytes: these tests decode nothing')

/** Picture i has the bytes i, except its left column. */
function numbered(length: number, size = 4): ImageDataset {
  return {
    name: 'numbered',
    length,
    size,
    channels: 3,
    classes: ['even', 'odd'],
    flips: true,
    label: i => i % 2,
    pixels: i => new Uint8Array(3 * size * size).map((_, k) => (k % size === 0 ? 255 - i : i)),
  }
}

const shape = [2, 2, 2] as const
const values = 8

async function sourceOf(data: ImageDataset, change: Partial<LatentSource> = {}): Promise<LatentSource> {
  const { name, size, length: pictures, classes, flips: mirrored } = data
  const vae = { file: 'vae.safetensors', sha256: await sha256Of(weights), from: weights, scalingFactor: 0.5 }
  return { data: name, size, pictures, classes, mirrored, shape, vae, arithmetic: 'none', ...change }
}

/** Every value of a picture's mean says which picture it is, and which side its odd column is on; std follows from it. */
function encoding(images: Float32Array) {
  const N = images.length / 48
  const mean = Float32Array.from({ length: N * values }, (_, k) => {
    const n = Math.floor(k / values)
    return images[n * 48 + 1] + 10 * images[n * 48] + (k % values)
  })
  return { mean, std: mean.map(m => 0.01 + m * m) }
}

const encodeOptions = (change: Partial<EncodeOptions> = {}): EncodeOptions => ({
  encode: async images => encoding(images),
  together: 3,
  shardBytes: 16 * values * 6, // six pictures, both ways
  ...change,
})

async function write(folder: string, change: Partial<EncodeOptions> = {}, data = numbered(20)) {
  return writeLatents(folder, data, await sourceOf(data), encodeOptions(change))
}

/** Rejects with one line that matches. */
async function refused(promise: Promise<unknown>, wanted: RegExp): Promise<void> {
  const error = await promise.then(
    (): Error => new Error('accepted'),
    (reason: unknown) => reason as Error,
  )
  assert.match(error.message, wanted)
  assert.not.match(error.message, /\n/)
}

/** Mean and standard deviation of every picture and mirror image, by what the shards say of themselves. */
function rowsOf(folder: string): Record<string, number[]> {
  const rows: Record<string, number[]> = {}
  for (const { file } of readIndex(folder)!.shards) {
    const { tensors } = readSafetensors(join(folder, file))
    for (const [name, { data }] of tensors)
      for (const [row, picture] of tensors.get('picture')!.data.entries()) {
        const each = data.length / tensors.get('picture')!.data.length
        rows[`${picture} ${name}`] = Array.from(data.subarray(row * each, (row + 1) * each))
      }
  }
  return rows
}

const whole = fresh()

test('shards hold what the encoder made of pictures and mirror images; the index explains them', async () => {
  const told: number[] = []
  const index = await write(whole, { done: pictures => void told.push(pictures) })
  assert.equal(told, [0, 3, 6, 9, 12, 15, 18, 20])
  assert.equal(
    index.shards.map(({ file, first, end, rows }) => [file, first, end, rows]),
    [0, 6, 12, 18].map(n => [
      `latents-${String(n).padStart(8, '0')}.safetensors`,
      n,
      Math.min(n + 6, 20),
      Math.min(6, 20 - n),
    ]),
  )
  assert.equal(JSON.parse(readFileSync(join(whole, 'index.json'), 'utf8')), index)
  assert.ok(index.complete)
  for (const { file, sha256, bytes } of index.shards) {
    assert.is(await sha256Of(join(whole, file)), sha256)
    assert.is(readFileSync(join(whole, file)).length, bytes)
  }
  assert.is(await sha256Of(join(whole, index.vae.file)), index.vae.sha256)
  const rows = rowsOf(whole)
  const data = numbered(20)
  for (let i = 0; i < 20; i++) {
    assert.equal(rows[`${i} label`], [i % 2])
    for (const mirrored of [false, true]) {
      const bytes = Array.from(data.pixels(i) as Uint8Array)
      const seen = mirrored ? bytes.map((_, k) => bytes[k - (k % 4) + 3 - (k % 4)]) : bytes
      const { mean, std } = encoding(Float32Array.from(seen, byte => byte / 127.5 - 1))
      const way = mirrored ? '.mirrored' : ''
      assert.equal(rows[`${i} mean${way}`], Array.from(mean))
      assert.equal(rows[`${i} std${way}`], Array.from(std))
    }
  }
})

test('what ended in between goes on to the same bytes, or after Ctrl-C to the same latents', async () => {
  const wanted = bytesOf(whole)
  for (const failsAt of [1, 5, 7, 14]) {
    const folder = fresh()
    let calls = 0
    const encode = async (images: Float32Array) => {
      if (++calls === failsAt) throw new Error('killed')
      return encoding(images)
    }
    await refused(write(folder, { encode }), /^killed$/)
    writeFileSync(join(folder, '.tmp-1-latents-00000006.safetensors'), 'half')
    const before = bytesOf(folder)
    const index = await write(folder)
    assert.equal(bytesOf(folder), wanted)
    for (const name of Object.keys(before).filter(name => /^latents/.test(name))) assert.is(before[name], wanted[name])
    assert.ok(index.complete)
  }
  const stopped = fresh()
  let asked = 0
  const part = await write(stopped, { stop: async () => ++asked === 3 })
  assert.equal([part.complete, part.shards.length], [false, 2])
  await refused(
    openLatents(stopped),
    /expected all latents of 20 pictures, got 9: the same encode-latents goes on with it/,
  )
  assert.ok((await write(stopped)).complete)
  assert.equal(rowsOf(stopped), rowsOf(whole))
})

test('pictures that cannot be read are left out and counted, or end it where that is asked', async () => {
  const data = numbered(8)
  const pixels = (i: number) => (i === 4 ? Promise.reject(new UnreadablePicture('4.png: cut')) : data.pixels(i))
  const said: string[] = []
  const broken = { ...data, pixels, skipped: new Skipped(line => void said.push(line)) }
  const folder = fresh()
  const index = await write(folder, {}, broken)
  assert.equal([index.skipped, said, index.complete], [1, ['skipped: 4.png: cut'], true])
  assert.equal(
    index.shards.map(({ rows }) => rows),
    [5, 2],
  )
  const set = await openLatents(folder)
  assert.equal([set.length, set.label(4)], [7, 1])
  set.close()
  await refused(write(fresh(), {}, { ...data, pixels }), /^4\.png: cut$/)
})

test('batches are draws that follow from seed and step, over shards, both ways round', async () => {
  const set = await openLatents(whole)
  assert.equal([set.length, set.size, set.channels, set.flips, set.classes], [20, 2, 2, true, ['even', 'odd']])
  const options = { batch: 7, rng: rng(3) }
  const batches = new Batches(set, options)
  const rows = rowsOf(whole)
  let mirrors = 0
  const seen = new Set<number>()
  const all = []
  for (let step = 0; step < 20; step++) {
    const { images, labels, indices } = await batches.at(step)
    all.push(images)
    const noise = rng(3)
      .fork('posterior')
      .fork(step)
      .normalArray(7 * values)
    indices.forEach((index, i) => {
      seen.add(index)
      assert.is(labels[i], index % 2)
      const drawn = (way: string) =>
        rows[`${index} mean${way}`].map((m, k) =>
          Math.fround(0.5 * (m + rows[`${index} std${way}`][k] * noise[i * values + k])),
        )
      const got = Array.from(images.subarray(i * values, (i + 1) * values))
      const mirrored = got.join() !== drawn('').join()
      if (mirrored) assert.equal(got, drawn('.mirrored'))
      mirrors += Number(mirrored)
    })
  }
  assert.is(seen.size, 20)
  assert.ok(mirrors > 40 && mirrors < 100, `${mirrors} of 140`)
  const resumed = await openLatents(whole)
  assert.equal((await new Batches(resumed, options).at(13)).images, all[13])
  assert.ok(batches.waited > 0)
  for (const each of [set, resumed]) each.close()
})

test('damage of every kind is found before training and repaired by encoding again', async () => {
  const shard = 'latents-00000006.safetensors'
  const spoil = (change: (path: string) => void): string => {
    const folder = fresh()
    cpSync(whole, folder, { recursive: true })
    change(join(folder, shard))
    return folder
  }
  const flipped = spoil(path => {
    const bytes = readFileSync(path)
    bytes[bytes.length - 5] ^= 1
    writeFileSync(path, bytes)
  })
  const cases: [string, RegExp][] = [
    [spoil(path => truncateSync(path, 700)), /00000006\.safetensors: .*the file is cut short/],
    [spoil(path => rmSync(path)), /00000006\.safetensors: expected a shard of latents: no such file/],
    [flipped, /00000006\.safetensors: expected the checksum [0-9a-f]{64} of index\.json, got [0-9a-f]{64}/],
    [
      spoil(path => cpSync(join(whole, 'latents-00000018.safetensors'), path)),
      /expected 'mean' of F32 \[6, 2, 2, 2\], got F32 \[2,/,
    ],
  ]
  for (const [folder, wanted] of cases) {
    const before = bytesOf(folder)
    await refused(openLatents(folder), wanted)
    assert.equal(bytesOf(folder), before)
    const said: string[] = []
    await write(folder, { say: line => void said.push(line) })
    assert.is(said.length, 1)
    assert.match(said[0], /; it is made again$/)
    assert.equal(bytesOf(folder), bytesOf(whole))
  }
  const index = readFileSync(join(whole, 'index.json'), 'utf8')
  for (const [text, wanted] of [
    [index.slice(0, 300), /index\.json: expected the index of a folder of latents: /],
    ['{"format": 1}', /index\.json: expected format 'demask latents 1', got 1/],
    [index.replace('latents-00000006', '../elsewhere'), /index\.json: .* damaged/],
    [index.replace('"shards": [', '"shards": [null,'), /index\.json: .* damaged/],
  ] as const) {
    const folder = spoil(path => writeFileSync(join(path, '../index.json'), text))
    await refused(openLatents(folder), wanted)
    await refused(write(folder), wanted)
  }
  await refused(openLatents(root), /expected a folder of latents, got none: no index\.json/)
})

test('latents of something else are left alone', async () => {
  const folder = fresh()
  cpSync(whole, folder, { recursive: true })
  const data = numbered(20)
  const source = await sourceOf(data)
  for (const [change, wanted] of [
    [
      { vae: { ...source.vae, sha256: 'f'.repeat(64) } },
      /latents already, of vae "[0-9a-f]{64}", got "f{64}": --out chooses another folder/,
    ],
    [{ size: 8 }, /of size 4, got 8/],
    [{ mirrored: false }, /of mirrored true, got false/],
  ] as const)
    await refused(writeLatents(folder, data, { ...source, ...change }, encodeOptions()), wanted)
  const said: string[] = []
  const say = (line: string) => void said.push(line)
  await writeLatents(folder, data, { ...source, arithmetic: 'other' }, encodeOptions({ say }))
  assert.match(said.join(), /what is there was made on none: expect other last digits$/)
  assert.equal(bytesOf(folder), bytesOf(whole))
})

test('a disk that fills up costs the shard that was being written, and nothing before it', async () => {
  const folder = fresh()
  mkdirSync(folder)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32k', 'tmpfs', folder], { stdio: 'ignore' })
  } catch {
    console.log('skipped: mounting a small tmpfs needs root')
    return
  }
  try {
    const data = numbered(200)
    const big = { shardBytes: 16 * values * 90 }
    await refused(
      write(folder, big, data),
      /latents-\d+\.safetensors: could not be written: no space left on the disk$/,
    )
    const { shards, complete } = readIndex(folder)!
    assert.equal([shards.length > 0, complete], [true, false])
    const kept = bytesOf(folder)
    assert.is(Object.keys(kept).length, shards.length + 2, 'nothing half written is left')
    execFileSync('mount', ['-o', 'remount,size=1m', folder])
    const index = await write(folder, big, data)
    for (const { file, sha256 } of shards) assert.is(kept[file], sha256)
    assert.equal([index.complete, index.shards.slice(0, shards.length)], [true, shards])
  } finally {
    execFileSync('umount', [folder])
  }
})

test.run()
