/**
 * Targets of fuzzing: every reader of files and of command lines, each with valid files to start from and with the errors
 * that it may throw. Any other error is a finding. Needs Node. Used by run.ts.
 */

import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import sharp from 'sharp'
import { sampleFlags } from '../../cli/sample-settings.ts'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { rng } from '../../core/index.ts'
import { openCifar } from '../../data/cifar.ts'
import { readPicture } from '../../data/folder.ts'
import { openIdx } from '../../data/idx.ts'
import { type ImageDataset, openLatents, writeLatents } from '../../data/index.ts'
import { listRows } from '../../data/list-rows.ts'
import { openNpz } from '../../data/npz-pictures.ts'
import { encodeNpyHeader } from '../../io/npy.ts'
import { NpzFile, type NpzSource, readNpz, writeNpz } from '../../io/npz.ts'
import { PickleError } from '../../io/pytorch/pickle.ts'
import { type HostTensor, type RawTensor, SafetensorsError } from '../../io/safetensors.ts'
import { readSafetensors, writeSafetensors } from '../../io/safetensors-node.ts'
import { UserError } from '../../io/user-error.ts'
import { openWeights } from '../../io/weights-node.ts'
import { ZipError } from '../../io/zip-node.ts'
import type { SettingsTable } from '../../models/family.ts'
import { recognise } from '../../models/recognise.ts'
import type { Module } from '../../nn/index.ts'
import { newSettings, programs, readState, type TrainingProgram } from '../../training/index-node.ts'
import { readRows } from '../../training/metrics.ts'
import { withPreset } from '../../training/settings.ts'
import { root } from '../repo/markdown.ts'
import { dataTargets, look } from './data-targets.ts'

export interface Target {
  readonly name: string
  /** Writes right files into a folder that is empty. */
  seed(folder: string): Promise<void>
  /** Reads `folder`, one of whose files was changed: all of it, as the programs do. */
  read(folder: string, file: string): Promise<void>
}

/** The errors that a person is meant to see. */
export const ours = [UserError, SafetensorsError, PickleError, ZipError]

const tensors = new Map<string, HostTensor<ArrayLike<number>>>([
  ['a.weight', { dtype: 'F32', shape: [3, 4], data: rng(1).normalArray(12) }],
  ['b', { dtype: 'I64', shape: [2], data: [1, -1] }],
  ['c', { dtype: 'BF16', shape: [2, 2], data: [0, 1, 2, 3] }],
])

const types = new Map<string, HostTensor<ArrayLike<number>> | RawTensor>([
  ['f8', { dtype: 'F8_E4M3', shape: [2, 2], size: 4, bytes: () => Uint8Array.of(0, 1, 127, 255) }],
  ['u8', { dtype: 'U64', shape: [2], data: [1, 2] }],
  ['u4', { dtype: 'U32', shape: [1], data: [7] }],
])

/** All of a file of weights: elements, bytes, and which model they are of. */
async function readWeights(path: string): Promise<void> {
  using file = await openWeights(path)
  for (const tensor of file.state.values()) {
    tensor.bytes()
    tensor.data.length
  }
  if (file.metadata.get('config') !== undefined) recognise(file.state, path, { config: file.metadata.get('config') })
}

const copy = (folder: string, from: string) => {
  for (const name of readdirSync(from))
    if (statSync(join(from, name)).isFile()) writeFileSync(join(folder, name), readFileSync(join(from, name)))
}

/** Settings of a new run of a training program. */
function settle<Model extends Module, Options, Own extends SettingsTable>(
  program: TrainingProgram<Model, Options, Own>,
  words: readonly string[],
): void {
  const { given, flags } = readTrainingCommand(program, 'demask', words)
  const { preset } = withPreset(program.family, given)
  newSettings(program.family, program.complete?.(given, flags.steps, preset) ?? given)
}

