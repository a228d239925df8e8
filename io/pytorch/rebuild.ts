/**
 * What names in a PyTorch checkpoint stand for: an allow-list, all of it. Tensors become descriptions of where their
 * elements lie (stored-tensor.ts); settings of a training program (argparse.Namespace, paths, devices) become inert data
 * under their class's name; numpy's scalars become numbers. Everything else is refused by its name, harmless or not.
 * The machine that asks is pickle.ts.
 */

import { quote, type SafetensorsDType } from '../safetensors-elements.ts'
import { PickleError, type PickleHost } from './pickle.ts'
import { StoredTensor } from './stored-tensor.ts'

/** Data of a class that is known but has no meaning here. */
export class Inert {
  readonly type: string
  readonly args: readonly unknown[]
  /** What the pickle gave it as its state: for argparse.Namespace, its fields. */
  state: unknown = null

  constructor(type: string, args: readonly unknown[]) {
    this.type = type
    this.args = args
  }
}

/** A name of the list. */
class Known {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

/** Bytes of their own in the archive that tensors are views of. */
class Storage {
  readonly key: string
  /** null: bytes without a type; `length` counts them. */
  readonly dtype: SafetensorsDType | null
  readonly length: number

  constructor(key: string, dtype: SafetensorsDType | null, length: number) {
    this.key = key
    this.dtype = dtype
    this.length = length
  }
}

/** numpy.dtype, as far as scalars need it. */
class NumpyType {
  readonly code: string
  bigEndian = false

