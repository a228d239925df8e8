/**
 * Error messages that no other test covers, in a table of calls and messages. Needs Node.
 * docs/errors.md has all messages; errors-page.test.ts holds it to the source.
 */

import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32, deflateRawSync } from 'node:zlib'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { coordinate } from '../../core/backends/gpu/gpujs/kernel.ts'
import { offsetArguments } from '../../core/backends/gpu/gpujs/kernels/elementwise.ts'
import { gpu } from '../../core/backends/gpu/index.ts'
import { backward, ones, rng, sum } from '../../core/index.ts'
import { type AnyOp, apply, defineOp, type None, registry, type Unary } from '../../core/op.ts'
import {
  type ImageDataset,
  type LatentDataset,
  openDataset,
  openFolder,
  openLatents,
  Skipped,
  UnreadablePicture,
  writeLatents,
} from '../../data/index.ts'
import { openNpz } from '../../data/npz-pictures.ts'
import { eulerSample, tokenMask } from '../../diffusion/index.ts'
import { readStatistics, type SetStatistics, writeStatistics } from '../../evaluation/feature-statistics.ts'
import { sha256Of } from '../../io/checksum.ts'
import { lockFolder } from '../../io/lock.ts'
import { encodeNpyHeader, parseNpyHeader } from '../../io/npy.ts'
import { NpzFile, writeNpz } from '../../io/npz.ts'
import { rebuilder } from '../../io/pytorch/rebuild.ts'
import { encodeSafetensors, type HostTensor } from '../../io/safetensors.ts'
import { writeSafetensors } from '../../io/safetensors-node.ts'
import { ZipFile } from '../../io/zip-node.ts'
import {
  AutoencoderKL,
  autoencoderPresets,
  DiT,
  MaskDiT,
  MDT,
  maskDiTPreset,
  maskdmPreset,
  mdtPreset,
  PreconditionedMaskDiT,
} from '../../models/index.ts'
import { maskedReconstruction } from '../../models/maskdit-loss.ts'
import { recognise } from '../../models/recognise.ts'
import { AdamW, unpatchify } from '../../nn/index.ts'
import { writeGrid } from '../../training/pictures.ts'
import { checkPatches } from '../../training/settings.ts'
import { autoencoder } from '../../training/vae.ts'
import { saveVae } from '../../training/vae-weights.ts'
import { zipOf } from '../io/zip.ts'
import { fail, succeed } from '../programs/example.ts'

const place = mkdtempSync(join(tmpdir(), 'demask-errors-'))
const at = (name: string) => join(place, name)
test.after(() => rmSync(place, { recursive: true }))

type Row = readonly [what: string, does: () => unknown, says: RegExp]

/** A test for each row. */
function table(rows: readonly Row[]): void {
  for (const [what, does, says] of rows)
    test(what, async () => {
      let said = 'nothing'
      try {
        await does()
      } catch (error) {
        said = (error as Error).message
      }
      assert.match(said, says)
    })
}

// ---- core and its backends ------------------------------------------------------------------------------------------

const device = await gpu({ device: 'cpu' })
const known = [...registry().values()][0]
const records = { infer: ([x]) => x, samples: () => [] } satisfies Partial<Op>
type Op = Parameters<typeof defineOp<Unary, None>>[0]
const kernelless = defineOp<Unary, None>({ ...records, name: 'kernelless', forward: () => undefined })
const ruleless = defineOp<Unary, None>({
  ...records,
  name: 'ruleless',
  forward: (k, [x], _, out) => k.unary('pow', x, out, 3),
})

table([
  ['gpu: f64', () => device.alloc('f64', 2), /^gpu: expected f32 or i32, got f64; f64 lives on the cpu backend$/],
  [
    'gpu: too large',
    () => device.alloc('f32', 2 ** 60),
    /^gpu: expected an array of \d+ elements, got a device that takes/,
  ],
  ['gpu: unwritten', () => device.read(device.alloc('f32', 2)), /^gpu: read of a storage that nothing was written to$/],
  [
    'gpu: too few',
    () => device.write(device.alloc('f32', 2), Float32Array.of(1)),
    /^write: expected 2 elements, got 1$/,
  ],
  [
    'gpu: axes',
    () => offsetArguments(Array(9).fill(2), [[7, 3, 9, 1, 8, 2, 6, 4, 5]]),
    /^gpu: expected at most \d axes that do not merge, got 9$/,
  ],
  ['gpu: rows', () => coordinate('take', 2 ** 25), /^gpu: take: expected at most 16777216 rows, got 33554432$/],
  ['an op twice', () => defineOp(known as AnyOp & Op), /^defineOp: there is an op '.*' already$/],
  [
    'an op without a kernel',
    () => apply(kernelless, [ones([2])], {}),
    /^kernelless: the backend has no kernel and the op no decomposition$/,
  ],
  [
    'an op without a gradient',
    () => backward(sum(apply(ruleless, [ones([2]).requireGrad()], {}))),
    /^backward: 'ruleless' has neither a gradient nor a decomposition$/,
  ],
])

