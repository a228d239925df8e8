/**
 * `demask convert`: weights of PyTorch's checkpoints or of safetensors into safetensors. Needs Node. Nothing in a .pt file
 * is run (io/pytorch/), tensors pass one by one, and the new file appears whole or not at all. Numbers that stay what they
 * are pass as bytes, of whatever type they are. How files are opened: io/weights-node.ts.
 */

import { existsSync, statSync } from 'node:fs'
import { SingleBar } from 'cli-progress'
import { sizeOf } from '../core/shape.ts'
import { writeAside } from '../io/aside.ts'
import { type HostTensor, type RawTensor, safetensorsBytes } from '../io/safetensors.ts'
import { isSafetensorsDType } from '../io/safetensors-elements.ts'
import { writeSafetensors } from '../io/safetensors-node.ts'
import { UserError } from '../io/user-error.ts'
import { openWeights, type WeightsFile } from '../io/weights-node.ts'
import { checkpointIn, locate, metadataOf } from '../training/trained-run.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'

/** Targets for floating-point numbers, with the least number that each rounds to infinity. */
const targets = {
  f32: { dtype: 'F32', tooLarge: (2 - 2 ** -24) * 2 ** 127 },
  f16: { dtype: 'F16', tooLarge: 65520 },
  bf16: { dtype: 'BF16', tooLarge: (2 - 2 ** -8) * 2 ** 127 },
} as const
type Target = keyof typeof targets

export async function run(words: readonly string[]): Promise<void> {
  const { from, to, part, dtype, strip } = readFlags(
    {
      command: `${demask} convert`,
      about:
        'Converts weights of PyTorch or of safetensors into .safetensors, tensor by tensor. No code in a file is run.',
      operands: {
        from: {
          about:
            'a run of demask, a checkpoint of PyTorch, a safetensors file, an index of shards, a folder of diffusers',
        },
        to: { about: 'the new .safetensors file' },
      },
      flags: {
        part: {
          type: 'text',
          value: 'KEYS',
          about: 'which state dict of a checkpoint, as ema or opt.state.0 (default ema, state_dict or model)',
        },
        dtype: {
          type: 'text',
          choices: Object.keys(targets),
          about: 'what numbers with a fraction are stored as (default as they are)',
        },
        strip: {
          type: 'text',
          value: 'PREFIX',
          about:
            'leave this out where a name begins with it (wrappers such as module. and _orig_mod. go by themselves)',
        },
      },
      examples: [
        [
          'runs/mdt-tiny mdt-tiny.safetensors --dtype f16',
          'a run, to be published: averaged weights, names of classes',
        ],
        ['DiT-XL-2-256x256.pt dit-xl-2.safetensors', 'a published checkpoint'],
        [
          'checkpoint.pt weights.safetensors --part model --dtype bf16',
          'weights that were not averaged, half as large',
        ],
      ],
    },
    words,
  )
  if (!to.endsWith('.safetensors')) throw new UserError(`${to}: expected a name that ends with .safetensors`)
  if (existsSync(to)) throw new UserError(`${to}: expected a new file, got one that is there already`)
  const { path, run } = checkpointIn(from) === null ? { path: from, run: null } : locate(from, 'ema', 'FROM')
  using file = await openWeights(path, { part })
  const target = dtype as Target | undefined
  const tensors = converted(stripped(file.state, strip), target, path)
  const bar = new SingleBar({ format: '{bar} {value}/{total} tensors  ETA {eta_formatted}', gracefulExit: false })
  if (process.stdout.isTTY) bar.start(tensors.size, 0)
  const described = run === null ? [] : metadataOf(run)
  const metadata = new Map([...file.metadata, ...described, ['format', 'pt']]) // the last one for other readers
  await writeAside(to, aside =>
    writeSafetensors(
      aside,
      counted(tensors, () => bar.increment()),
      metadata,
    ),
  ).finally(() => bar.stop())
  console.log(`${to}: ${summary(tensors)}${ofPart(path, file)}, ${(statSync(to).size / 1e6).toFixed(1)} MB`)
}

type Stored = HostTensor<() => ArrayLike<number>> | RawTensor
type Tensors = ReadonlyMap<string, Stored>

/**
 * The tensors as they are to be stored; integers stay what they are. Data throw UserError on a number that is too large. Throws
 * UserError on a type of PyTorch that safetensors lacks.
 */
function converted(state: WeightsFile['state'], target: Target | undefined, path: string): Tensors {
  return new Map(
    Array.from(state, ([name, tensor]): [string, Stored] => {
      const { dtype, shape, size } = tensor
      if (dtype.includes('.') || /^C(32|128)$/.test(dtype))
        throw new UserError(`${path}: ${name}: expected a type that safetensors has, got ${dtype}`)
      const isFloat = isSafetensorsDType(dtype) && /^B?F/.test(dtype)
      if (target === undefined || !isFloat) return [name, { dtype, shape, size, bytes: () => tensor.bytes() }]
      const { dtype: wanted, tooLarge } = targets[target]
      const data = () => {
        const values = tensor.data
        for (const value of values)
          if (Math.abs(value) >= tooLarge && Number.isFinite(value))
            throw new UserError(`${path}: ${name}: expected numbers that ${target} has, got ${value}`)
        return values
      }
      return [name, { dtype: wanted, shape, data }]
    }),
  )
}

/** The same tensors, `prefix` left out in front of their names. Throws UserError where none has it, or two become one. */
function stripped(state: WeightsFile['state'], prefix: string | undefined): WeightsFile['state'] {
  if (prefix === undefined) return state
  const names = [...state.keys()]
  const short = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : name)
  if (!names.some(name => name.startsWith(prefix)))
    throw new UserError(
      `--strip: expected a prefix of a name, got '${prefix}'; there are ${names.slice(0, 3).join(', ')}, …`,
    )
  const after = new Map(Array.from(state, ([name, tensor]) => [short(name), tensor]))
  if (after.size < state.size || after.has(''))
    throw new UserError(`--strip: without '${prefix}' two names are the same, or one is empty`)
  return after
}

/** The same tensors, which call `each` when one is read. */
function counted(tensors: Tensors, each: () => void): Tensors {
  const count =
    <T>(read: () => T) =>
    () => {
      each()
      return read()
    }
  const both = (tensor: Stored): Stored =>
    'bytes' in tensor ? { ...tensor, bytes: count(tensor.bytes) } : { ...tensor, data: count(tensor.data) }
  return new Map(Array.from(tensors, ([name, tensor]) => [name, both(tensor)]))
}

function summary(tensors: Tensors): string {
  const numbers = [...tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0)
  const stored = new Set([...tensors.values()].map(({ dtype }) => dtype))
  const types = [...Object.keys(safetensorsBytes).filter(type => stored.has(type))]
  for (const type of stored) if (!types.includes(type)) types.push(type)
  return `${tensors.size} tensors, ${numbers.toLocaleString('en')} numbers as ${types.join(', ')}`
}

function ofPart(from: string, { part }: WeightsFile): string {
  return ` from ${part === '' ? '' : `'${part}' of `}${from}`
}
