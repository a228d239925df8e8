/** `demask evaluate` on pictures of few colours, in this process and once as a person types it; statistics on disk. Needs Node. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run } from '../../cli/evaluate.ts'
import { measuredOf } from '../../cli/evaluate-measure.ts'
import { emoji, type Measure, openSource, type Pictures } from '../../cli/evaluate-sets.ts'
import { full, ready, rng } from '../../core/index.ts'
import { alone } from '../../distributed/index.ts'
import { readStatistics, writeStatistics } from '../../evaluation/feature-statistics.ts'
import { FeatureStatistics } from '../../evaluation/index.ts'
import { readNpz, writeNpz } from '../../io/npz.ts'
import { succeed } from '../programs/example.ts'

const place = mkdtempSync(join(tmpdir(), 'evaluate-'))
test.after(() => rmSync(place, { recursive: true }))

/** A batch of ADM: pictures of one colour and some noise. */
async function batch(name: string, count: number, seed: number): Promise<string> {
  const path = join(place, name)
  const random = rng(seed)
  const data = Uint8Array.from({ length: count * 8 * 8 * 3 }, () => 0)
  for (let n = 0; n < count; n++) {
    const [r, g, b] = random.integersArray(0, 200, 3)
    const noise = random.integersArray(0, 56, 8 * 8 * 3)
    data.set(
      noise.map((x, i) => x + [r, g, b][i % 3]),
      n * 8 * 8 * 3,
    )
  }
  await writeNpz(path, new Map([['arr_0', { dtype: 'U8', shape: [count, 8, 8, 3], data }]]))
  return path
}

/** Output of the command with --json, which moves progress to stderr. */
async function printed(...words: readonly string[]): Promise<string> {
  const { log } = console
  const { write } = process.stderr
  const lines: string[] = []
  console.log = (line: string) => lines.push(line)
  process.stderr.write = () => true
  try {
    await run([...words, '--threads', '1'])
  } finally {
    console.log = log
    process.stderr.write = write
  }
  return lines.join('\n')
}

/** A run that must end with one line that matches `wanted`. */
async function refused(words: readonly string[], wanted: RegExp): Promise<void> {
  try {
    await printed(...words, '--json')
  } catch (error) {
    assert.match((error as Error).message, wanted)
    assert.not.match((error as Error).message, /\n/)
    return
  }
  assert.unreachable(`${words.join(' ')}: expected ${wanted}`)
}

const distance = 'Fréchet distance of emoji features (not FID)'
const metrics = (output: string): Record<string, number | null> => {
  return JSON.parse(output).metrics
}

test('two sets; and the same numbers from parts that were measured one by one', async () => {
  const [samples, reference] = [await batch('samples.npz', 21, 1), await batch('reference.npz', 17, 2)]
  const table = await succeed('demask', ['evaluate', samples, reference, '--threads', '1'])
  assert.match(table, /features +emoji features, which are not those of FID/)
  assert.match(table, /samples +.*samples\.npz, 21 pictures/)
  assert.match(table, /precision by emoji features +[01]\.\d{4}\n/)
  assert.not.match(table, /^(FID|sFID|Inception score)/m)
  assert.match(table, /17 pictures are fewer than 128 features/)

  const [one, two, kept] = ['one', 'two', 'kept'].map(name => join(place, `${name}.safetensors`))
  const pieces: readonly (readonly [string, string])[] = [
    ['1/2', one],
    ['2/2', two],
  ]
  for (const [part, file] of pieces) await printed(samples, '--part', part, '--save', file, '--json')
  await printed(reference, '--save', kept, '--batch', '5', '--json')
  const whole = metrics(await printed(samples, reference, '--json', '--batch', '21'))
  const merged = metrics(await printed(two, kept, '--with', one, '--json'))
  assert.ok(whole[distance]! > 0 && whole['recall by emoji features'] !== null)
  // Batches of another size may give features other last bits; sums of the same features are the same.
  assert.ok(Math.abs(merged[distance]! / whole[distance]! - 1) < 1e-5, `${merged[distance]} and ${whole[distance]}`)
  assert.is(merged['precision by emoji features'], null)
})

test('a picture of a large folder that cannot be read is left out, and so the set is of one less', async () => {
  const folder = mkdtempSync(join(place, 'many-'))
  const png = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
    .png()
    .toBuffer()
  for (let i = 0; i < 4100; i++) writeFileSync(join(folder, `${i}.png`), png) // too many to look at all of them first
  const source = await openSource(folder, 8)
  if (!('pictures' in source)) throw new Error('not pictures')
  const last = [...Array(4100).keys()].map(i => `${i}.png`).sort()[4090]
  writeFileSync(join(folder, last), 'not a picture')
  // The last twenty of them, eight at a time.
  const some: Pictures = {
    ...source.pictures,
    length: 20,
    batches: (from, to, batch, turn) => source.pictures.batches(4080 + from, 4080 + to, batch, turn),
  }
  const { error } = console
  const said: string[] = []
  console.error = line => said.push(line)
  const backend = await ready({ threads: 1 })
  const measure = await emoji()
  const look = { batch: 8, pairs: 20, stream: process.stderr, part: null, world: alone }
  const { count, features } = await measuredOf({ pictures: some }, measure, look).finally(() => {
    console.error = error
    backend.dispose()
  })
  assert.equal([count, features?.shape], [19, [19, 128]])
  assert.is(said.length, 1)
  assert.match(said[0], new RegExp(`skipped: .*${last}: expected a picture, got one that cannot be read`))
})