// ---- files ----------------------------------------------------------------------------------------------------------

const host = rebuilder('f')
const call = (module: string, name: string, ...args: unknown[]) => host.call(host.global(module, name), args, () => {})
const untyped = () => host.persistent(['storage', host.global('torch.storage', 'UntypedStorage'), '0', 'cpu', 4])
const two: HostTensor<ArrayLike<number>> = { dtype: 'F32', shape: [2], data: [1] }

/** A container of one entry, opened. */
async function opened(name: string, claims: Parameters<typeof zipOf>[0][number]['claims'] = {}): Promise<ZipFile> {
  writeFileSync(at(name), zipOf([{ name: 'entry', data: new Uint8Array(4000), claims }]))
  return ZipFile.open(at(name))
}

table([
  [
    'untyped',
    () => call('torch._utils', '_rebuild_tensor_v2', untyped(), 0, [1], [1]),
    /^f: expected a tensor with a type of/,
  ],
  [
    'writing too few',
    () => writeSafetensors(at('few'), new Map([['w', two]])),
    /tensor 'w': expected 2 elements for \[2\], got 1$/,
  ],
  [
    'a name that is taken',
    () => encodeSafetensors(new Map([['__metadata__', two]])),
    /^writing: '__metadata__' cannot be the name of a tensor$/,
  ],
  ['a folder as a zip', () => ZipFile.open(place), /expected a file, got a folder or a device$/],
  [
    'beyond an entry',
    async () => {
      using zip = await opened('beyond.zip')
      zip.read(zip.entries.get('entry')!, 3, 5000)
    },
    /beyond\.zip: entry: expected bytes 3 to 5000, got 4000$/,
  ],
  [
    'a zip that shrinks',
    async () => {
      using zip = await opened('shrinks.zip')
      truncateSync(at('shrinks.zip'), 1000)
      zip.read(zip.entries.get('entry')!)
    },
    /shrinks\.zip: expected 4000 bytes at \d+, got \d+: it shrank$/,
  ],
])

// ---- data sets ------------------------------------------------------------------------------------------------------

const unreadable = () => Promise.reject(new UnreadablePicture('no'))
const weights = at('weights')
writeFileSync(weights, 'any')

/** Latents of `count` plain pictures. */
async function latents(
  length: number,
  shape: readonly [number, number, number],
  label = 0,
  pixels: ImageDataset['pixels'] = () => new Uint8Array(48),
): Promise<LatentDataset> {
  const folder = mkdtempSync(at('latents-'))
  const classes = ['one', 'two']
  const data: ImageDataset = {
    name: 'plain',
    length,
    size: 4,
    channels: 3,
    classes,
    flips: false,
    label: () => label,
    pixels,
    skipped: new Skipped(() => {}),
  }
  const vae = { file: 'vae.safetensors', sha256: await sha256Of(weights), from: weights, scalingFactor: 1 }
  const source = { data: 'plain', size: 4, pictures: length, classes, mirrored: false, shape, vae, arithmetic: 'none' }
  const [C, h, w] = shape
  const encode = async (images: Float32Array) => {
    const values = new Float32Array((images.length / 48) * C * h * w)
    return { mean: values, std: values }
  }
  await writeLatents(folder, data, source, { encode, together: 4, shardBytes: 512 })
  return openLatents(folder)
}

type Array64 = HostTensor<ArrayLike<number>>
const gaussian = (D: number): Array64 => ({ dtype: 'F64', shape: [D, D], data: new Float64Array(D * D) })
const mean: Array64 = { dtype: 'F64', shape: [3], data: [1, 2, 3] }

