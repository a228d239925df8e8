/** Where drawn pictures go: what was added is there, whole, and nothing that was there is lost. */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { falseColour, openOutput } from '../../cli/sample-output.ts'
import { cpu, rng, setDefaultBackend, type Tensor } from '../../core/index.ts'
import { toByte } from '../../data/index.ts'
import { readNpz } from '../../io/npz.ts'
import { UserError } from '../../io/user-error.ts'
import { DiT, dit, readGenerated, samplerNames } from '../../models/index.ts'
import type { HostState } from '../../nn/index.ts'
import { load } from '../../training/trained-run.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-output-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

const seeds = [3, 4, 8]
const labels = [1, 0, 1]
const plan = { seeds, labels, about: 'Drawn by a test.' }
/** Two of three pictures (3, 2, 2), as if drawing ended early. */
const values = Float32Array.from({ length: 24 }, (_, i) => i / 11.5 - 1)
const batches = [0, 1].map(n => ({
  values: values.subarray(12 * n, 12 * n + 12),
  shape: [1, 3, 2, 2] as const,
  seeds: [seeds[n]],
  labels: [labels[n]],
}))
/** (H, W, 3) of picture n, as bytes. */
const pixels = (n: number) => [0, 1, 2, 3].flatMap(i => [0, 1, 2].map(c => toByte(values[12 * n + 4 * c + i])))

async function written(path: string): Promise<string> {
  const output = openOutput(path, plan)
  for (const batch of batches) await output.add(batch)
  return output.close()
}

test('a folder has a file for each picture, named by seed and class, and a README', async () => {
  const path = join(root, 'some', 'folder')
  assert.is(await written(path), `${path}: 2 pictures`)
  assert.equal(readdirSync(path).sort(), ['000003-1.png', '000004-0.png', 'README.md'])
  for (const [n, name] of ['000003-1.png', '000004-0.png'].entries())
    assert.equal([...(await sharp(join(path, name)).raw().toBuffer())], pixels(n))
  assert.match(readFileSync(join(path, 'README.md'), 'utf8'), '2 pictures. Drawn by a test.\nA file is named by')
  const before = readFileSync(join(path, '000003-1.png'))
  refused(() => openOutput(path, plan), /--out: .*000003-1\.png is there already/)
  assert.equal(readFileSync(join(path, '000003-1.png')), before)
  openOutput(path, { ...plan, seeds: [9, 10, 11] }) // others are welcome
})

test('finite weights whose output overflows are refused, by every sampler, clipped or not', async () => {
  const sizes = { inputSize: 4, patchSize: 2, inChannels: 3, hiddenSize: 8, depth: 1, numHeads: 2, numClasses: 0 }
  const model = new DiT(sizes, { rng: rng(0), backend: cpu })
  const state = new Map<string, Tensor | HostState>(model.stateDict())
  state.set('final_layer.linear.bias', { shape: [24], data: new Float32Array(24).fill(3e38) })
  load(model, state, 'large.safetensors')
  setDefaultBackend(cpu)
  for (const sampler of samplerNames)
    for (const clip of [true, false]) {
      const request = { seeds: [5], labels: null, sampler, steps: 3, clip }
      const values = (await readGenerated(dit.generation.generate(model, request)))!
      const error = await openOutput(join(root, 'large.png'), { seeds: [5], labels: null, about: '' })
        .add({ values, shape: [1, 3, 4, 4], seeds: [5], labels: null })
        .catch((thrown: Error) => thrown)
      assert.instance(error, UserError, `${sampler}, clip ${clip}`)
      assert.match((error as Error).message, /^the picture of seed 5: expected finite values, got (NaN|-?Infinity)/)
    }
})

test('an .npz is as ADM writes it', async () => {
  const path = join(root, 'samples.npz')
  assert.is(await written(path), `${path}: 2 pictures of 2 px`)
  const arrays = await readNpz(path)
  assert.equal([...arrays.keys()], ['arr_0', 'arr_1'])
  const [pictures, classes] = [arrays.get('arr_0')!, arrays.get('arr_1')!]
  assert.equal([pictures.dtype, pictures.shape, [...pictures.data]], ['U8', [2, 2, 2, 3], [...pixels(0), ...pixels(1)]])
  assert.equal([classes.dtype, classes.shape, [...classes.data]], ['I64', [2], [1, 0]])
  assert.equal(
    readdirSync(root).filter(name => name.includes('samples')),
    ['samples.npz'],
  )
  refused(() => openOutput(path, plan), /--out: .*samples\.npz is there already/)
})

test('a grid is of what there is', async () => {
  const path = join(root, 'grid.png')
  assert.is(await written(path), `${path}: 2 pictures of 2 px`)
  const { width, height } = await sharp(path).metadata()
  assert.equal([width, height], [2 * 48 + 1, 48])
})

test('where nothing was drawn nothing is left; a disk that refuses is one line', async () => {
  for (const name of ['none.png', 'none.npz', 'none']) {
    const path = join(root, name)
    assert.is(await openOutput(path, plan).close(), `${path}: nothing was drawn`)
    assert.not(existsSync(path))
  }
  writeFileSync(join(root, 'file'), '')
  mkdirSync(join(root, 'taken.png'))
  const before: readonly (readonly [string, RegExp])[] = [
    ['file/samples.npz', /^--out: expected a folder to write into, got none: .*file$/],
    ['file/folder', /^--out: expected a folder, a \.png or an \.npz, got the file .*file$/],
    ['file', /^--out: expected a folder, a \.png or an \.npz, got the file .*file$/],
    ['taken.png', /^--out: expected a file, got the folder .*taken\.png$/],
    ['nowhere/grid.png', /^--out: expected a folder to write into, got none: .*nowhere$/],
    ['faces.jpg', /^--out: expected a name that ends with \.png, got '.*faces\.jpg'$/],
  ]
  for (const [name, message] of before) refused(() => openOutput(join(root, name), plan), message)
  const twice = { ...plan, seeds: [3, 4, 3], labels: [1, 1, 1] }
  refused(() => openOutput(join(root, 'new'), twice), /^--seed: expected every picture .*000003-1\.png twice$/)
  openOutput(join(root, 'new'), { ...twice, labels: [1, 1, 0] }) // by class they have names of their own
  openOutput(join(root, 'new.png'), twice)

  // A later failure: the folder was removed meanwhile.
  const gone = mkdtempSync(join(root, 'gone-'))
  for (const name of ['grid.png', 'samples.npz']) {
    mkdirSync(gone, { recursive: true })
    const output = openOutput(join(gone, name), plan)
    rmSync(gone, { recursive: true })
    await output
      .add(batches[0])
      .then(() => output.close())
      .then(
        () => assert.unreachable(name),
        error => {
          assert.instance(error, UserError, String(error))
          assert.match(error.message, /^\S+: could not be written: [^\n]+$/)
        },
      )
  }
})

test('latents in false colour: the mean is grey, two standard deviations are the ends', () => {
  const latents = Float32Array.of(4, 6, 4, 6, 0, 0, 0, 0)
  const { values } = falseColour({ values: latents, shape: [1, 2, 2, 2] })
  assert.equal([...values], [-0.5, 0.5, -0.5, 0.5, 0, 0, 0, 0])
  assert.is(latents[0], 4)
})

function refused(action: () => unknown, message: RegExp): void {
  assert.throws(action, (error: Error) => error instanceof UserError && message.test(error.message))
}

test.run()