  constructor(code: string) {
    this.code = code
  }
}

const storages: Readonly<Record<string, SafetensorsDType>> = {
  'torch.DoubleStorage': 'F64',
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
}
const untyped = 'torch.storage.UntypedStorage'

const dtypes: Readonly<Record<string, SafetensorsDType>> = {
  'torch.float64': 'F64',
  'torch.float32': 'F32',
  'torch.float16': 'F16',
  'torch.bfloat16': 'BF16',
  'torch.int64': 'I64',
  'torch.int32': 'I32',
  'torch.int16': 'I16',
  'torch.int8': 'I8',
  'torch.uint8': 'U8',
  'torch.bool': 'BOOL',
}

const tensorClasses = ['torch.Tensor', 'torch.nn.parameter.Parameter']
const inert = ['argparse.Namespace', 'pathlib.PosixPath', 'pathlib._local.PosixPath', 'torch.device']

type Call = (args: readonly unknown[], spend: (steps: number) => void) => unknown

/** The host for the pickle of one file. */
export function rebuilder(where: string): PickleHost {
  const fail = (problem: string): never => {
    throw new PickleError(`${where}: ${problem}`)
  }
  const tensor = (storage: unknown, offset: unknown, size: unknown, stride: unknown, dtype?: unknown): StoredTensor => {
    if (!(storage instanceof Storage)) return fail('wanted a tensor of a storage, got one of another value')
    const type = dtype instanceof Known ? dtypes[dtype.name] : storage.dtype
    if (type === undefined || type === null) return fail('wanted a tensor with a type of elements, got none')
    return StoredTensor.checked(
      type,
      storage.key,
      { of: storage.dtype, length: storage.length },
      offset,
      size,
      stride,
      where,
    )
  }
  const asTensor = (value: unknown): StoredTensor =>
    value instanceof StoredTensor ? value : fail('wanted a tensor in a parameter, got another value')
  const array = (value: unknown): readonly unknown[] =>
    Array.isArray(value) ? value : fail('wanted a list, got another value')

  const dict: Call = ([pairs = []], spend) => {
    spend(pairs instanceof Map ? pairs.size : array(pairs).length)
    if (pairs instanceof Map) return new Map(pairs)
    return new Map(array(pairs).map(pair => [array(pair)[0], array(pair)[1]]))
  }
  const set: Call = ([items = []], spend) => {
    spend(array(items).length)
    return new Set(array(items))
  }
  const scalar: Call = ([type, bytes]) => {
    if (!(type instanceof NumpyType) || !(bytes instanceof Uint8Array))
      return fail('wanted a scalar of numpy, got others')
    return scalarOf(type, bytes) ?? fail(`wanted a number of numpy, got a scalar of type ${quote(type.code)}`)
  }
  const calls: Readonly<Record<string, Call>> = {
    'collections.OrderedDict': dict,
    '__builtin__.set': set,
    'builtins.set': set,
    'torch.Size': ([sizes = []]) => array(sizes),
    'torch._utils._rebuild_tensor': ([storage, offset, size, stride]) => tensor(storage, offset, size, stride),
    'torch._utils._rebuild_tensor_v2': ([storage, offset, size, stride]) => tensor(storage, offset, size, stride),
    'torch._utils._rebuild_tensor_v3': ([storage, offset, size, stride, , , dtype]) =>
      tensor(storage, offset, size, stride, dtype),
    'torch._utils._rebuild_parameter': ([data]) => asTensor(data),
    'torch._utils._rebuild_parameter_with_state': ([data]) => asTensor(data),
    'torch._tensor._rebuild_from_type_v2': ([make, type, args], spend) =>
      type instanceof Known && tensorClasses.includes(type.name)
        ? host.call(make, array(args), spend)
        : fail('wanted a tensor or parameter, got a class of its own'),
    '_codecs.encode': ([text, encoding], spend) => {
      if (typeof text !== 'string' || encoding !== 'latin1') return fail('wanted bytes as text in latin1, got others')
      spend(text.length)
      return Uint8Array.from(text, letter => letter.charCodeAt(0))
    },
    'numpy.dtype': ([code]) =>
      typeof code === 'string' ? new NumpyType(code) : fail('wanted a type of numpy by name'),
    'numpy.core.multiarray.scalar': scalar,
    'numpy._core.multiarray.scalar': scalar,
  }
  const known = new Set([...[calls, storages, dtypes].flatMap(Object.keys), ...tensorClasses, ...inert, untyped])

  const host: PickleHost = {
    global(module, name) {
      const full = `${module}.${name}`
      if (!known.has(full))
        fail(
          `it asks for ${quote(full)}, which is not run here: only tensors, numbers, text and collections of them are read`,
        )
      return new Known(full)
    },
    call(callable, args, spend) {
      if (!(callable instanceof Known)) return fail('it calls what is not a name')
      if (inert.includes(callable.name)) return new Inert(callable.name, args)
      if (!Object.hasOwn(calls, callable.name)) return fail(`it calls ${callable.name}, which is not a function`)
      return calls[callable.name](args, spend)
    },
    build(object, state) {
      if (object instanceof Inert) object.state = state
      else if (object instanceof NumpyType) object.bigEndian = Array.isArray(state) && state[1] === '>'
      else if (!(object instanceof Map)) fail('it gives a state to what has none') // a dict's is the _metadata of modules
      return object
    },
    persistent(id) {
      const [kind, type, key, , length] = array(id)
      if (kind !== 'storage' || !(type instanceof Known) || typeof key !== 'string' || !isCount(length))
        return fail('wanted a storage of the archive, got another id')
      if (type.name !== untyped && !Object.hasOwn(storages, type.name)) fail(`wanted a storage, got ${type.name}`)
      return new Storage(key, storages[type.name] ?? null, length)
    },
  }
  return host
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

/** The number in numpy's bytes; undefined for what is none. */
function scalarOf({ code, bigEndian }: NumpyType, bytes: Uint8Array): number | bigint | boolean | undefined {
  const size = Number(/^[biuf]([1248])$/.exec(code)?.[1])
  if (size !== bytes.length) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (code[0] === 'b') return bytes[0] !== 0
  if (code === 'f4') return view.getFloat32(0, !bigEndian)
  if (code === 'f8') return view.getFloat64(0, !bigEndian)
  if (code[0] === 'f') return undefined
  const digits = Array.from(bigEndian ? bytes : bytes.slice().reverse(), byte => byte.toString(16).padStart(2, '0'))
  const value = BigInt(`0x${digits.join('')}`)
  const signed = code[0] === 'i' ? BigInt.asIntN(8 * size, value) : value
  return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed
}