/** An .npz of arrays, opened. */
async function npz(name: string, arrays: Parameters<typeof writeNpz>[1]): Promise<NpzFile> {
  await writeNpz(at(name), arrays)
  return NpzFile.open(at(name))
}

table([
  ['no latents', () => latents(1, [1, 2, 2], 0, unreadable), /: expected latents of one picture at least, got none$/],
  ['a label of latents', () => latents(1, [1, 2, 2], 7), /: expected labels below 2, got 7$/],
  ['oblong latents', () => latents(1, [1, 2, 3]), /: expected square latents, got 2 by 3$/],
  [
    'latents that are gone',
    async () => {
      const data = await latents(1, [1, 2, 2])
      rmSync(data.name, { recursive: true })
      await data.moments(0, false)
    },
    /: could not be read: no such file or folder$/,
  ],
  [
    'latents that shrink',
    async () => {
      const data = await latents(1, [1, 2, 2])
      truncateSync(join(data.name, data.index.shards[0].file), 100)
      await data.moments(0, false)
    },
    /: expected 16 bytes at \d+, got 0: the file shrank$/,
  ],
  [
    'statistics by name',
    () => writeStatistics(at('a.txt'), {} as SetStatistics, 'x'),
    /a\.txt: expected a name that ends with/,
  ],
  [
    'other arrays',
    async () => {
      ;(await npz('other.npz', new Map([['x', mean]]))).close()
      await readStatistics(at('other.npz'))
    },
    /other\.npz: expected arrays mu and sigma, got neither$/,
  ],
  [
    'a covariance of another size',
    async () => {
      ;(
        await npz(
          'size.npz',
          new Map([
            ['mu', mean],
            ['sigma', gaussian(2)],
          ]),
        )
      ).close()
      await readStatistics(at('size.npz'))
    },
    /size\.npz: expected sigma \[3, 3\], got \[2, 2\]$/,
  ],
  [
    'other tensors',
    async () => {
      await writeSafetensors(at('other.safetensors'), new Map([['w', { ...two, data: [1, 2] }]]))
      await readStatistics(at('other.safetensors'))
    },
    /other\.safetensors: expected statistics of features, got w$/,
  ],
  [
    'sums that do not fit',
    async () => {
      const part = { dtype: 'F64' as const, shape: [4], data: [1, 2, 3, 4] }
      const names = ['pool', 'spatial'].flatMap(kind => ['seen', 'sums', 'products'].map(name => `${kind}.${name}`))
      await writeSafetensors(at('sums.safetensors'), new Map(names.map(name => [name, part])))
      await readStatistics(at('sums.safetensors'))
    },
    /sums\.safetensors: FeatureStatistics: expected \d+ products for \d+ sums, got \d+$/,
  ],
  [
    'a header that runs out',
    () => parseNpyHeader(encodeNpyHeader('F32', [2]).subarray(0, 20), 1000, 'x.npy'),
    /^x\.npy: expected a header within 20 bytes, got one of \d+$/,
  ],
  [
    'pictures too large to keep',
    () => {
      const plain = Buffer.concat([encodeNpyHeader('U8', [2, 1, 1, 3]), new Uint8Array(6)])
      const data = deflateRawSync(plain)
      const part = { name: 'arr_0.npy', data, claims: { method: 8, size: plain.length, crc: crc32(plain) } }
      writeFileSync(at('large.npz'), zipOf([part]))
      return openNpz(at('large.npz'), 30_000)
    },
    /large\.npz: 2 pictures of 30000 px take more than 2 GiB: expected a file without compression$/,
  ],
  [
    'a row beyond',
    async () => {
      using file = await npz('row.npz', new Map([['x', mean]]))
      file.row('x', 3)
    },
    /row\.npz: x: expected a row below 3, got 3$/,
  ],
  [
    'rows of a number',
    async () => {
      using file = await npz('number.npz', new Map([['x', { dtype: 'F64' as const, shape: [], data: [1] }]]))
      file.row('x', 0)
    },
    /number\.npz: x: expected an array with rows, got a number$/,
  ],
  ['no size', () => openDataset('emoji', 0), /^openDataset: expected size to be an integer from 1, got 0$/],
])

// ---- layers, diffusion, models, folders -----------------------------------------------------------------------------