test('features that overflow are refused', async () => {
  const source = await openSource(await batch('overflow.npz', 3, 4), undefined)
  const measure: Measure = {
    ...(await emoji()),
    network: {
      features: () => ({ pool: full([3, 128], Infinity), spatial: full([3, 448], 0), logits: full([3, 2], 0) }),
    },
  }
  const look = { batch: 3, pairs: 0, stream: process.stderr, part: null, world: alone }
  const error = await measuredOf(source, measure, look).catch((thrown: Error) => thrown)
  assert.match((error as Error).message, /overflow\.npz: expected finite features, got Infinity: the network's weights/)
  if ('pictures' in source) source.pictures[Symbol.dispose]()
})

test('pictures of a batch are measured, and statistics beside them are said not to be', async () => {
  const path = await batch('both.npz', 3, 4)
  const arrays = await readNpz(path)
  await writeNpz(path, new Map([...arrays, ['mu', { dtype: 'F64', shape: [2], data: new Float64Array(2) }]]))
  const { error } = console
  const said: string[] = []
  console.error = line => said.push(line)
  const source = await openSource(path, undefined).finally(() => {
    console.error = error
  })
  if (!('pictures' in source)) throw new Error('not pictures')
  assert.is(source.pictures.length, 3)
  source.pictures[Symbol.dispose]()
  assert.match(said.join('\n'), /both\.npz: its pictures are measured; its statistics \(mu, sigma\), .* are not used$/)
})

test('what cannot be compared is one line, and an earlier file stays as it was', async () => {
  const samples = await batch('few.npz', 5, 3)
  await refused([samples], /expected a reference to compare with, or --save, got neither/)
  await refused([samples, join(place, 'none.npz')], /none\.npz: expected a file of pictures or statistics/)
  await refused([samples, place, '--save', 'x.txt'], /--save: expected a name that ends with .npz/)
  await refused([samples, join(place, 'set.zip')], /--size: expected with a ZIP of pictures, got none: .*set\.zip/)
  const inceptions = join(place, 'inceptions.npz')
  const gaussian = { mu: new Float64Array(64), sigma: new Float64Array(64 * 64) }
  await writeNpz(
    inceptions,
    new Map([
      ['mu', { dtype: 'F64', shape: [64], data: gaussian.mu }],
      ['sigma', { dtype: 'F64', shape: [64, 64], data: gaussian.sigma }],
    ]),
  )
  await refused([samples, inceptions], /expected statistics of emoji-2 features, of 128 numbers, got 64 n/)
  const old = join(place, 'old.npz')
  writeFileSync(old, 'mine')
  await refused([samples, '--inception', old, '--save', old], /old\.npz/)
  assert.is(readFileSync(old, 'utf8'), 'mine')
  const folder = mkdtempSync(join(place, 'folder-'))
  writeFileSync(join(folder, 'broken.png'), 'not a picture')
  await refused([folder, samples], /expected pictures, got 1 that cannot be read/)
  await sharp({ create: { width: 9, height: 12, channels: 3, background: 'red' } })
    .png()
    .toFile(join(folder, 'broken.png'))
  await refused([folder, samples], /expected at least 2 pictures, got 1/)
})

test('no picture decides for the others: damaged ones are left out, the most common size is measured', async () => {
  const folder = mkdtempSync(join(place, 'sizes-'))
  const paint = (name: string, side: number) =>
    sharp({ create: { width: side, height: side + 3, channels: 3, background: 'red' } })
      .png()
      .toFile(join(folder, name))
  writeFileSync(join(folder, '00.jpg'), 'not a picture')
  for (const [name, side] of [
    ['1.png', 40],
    ['2.png', 12],
    ['3.png', 12],
    ['4.png', 7],
  ] as const)
    await paint(name, side)
  const { error } = console
  const said: string[] = []
  console.error = line => said.push(line)
  const source = await openSource(folder, undefined).finally(() => {
    console.error = error
  })
  if (!('pictures' in source)) throw new Error('not pictures')
  assert.equal([source.pictures.length, source.pictures.width, source.pictures.height], [4, 12, 12])
  assert.is(said.length, 2)
  assert.match(said[1], /pictures of 7 to 40 px are measured at 12 px, the most common size; --size chooses another$/)
  assert.match(said[0], /skipped: .*00\.jpg: expected a picture, got one that cannot be read/)
})

test('statistics on disk: whole sums as .safetensors, mean and covariance as .npz', async () => {
  const sets = { pool: new FeatureStatistics(6), spatial: new FeatureStatistics(5) }
  sets.pool.add({ shape: [20, 6], data: rng(1).normalArray(120) })
  sets.spatial.add({ shape: [20, 5], data: rng(2).normalArray(100) })
  const [sums, moments] = [join(place, 'sums.safetensors'), join(place, 'moments.npz')]
  await writeStatistics(sums, sets, 'emoji')
  await writeStatistics(moments, sets, 'emoji')
  const again = await readStatistics(sums)
  assert.is(again.features, 'emoji')
  assert.equal(again.sums!.pool.state(), sets.pool.state())
  assert.equal(again.sums!.spatial.state(), sets.spatial.state())
  const read = await readStatistics(moments)
  assert.equal(read, { ...again, features: null, sums: null })
  const arrays = await readNpz(moments)
  assert.equal([...arrays.keys()], ['mu', 'sigma', 'mu_s', 'sigma_s'])
  assert.equal(arrays.get('sigma')!.shape, [6, 6])
})

test.run()
