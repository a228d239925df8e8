/**
 * `demask info`: what is in a file of weights (.safetensors, .pt), a run, one of its checkpoints, a folder of latents, or
 * arrays of NumPy. Needs Node. Only headers are read, so that large files answer at once.
 */

import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { sizeOf } from '../core/shape.ts'
import { readIndex } from '../data/index.ts'
import { NpzFile } from '../io/npz.ts'
import { PyTorchFile } from '../io/pytorch-node.ts'
import { UserError } from '../io/user-error.ts'
import { type FileTensor, isPyTorch, openWeights, type WeightsFile, weightsIn } from '../io/weights-node.ts'
import { autoencoderOptionsOfShapes } from '../models/index.ts'
import { describe, recognise } from '../models/recognise.ts'
import { checkpoints } from '../training/checkpoint.ts'
import { type Row, type RunState, readRows, readState } from '../training/index-node.ts'
import { describedIn, type Trained, toldOf } from '../training/trained-run.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'

/** Facts, each with its name. */
type Lines = (readonly [name: string, value: string])[]
type Tensors = ReadonlyMap<string, FileTensor>

export async function run(words: readonly string[]): Promise<void> {
  const { path, part, tensors } = readFlags(
    {
      command: `${demask} info`,
      about: 'Tells what is in a file of weights, a run, a checkpoint, a folder of latents or arrays of NumPy.',
      operands: {
        path: { about: '.safetensors, .pt, .npz, .npy, or a folder of training, of encode-latents or of diffusers' },
      },
      flags: {
        part: { type: 'text', value: 'KEYS', about: 'the state dict in a .pt file that has several' },
        tensors: { type: 'switch', about: 'list every tensor too' },
      },
      examples: [
        ['runs/mdt-tiny', 'a run: settings, steps, model, checkpoints'],
        ['DiT-XL-2-256x256.pt --tensors', 'published weights, with all names and shapes'],
        ['samples.npz', 'arrays of NumPy'],
      ],
    },
    words,
  )
  const kind = statSync(path, { throwIfNoEntry: false })
  if (kind === undefined) throw new UserError(`${path}: no such file or folder`)
  const listed = { tensors, part }
  if (!kind.isDirectory()) show(await ofFile(path, listed))
  else if (existsSync(join(path, 'index.json'))) show(ofLatents(path))
  else if (existsSync(join(path, 'state.json'))) show([...ofState(path), ...(await ofWeights(path, listed))])
  else if (existsSync(join(path, 'metrics.jsonl')) || checkpoints(path).length > 0) show(await ofRun(path, listed))
  else if (weightsIn(path) !== null) show(await ofFile(weightsIn(path)!, listed))
  else
    throw new UserError(`${path}: expected a run, a checkpoint or a folder of latents, got a folder of something else`)
}

function show(lines: Lines): void {
  const width = Math.max(...lines.map(([name]) => name.length)) + 2
  for (const [name, value] of lines) console.log(name.padEnd(width) + value)
}

interface Asked {
  /** List them. */
  readonly tensors: boolean
  readonly part?: string
  /** The run of a checkpoint, which tells more of its model than shapes do. */
  readonly run?: Trained
}

async function ofFile(path: string, asked: Asked): Promise<Lines> {
  const size: Lines = [['file', `${path}, ${bytes(statSync(path).size)}`]]
  if (/\.np[yz]$/i.test(path)) return [...size, ...(await ofArrays(path))]
  if (asked.part === undefined && isPyTorch(path)) size.push(...(await ofParts(path)))
  using file = await openWeights(path, { part: asked.part })
  const part: Lines = file.part === '' ? [] : [['part', file.part]]
  const metadata: Lines = Array.from(file.metadata, ([name, value]) => [`metadata ${name}`, shortened(value)] as const)
  return [...size, ...part, ...modelOf(file, path, asked), ...contents(file.state, asked), ...metadata]
}

/** The state dicts of a checkpoint, where there are several. */
async function ofParts(path: string): Promise<Lines> {
  using file = await PyTorchFile.open(path)
  if (file.stateDicts.size < 2) return []
  const names = Array.from(file.stateDicts, ([name, { size }]) => `${name === '' ? 'the file itself' : name} (${size})`)
  return [['parts', `${names.join(', ')}; --part chooses another`]]
}

/** Whose weights they are. */
function modelOf({ state, metadata }: WeightsFile, path: string, { run }: Asked): Lines {
  try {
    const told = toldOf(run ?? describedIn(metadata, path), metadata)
    return [['model', describe(recognise(state, path, told))]]
  } catch (error) {
    const { inChannels, latentChannels, blockOutChannels } = autoencoderOf(state) ?? {}
    if (blockOutChannels !== undefined)
      return [
        [
          'model',
          `AutoencoderKL: ${inChannels} channels to ${latentChannels}, blocks of ${blockOutChannels.join(', ')}`,
        ],
      ]
    return [['model', `not recognised: ${(error as Error).message.replace(`${path}: `, '')}`]]
  }
}