const noLevels = () => eulerSample(x => x, ones([1]), new Float64Array(1))
const kept = () => tokenMask([1, 2, 3, 4], [1, 4], 0.5)
const options = {
  inputSize: 4,
  patchSize: 2,
  inChannels: 1,
  numClasses: 0,
  depth: 1,
  hiddenSize: 8,
  numHeads: 2,
  mlpRatio: 1,
  decoder: { depth: 1, hiddenSize: 8, numHeads: 2 },
}

table([
  [
    'nothing to train',
    () => new AdamW(new Map([['w', ones([1])]])),
    /^AdamW: expected at least one parameter that requires/,
  ],
  [
    'patches',
    () => unpatchify(ones([1, 3, 4]), 2, [4, 4]),
    /^unpatchify: expected 4 tokens of 2·2·C, got \[1, 3, 4\]$/,
  ],
  ['levels', noLevels, /^eulerSample: sigmas: expected at least 2 levels, got 1$/],
  [
    'patches of a number',
    () => maskedReconstruction(ones([1, 1, 2, 2]), ones([1, 1, 2, 2]), kept(), 1),
    /^maskedReconstruction: expected patches of at least 2 numbers, got 1$/,
  ],
  [
    'guidance without classes',
    () => new MaskDiT(options as never, { rng: rng(0) }).guided(ones([1, 1, 4, 4]), [0], [0], 2),
    /^MaskDiT: guidance: expected a model with classes, got one without$/,
  ],
  ['a preset', () => maskdmPreset('huge'), /^maskdmPreset: expected one of .*, got 'huge'$/],
  [
    'no images',
    () => writeGrid(at('grid.png'), [], [0, 3, 2, 2]),
    /^writeGrid: expected at least one image and 0 values, got 0$/,
  ],
  [
    'a folder that is taken',
    () => {
      const release = lockFolder(at('taken'))
      try {
        lockFolder(at('taken'))
      } finally {
        release()
      }
    },
    /taken: process \d+ works there since /,
  ],
  [
    'a folder that another machine has',
    () => {
      mkdirSync(at('shared'))
      const owner = { host: `not-${hostname()}`, pid: 1, start: '', since: 'noon' }
      writeFileSync(at('shared/.lock-1'), JSON.stringify(owner))
      lockFolder(at('shared'))
    },
    /shared: process 1 on not-.* works there since noon; if it does no more, delete .*\.lock-1$/,
  ],
  ['a folder in a file', () => lockFolder(at('weights/run')), /weights\/run: could not be locked: not a folder$/],
])

// ---- programs -------------------------------------------------------------------------------------------------------

const size = { inputSize: 4, patchSize: 2, numClasses: 0, depth: 1, hiddenSize: 24, numHeads: 2, mlpRatio: 1 }
/** Weights of a DiT that is of no preset. */
const odd = new DiT({ ...size, inChannels: 4, learnSigma: false }, { rng: rng(0) })
const oddState = odd.stateDict()

table([
  [
    'other weights',
    () => recognise(new Map([['w', oddState.get('pos_embed')!]]) as never, 'w.pt'),
    /^w\.pt: expected the state dict of one of DiT, MDT, MDTv2, MaskDiT, MaskDM, got 1 tensors of other names$/,
  ],
  [
    'weights of another rank',
    () => recognise(new Map([['x_embedder.proj.weight', oddState.get('pos_embed')!]]) as never, 'w.pt'),
    /^w\.pt: expected x_embedder\.proj\.weight with 4 axes, got \[1, 4, 24\]$/,
  ],
  [
    'weights of no preset',
    () => recognise(oddState as never, 'w.pt'),
    /^w\.pt: no preset has width 24 and this depth: expected --heads, which no shape tells$/,
  ],
  [
    'a model at a size',
    () => checkPatches({ inputSize: 30, patchSize: 4 }, { preset: 'S/4', latents: null }),
    /^--size: expected a multiple of S\/4's patch size, 4, got 30$/,
  ],
  [
    'a model of few patches',
    () => checkPatches({ inputSize: 6, patchSize: 2 }, { preset: 'S/2', latents: null, maskRatio: 0.9 }),
    /^--mask-ratio: expected a mask that keeps at least one of 9 tokens, got 0\.9$/,
  ],
  [
    'an autoencoder at a size',
    () => autoencoder.options('tiny', { inputSize: 30, inChannels: 3, numClasses: 0 }),
    /^--size: expected a multiple of 4, the downsampling of tiny, got 30$/,
  ],
])

