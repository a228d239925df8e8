/**
 * Values of the names in a PyTorch checkpoint. Tensors become descriptions of where their elements lie (stored-tensor.ts),
 * dicts of several classes become Maps, numpy's scalars numbers. That is all that is known. Objects of any other class
 * (settings, schedulers, numpy's arrays) become `Inert` data, which nothing here looks into. Names that run code in Python
 * are refused: a file with one was made to do harm. The machine that asks is pickle.ts.
 */

import { quote } from '../safetensors-elements.ts'
import { Inert, PickleError, type PickleHost } from './pickle.ts'
import { StoredTensor } from './stored-tensor.ts'

/** A name that a pickle asked for: of a class, a function or a constant. */
class Name {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

/** Bytes of their own in the file that tensors are views of. */
export class Storage {
  readonly key: string
  /** Null for bytes without a type; `length` counts them. */
  readonly dtype: string | null
  readonly length: number
  /** Elements before those that this view of a storage begins at. */
  readonly offset: number

  constructor(key: string, dtype: string | null, length: number, offset: number) {
    this.key = key
    this.dtype = dtype
    this.length = length
    this.offset = offset
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

const storages: Readonly<Record<string, string>> = {
  'torch.ComplexDoubleStorage': 'C128',
  'torch.ComplexFloatStorage': 'C64',
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

const dtypes: Readonly<Record<string, string>> = {
  'torch.complex128': 'C128',
  'torch.complex64': 'C64',
  'torch.complex32': 'C32',
  'torch.uint64': 'U64',
  'torch.uint32': 'U32',
  'torch.uint16': 'U16',
  'torch.float8_e4m3fn': 'F8_E4M3',
  'torch.float8_e5m2': 'F8_E5M2',
  'torch.float8_e8m0fnu': 'F8_E8M0',
  'torch.float8_e4m3fnuz': 'F8_E4M3FNUZ',
  'torch.float8_e5m2fnuz': 'F8_E5M2FNUZ',
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

/**
 * Names that run commands or code where pickles are run. Nothing of them is run here, whatever this list says: a file that
 * asks for one is refused so that whoever opens it learns of it.
 */
const hostile =
  /^((os|posix|nt|subprocess|sys|runpy|importlib|shutil|socket|pty|ctypes|webbrowser)\.|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__)$)/

type Call = (args: readonly unknown[], spend: (steps: number) => void) => unknown

/** The host for the pickle of one file. `found` gets every storage that the pickle names, by its key. */
export function rebuilder(where: string, found: Map<string, Storage> = new Map()): PickleHost {
  const fail = (problem: string): never => {
    throw new PickleError(`${where}: ${problem}`)
  }
  const tensor = (
    [storage, offset, shape, strides]: readonly unknown[],
    dtype: unknown,
    metadata: unknown,
  ): StoredTensor => {
    if (!(storage instanceof Storage)) return fail('expected a tensor of a storage, got one of another value')
    const type = dtype instanceof Name ? (dtypes[dtype.name] ?? dtype.name) : storage.dtype
    if (type === null) return fail('expected a tensor with a type of elements, got none')
    const bit = (name: string) => metadata instanceof Map && metadata.get(name) === true
    const at = isCount(offset) ? offset + storage.offset : offset
    const view = { offset: at, shape, strides, negative: bit('neg'), conjugate: bit('conj') }
    return StoredTensor.checked(type, storage, view, where)
  }
  const isArray = (value: unknown): value is readonly unknown[] => Array.isArray(value)

  const dict: Call = ([pairs = []], spend) => {
    if (pairs instanceof Map) {
      spend(pairs.size)
      return new Map(pairs)
    }
    if (!isArray(pairs) || !pairs.every(isArray)) return fail('expected a dict of pairs, got another value')
    spend(pairs.length)
    return new Map(pairs.map(([key, value]) => [key, value]))
  }
  const set: Call = ([items = []], spend) => {
    if (!isArray(items)) return fail('expected a set of a list, got another value')
    spend(items.length)
    return new Set(items)
  }
  const bytes: Call = ([text = new Uint8Array(0), encoding], spend) => {
    if (text instanceof Uint8Array) return text
    if (typeof text !== 'string' || !/^latin-?1$/.test(String(encoding))) return undefined
    spend(text.length)
    return Uint8Array.from(text, letter => letter.charCodeAt(0))
  }
  const scalar: Call = ([type, data]) =>
    type instanceof NumpyType && data instanceof Uint8Array ? scalarOf(type, data) : undefined
  /** Each gives undefined for arguments that it has no value for: the object is inert then. */
  const calls: Readonly<Record<string, Call>> = {
    'collections.OrderedDict': dict,
    'collections.Counter': dict,
    'collections.defaultdict': () => new Map(),
    '__builtin__.set': set,
    'builtins.set': set,
    '__builtin__.frozenset': set,
    'builtins.frozenset': set,
    '__builtin__.bytearray': bytes,
    'builtins.bytearray': bytes,
    '_codecs.encode': bytes,
    'torch.Size': ([sizes = []]) => sizes,
    'torch._utils._rebuild_tensor': args => tensor(args, undefined, undefined),
    'torch._utils._rebuild_tensor_v2': args => tensor(args, undefined, args[6]),
    'torch._utils._rebuild_tensor_v3': args => tensor(args, args[6], args[7]),
    'torch._utils._rebuild_parameter': ([data]) => data,
    'torch._utils._rebuild_parameter_with_state': ([data]) => data,
    // A class of its own is read as the plain tensor that it holds.
    'torch._tensor._rebuild_from_type_v2': ([make, , args], spend) =>
      isArray(args) ? host.call(make, args, spend) : undefined,
    'numpy.dtype': ([code]) => (typeof code === 'string' ? new NumpyType(code) : undefined),
    'numpy.core.multiarray.scalar': scalar,
    'numpy._core.multiarray.scalar': scalar,
  }

  const host: PickleHost = {
    global(module, name) {
      const full = `${module}.${name}`
      if (hostile.test(full))
        fail(`it asks for ${quote(full)}, which runs commands or code: expected tensors and data beside them`)
      return new Name(full)
    },
    call(callable, args, spend) {
      if (callable instanceof Inert) return new Inert(callable.type, args)
      if (!(callable instanceof Name)) return fail('it calls what is not a name')
      const value = Object.hasOwn(calls, callable.name) ? calls[callable.name](args, spend) : undefined
      return value === undefined ? new Inert(callable.name, args) : value
    },
    build(object, state) {
      if (object instanceof Inert) object.state = state
      else if (object instanceof NumpyType) object.bigEndian = Array.isArray(state) && state[1] === '>'
      // A dict's is the _metadata of modules, a tensor's what a program hung on it.
      else if (!(object instanceof Map || object instanceof StoredTensor || object instanceof Name))
        fail('it gives a state to what has none')
      return object
    },
    persistent(id) {
      if (!isArray(id)) return fail('expected a storage of the file, got another id')
      const [kind, type, key, , length, view] = id
      if (kind === 'module') return type // older files keep the source of classes
      if (kind !== 'storage' || !(type instanceof Name) || typeof key !== 'string' || !isCount(length))
        return fail('expected a storage of the file, got another id')
      const dtype = type.name === untyped ? null : (storages[type.name] ?? type.name)
      const storage = new Storage(key, dtype, length, isArray(view) && isCount(view[1]) ? view[1] : 0)
      if (!found.has(key)) found.set(key, storage)
      return storage
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