/** Command lines of programs, and what makes settings of them. */
const commandLines: Readonly<Record<string, readonly [words: string, parse: (words: readonly string[]) => unknown]>> = {
  mdt: [
    '--preset tiny --data my-pictures --size 32 --steps 9 --labels yes --mask-ratio 0.3 --seed 7 --clip 1',
    words => settle(programs.mdt, words),
  ],
  maskdit: [
    '--preset tiny --steps 9 --batch 3 --minutes 0.5 --seed 7 --out runs/a --threads 2',
    words => settle(programs.maskdit, words),
  ],
  maskdm: [
    'pretrain --preset tiny --steps 9 --batch 3 --lr 1e-3 --seed 7 --out runs/a --backend wasm',
    words => settle(programs.maskdm, words),
  ],
  vae: ['--preset tiny --steps 9 --batch 3 --size 32 --seed 7 --out runs/a', words => settle(programs.vae, words)],
  sample: [
    '--from runs/a --count 9 --class a,b --guidance 3 --seed 7 --sampler ddim --steps 5 --out a.png',
    sampleFlags,
  ],
}

const bigEndian = (...values: number[]) =>
  Buffer.from(values.flatMap(v => [v >>> 24, (v >>> 16) & 255, (v >>> 8) & 255, v & 255]))

function writeIdx(folder: string): void {
  const images = Buffer.concat([bigEndian(0x803, 3, 4, 4), Buffer.alloc(48, 7)])
  const labels = Buffer.concat([bigEndian(0x801, 3), Buffer.from([0, 1, 2])])
  writeFileSync(join(folder, 'train-images-idx3-ubyte'), images)
  writeFileSync(join(folder, 'train-labels-idx1-ubyte'), labels)
}

/** Sixteen pictures of one colour each. */
const plain: ImageDataset = {
  name: 'plain',
  length: 16,
  size: 4,
  channels: 3,
  classes: ['one', 'two'],
  flips: true,
  label: i => i % 2,
  pixels: i => new Uint8Array(48).fill(i),
}