type HostState = Parameters<typeof recognise>[0]

function autoencoderOf(state: HostState): ReturnType<typeof autoencoderOptionsOfShapes> | null {
  try {
    return autoencoderOptionsOfShapes(state)
  } catch {
    return null
  }
}

function contents(tensors: Tensors, { tensors: all }: Asked): Lines {
  const [numbers, size, types] = [new Map<string, number>(), { elements: 0, bytes: 0 }, [] as string[]]
  for (const { dtype, shape, size: stored } of tensors.values()) {
    size.elements += sizeOf(shape)
    size.bytes += stored
    numbers.set(dtype, (numbers.get(dtype) ?? 0) + 1)
  }
  for (const [dtype, count] of numbers) types.push(`${grouped(count)} ${dtype}`)
  const total = `${types.join(' and ')}: ${grouped(size.elements)} numbers, ${bytes(size.bytes)}`
  const rows = Array.from(
    tensors,
    ([name, { dtype, shape }]) => ['', `${dtype} [${shape.join(', ')}] ${name}`] as const,
  )
  return [['tensors', total], ...(all ? rows : [])]
}

async function ofArrays(path: string): Promise<Lines> {
  using file = await NpzFile.open(path)
  return Array.from(
    file.arrays,
    ([name, { dtype, shape }]) => [`array ${name}`, `${dtype} [${shape.join(', ')}]`] as const,
  )
}

async function ofRun(path: string, asked: Asked): Promise<Lines> {
  const rows = readRows(join(path, 'metrics.jsonl'))
  const last = rows.at(-1)
  const kept = checkpoints(path)
  const latest = kept.at(-1)
  const lines: Lines = [
    ['run', path],
    ['steps', last === undefined ? 'none yet' : `${grouped(last.step)}, the last with ${figures(last)}`],
    ['checkpoints', kept.length === 0 ? 'none yet' : kept.map(({ path }) => basename(path)).join(', ')],
  ]
  return latest === undefined ? lines : [...lines, ...ofState(latest.path), ...(await ofWeights(latest.path, asked))]
}

function figures({ step: _, ...values }: Row): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(', ')
}

/** Lines about a checkpoint's state.json. */
function ofState(checkpoint: string): Lines {
  const { step, settings, backend, classes, latents } = readState<RunState<Trained>>(checkpoint)
  const lines: Lines = [
    ['checkpoint', `${checkpoint}, after step ${grouped(step)}, on ${backend}`],
    [
      'settings',
      Object.entries(settings)
        .filter(([, value]) => value !== null)
        .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
        .join(', '),
    ],
  ]
  if (classes !== undefined && classes.length > 0)
    lines.push(['classes', `${classes.length}: ${shortened(classes.join(', '))}`])
  if (latents != null) lines.push(['latents', `of ${latents.path}, scaled by ${latents.scalingFactor}`])
  return lines
}

/** The averaged weights of a checkpoint; its other files are as large or larger, and listed by size. */
async function ofWeights(checkpoint: string, asked: Asked): Promise<Lines> {
  const run = readState<RunState<Trained>>(checkpoint)
  const sizes = readdirSync(checkpoint).map(name => `${name} ${bytes(statSync(join(checkpoint, name)).size)}`)
  const files: Lines = [['files', sizes.join(', ')]]
  return [...files, ...(await ofFile(join(checkpoint, 'ema.safetensors'), { ...asked, run }))]
}

function ofLatents(path: string): Lines {
  const index = readIndex(path)!
  const { pictures, data, size, shape, shards, skipped, classes, mirrored, complete, vae } = index
  const rows = shards.reduce((sum, shard) => sum + shard.rows, 0)
  const total = shards.reduce((sum, shard) => sum + shard.bytes, 0)
  const lines: Lines = [
    [
      'latents',
      `${path}, ${shape.join(' × ')} each, ${mirrored ? 'with those of mirror images' : 'without mirror images'}`,
    ],
    [
      'pictures',
      `${grouped(rows)} of the ${grouped(pictures)} of ${data} at ${size} px${complete ? '' : '; not complete'}`,
    ],
    ['shards', `${shards.length}, ${bytes(total)}`],
    [
      'autoencoder',
      `SHA-256 ${vae.sha256.slice(0, 12)}…; its latents are scaled by ${Number(vae.scalingFactor.toPrecision(4))}`,
    ],
  ]
  if (classes.length > 0) lines.push(['classes', `${classes.length}: ${shortened(classes.join(', '))}`])
  if (skipped > 0) lines.push(['left out', `${grouped(skipped)} that could not be read`])
  return lines
}

function bytes(count: number): string {
  return count < 2 ** 20 ? `${(count / 2 ** 10).toFixed(1)} KiB` : `${(count / 2 ** 20).toFixed(1)} MiB`
}

function grouped(value: number): string {
  return value.toLocaleString('en')
}

function shortened(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}