/** Two pictures, a folder without, and a file of one; what `evaluate --save` makes of them. */
async function evaluated(): Promise<void> {
  for (const folder of ['pictures', 'empty', 'damaged']) mkdirSync(at(folder))
  for (const [i, background] of ['red', 'blue'].entries())
    await sharp({ create: { width: 32, height: 32, channels: 3, background } }).toFile(at(`pictures/${i}.png`))
  writeFileSync(at('damaged/a.png'), 'no picture')
  await writeNpz(at('numbers.npz'), new Map([['arr_0', mean]]))
  for (const ending of ['npz', 'safetensors'])
    await succeed('demask', ['evaluate', at('pictures'), '--save', at(`set.${ending}`)])
}

test('evaluate says what it cannot measure', async () => {
  await evaluated()
  const save = ['--save', at('made.npz')]
  const evaluate = (words: string[], says: RegExp) => fail('demask', ['evaluate', ...words, ...save], says)
  await evaluate([at('pictures'), '--part', '3/2'], /--part: expected I\/N with I from 1 to N, got '3\/2'/)
  await evaluate([at('empty')], /empty: expected pictures \(.*\) or class folders of pictures, got none/)
  await evaluate([at('numbers.npz')], /numbers\.npz: arr_0: expected pictures \(N, H, W, 3\), .*, got F64 \[3\]/)
  await evaluate([at('set.npz'), '--part', '1/2'], /--part: expected pictures to measure a part of, got statistics/)
  await evaluate(
    [at('set.npz'), '--with', at('set.safetensors')],
    /--with: expected statistics that can be merged, got/,
  )
  await evaluate([at('set.safetensors'), '--with', at('set.npz')], /set\.npz: expected statistics that can be merged/)
  await evaluate([at('set.npz')], /--save: expected pictures or mergeable statistics: .*set\.npz/)
})

/** The weights of a model as a file. */
async function stored(name: string, model: DiT | MDT | PreconditionedMaskDiT): Promise<string> {
  const weights = [...model.stateDict()].map(([key, w]) => {
    const tensor: HostTensor<ArrayLike<number>> = { dtype: 'F32', shape: w.shape, data: w.dataSync() }
    return [key, tensor] as const
  })
  await writeSafetensors(at(name), new Map(weights))
  return at(name)
}

test('what needs weights says which they are not', async () => {
  const sample = [
    'sample',
    '--from',
    await stored('odd.safetensors', odd),
    '--heads',
    '2',
    '--steps',
    '2',
    '--out',
    at('made.npz'),
  ]
  await fail(
    'demask',
    sample,
    /--vae: expected a file with an \.npz of pictures, since the model generates latents, got none/,
  )
  const pictures = { inputSize: 8, inChannels: 4, numClasses: 0 }
  const mdt = await stored('mdt.safetensors', new MDT(mdtPreset('tiny', pictures), { rng: rng(0) }))
  await fail('inpaint', ['--from', mdt], /--from: expected a model of RGB pictures, got one of 4 channels/)
  const maskdit = await stored(
    'maskdit.safetensors',
    new PreconditionedMaskDiT(maskDiTPreset('tiny', pictures), { rng: rng(0) }),
  )
  await fail('inpaint', ['--from', maskdit], /--from: expected one of DiT, MDT, MDTv2, got a MaskDiT/)
  for (const channels of [1, 3]) {
    const options = { ...autoencoderPresets.tiny, inChannels: channels, outChannels: channels }
    await saveVae(at(`vae-${channels}.safetensors`), new AutoencoderKL(options, { rng: rng(0) }), 1, 8)
  }
  const encode = ['encode-latents', at('pictures'), '--threads', '1', '--out', at('encoded'), '--vae']
  await fail('demask', [...encode, at('vae-1.safetensors')], /expected an autoencoder of RGB pictures, got 1 channels/)
  await fail(
    'demask',
    [...encode, at('vae-3.safetensors'), '--size', '30'],
    /--size: expected a multiple of \d+, got 30/,
  )
})

table([
  [
    'a folder in which nothing can be read',
    () => openFolder(at('damaged'), 8, { report: () => {} }),
    /damaged: expected pictures, got 1 that cannot be read$/,
  ],
])

test.run()