export const targets: readonly Target[] = [
  {
    name: 'safetensors',
    async seed(folder) {
      await writeSafetensors(join(folder, 'weights.safetensors'), tensors)
      await writeSafetensors(join(folder, 'types.safetensors'), types)
    },
    async read(_, file) {
      readSafetensors(file)
      await readWeights(file)
    },
  },
  {
    name: 'shards',
    async seed(folder) {
      await writeSafetensors(join(folder, 'a.safetensors'), tensors)
      await writeSafetensors(join(folder, 'b.safetensors'), types)
      const names = [
        ...Array.from(tensors.keys(), name => [name, 'a']),
        ...Array.from(types.keys(), name => [name, 'b']),
      ]
      const weight_map = Object.fromEntries(names.map(([name, shard]) => [name, `${shard}.safetensors`]))
      writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }))
    },
    read: folder => readWeights(folder),
  },
  {
    name: 'pytorch',
    seed: async folder => copy(folder, join(root, 'tests/fixtures/pytorch')),
    async read(_, file) {
      await readWeights(file)
    },
  },
  {
    name: 'pictures',
    async seed(folder) {
      const image = sharp({ create: { width: 20, height: 12, channels: 3, background: '#a51' } })
      for (const format of ['png', 'jpeg', 'webp'] as const)
        writeFileSync(join(folder, `picture.${format}`), await image.toFormat(format).toBuffer())
    },
    read: async (_, file) => void (await readPicture(file, 8)),
  },
  {
    name: 'idx',
    seed: async folder => writeIdx(folder),
    read: async folder => look(await openIdx(join(folder, 'train-images-idx3-ubyte'), 4)),
  },
  {
    name: 'idx-gzip',
    async seed(folder) {
      writeIdx(folder)
      for (const name of readdirSync(folder))
        writeFileSync(join(folder, `${name}.gz`), gzipSync(readFileSync(join(folder, name))))
    },
    read: async folder => look(await openIdx(join(folder, 'train-images-idx3-ubyte.gz'), 4)),
  },
  {
    name: 'cifar',
    async seed(folder) {
      for (let i = 1; i <= 5; i++) writeFileSync(join(folder, `data_batch_${i}.bin`), Buffer.alloc(2 * 3073, i))
      writeFileSync(join(folder, 'test_batch.bin'), Buffer.alloc(2 * 3073, 6))
      writeFileSync(join(folder, 'batches.meta.txt'), Array.from({ length: 10 }, (_, i) => `class ${i}\n`).join(''))
    },
    read: async folder => look(openCifar('cifar10', folder, 32)),
  },
  {
    name: 'lists',
    async seed(folder) {
      writeFileSync(join(folder, 'a.csv'), '\ufeffpath,label,"w,h"\r\n1.png,cat,"4,4"\r\n"2 ""b"".png",dog,"4,4"\r\n')
      writeFileSync(join(folder, 'b.csv'), '1.png,3\n2.png,20\n')
      writeFileSync(join(folder, 'c.jsonl'), '{"file_name": "1.png", "label": 3}\n{"path": "2.png", "label": "4"}\n')
    },
    read: async (_, file) => void listRows(file),
  },
  {
    name: 'npz',
    async seed(folder) {
      const data = Uint8Array.from({ length: 96 }, (_, i) => i)
      const labels = { dtype: 'I64' as const, shape: [2], data: [0, 1] }
      const samples = { dtype: 'U8' as const, shape: [2, 4, 4, 3], data }
      await writeNpz(
        join(folder, 'samples.npz'),
        new Map<string, NpzSource>([
          ['arr_0', samples],
          ['arr_1', labels],
        ]),
      )
      const header = Buffer.from(encodeNpyHeader('U8', samples.shape)).toString('latin1')
      const alone = (name: string, text: string) =>
        writeFileSync(join(folder, name), Buffer.concat([Buffer.from(text, 'latin1'), data]))
      alone('samples.npy', header)
      alone('fortran.npy', header.replace('False', 'True ')) // as long as before
    },
    async read(_, file) {
      await readNpz(file)
      using arrays = await NpzFile.open(file)
      for (const name of arrays.arrays.keys()) for await (const row of arrays.rows(name)) arrays.decodeRow(name, row)
      await look(await openNpz(file, 4))
    },
  },
  ...dataTargets,
  {
    name: 'latents',
    async seed(folder) {
      const weights = join(folder, 'vae.safetensors')
      await writeSafetensors(weights, tensors)
      const { sha256Of } = await import('../../io/checksum.ts')
      const vae = { file: 'vae.safetensors', sha256: await sha256Of(weights), from: weights, scalingFactor: 0.5 }
      const { name, size, length: pictures, classes, flips: mirrored } = plain
      const source = {
        data: name,
        size,
        pictures,
        classes,
        mirrored,
        shape: [1, 2, 2] as const,
        vae,
        arithmetic: 'none',
      }
      const encode = async (images: Float32Array) => {
        const values = new Float32Array((images.length / 48) * 4).fill(images[0])
        return { mean: values, std: values }
      }
      await writeLatents(join(folder, 'latents'), plain, source, { encode, together: 4, shardBytes: 512 })
      copy(folder, join(folder, 'latents'))
    },
    async read(folder) {
      const latents = await openLatents(folder)
      try {
        for (let i = 0; i < Math.min(latents.length, 4); i++) await latents.moments(i, i % 2 === 1)
      } finally {
        latents.close()
      }
    },
  },
  {
    name: 'state',
    async seed(folder) {
      const state = { step: 7, emaUpdates: 7, backend: 'wasm relaxed', settings: { lr: 1e-3 }, classes: ['a'] }
      writeFileSync(join(folder, 'state.json'), JSON.stringify(state))
    },
    read: async folder => void readState(folder),
  },
  {
    name: 'metrics',
    async seed(folder) {
      const rows = Array.from({ length: 4 }, (_, i) => JSON.stringify({ step: i + 1, loss: 0.5 }))
      writeFileSync(join(folder, 'metrics.jsonl'), `${rows.join('\n')}\n`)
    },
    read: async (_, file) => void readRows(file),
  },
  {
    name: 'arguments',
    async seed(folder) {
      for (const [name, [words]] of Object.entries(commandLines))
        writeFileSync(join(folder, name), words.replaceAll(' ', '\n'))
    },
    async read(_, file) {
      const words = readFileSync(file, 'utf8').split('\n')
      if (words.includes('--help')) return // it ends the process
      commandLines[basename(file)][1](words)
    },
  },
]

/** A folder of right files for a target; its files by their names. */
export async function seeded(target: Target, folder: string): Promise<ReadonlyMap<string, Uint8Array>> {
  mkdirSync(folder, { recursive: true })
  await target.seed(folder)
  const names = readdirSync(folder).filter(name => statSync(join(folder, name)).isFile())
  return new Map(names.map(name => [name, readFileSync(join(folder, name))]))
}
