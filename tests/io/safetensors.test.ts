/** The safetensors format: round trips of all element types, damaged headers, files past 2 GiB. */

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite, test } from 'uvu'
import * as assert from 'uvu/assert'
import { sizeOf } from '../../core/shape.ts'
import { decodeSafetensors, encodeSafetensors, type HostTensor, parseSafetensorsHeader } from '../../io/safetensors.ts'
import {
  decodeElements,
  encodeElements,
  type SafetensorsDType,
  SafetensorsError,
} from '../../io/safetensors-elements.ts'
import { readSafetensors, SafetensorsFile, writeSafetensors } from '../../io/safetensors-node.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-safetensors-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
/** Values that each type that numbers are written as holds exactly, by the typed array that decoding gives. */
const element = {
  F64: fc.double(),
  F32: fc.float(),
  F16: fc.nat(0xffff).map(bits => decodeElements('F16', Uint8Array.of(bits & 255, bits >> 8), '')[0]),
  BF16: fc.nat(0xffff).map(bits => decodeElements('BF16', Uint8Array.of(bits & 255, bits >> 8), '')[0]),
  I64: int32,
  U64: fc.nat(),
  U32: fc.nat(),
  U16: fc.nat(2 ** 16 - 1),
  I16: fc.integer({ min: -(2 ** 15), max: 2 ** 15 - 1 }),
  I8: fc.integer({ min: -128, max: 127 }),
  I32: int32,
  U8: fc.nat(255),
  BOOL: fc.nat(1),
} satisfies Partial<Record<SafetensorsDType, fc.Arbitrary<number>>>
const dtypes = Object.keys(element) as (keyof typeof element)[]
const typedArray = (dtype: SafetensorsDType, values: number[]) =>
  dtype === 'F64'
    ? Float64Array.from(values)
    : dtype.includes('F')
      ? Float32Array.from(values)
      : Int32Array.from(values)
const shapes = fc.array(fc.nat(4), { maxLength: 3 })
const hostTensor: fc.Arbitrary<HostTensor> = fc
  .tuple(fc.constantFrom(...dtypes), shapes)
  .chain(([dtype, shape]) =>
    fc
      .array(element[dtype], { minLength: sizeOf(shape), maxLength: sizeOf(shape) })
      .map(values => ({ dtype, shape, data: typedArray(dtype, values) })),
  )
const names = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('__proto__', '0', 'a.b', 'constructor'),
)
const contents = fc.array(
  fc.tuple(
    names.filter(name => name !== '__metadata__'),
    hostTensor,
  ),
  { maxLength: 6 },
)
const metadata = fc.array(fc.tuple(names, fc.string()), { maxLength: 3 })

const assertSame = (got: ReadonlyMap<string, HostTensor>, wanted: ReadonlyMap<string, HostTensor>) => {
  assert.equal([...got.keys()].sort(), [...wanted.keys()].sort())
  for (const [name, { dtype, shape, data }] of wanted) {
    const tensor = got.get(name)!
    assert.is(tensor.dtype, dtype)
    assert.equal(tensor.shape, shape)
    assert.is(tensor.data.constructor, data.constructor)
    assert.ok(data.every((x, i) => Object.is(x, tensor.data[i]))) // tells −0 from 0, and knows NaN
  }
}

test('what is written is read back: all types, empty, scalar, odd names, metadata', () => {
  fc.assert(
    fc.property(contents, metadata, (entries, notes) => {
      const bytes = encodeSafetensors(new Map(entries), new Map(notes))
      const read = decodeSafetensors(bytes)
      assertSame(read.tensors, new Map(entries))
      assert.equal([...read.metadata].sort(), [...new Map(notes)].sort())
    }),
  )
})

test('files on disk hold the same bytes, and single tensors are read at their offset', async () => {
  const path = join(folder, 'round-trip.safetensors')
  await fc.assert(
    fc.asyncProperty(contents, metadata, async (entries, notes) => {
      const tensors = new Map(entries)
      const lazy = new Map(entries.map(([name, tensor]) => [name, { ...tensor, data: async () => tensor.data }]))
      await writeSafetensors(path, lazy, new Map(notes))
      assert.equal(new Uint8Array(readFileSync(path)), encodeSafetensors(tensors, new Map(notes)))
      assertSame(readSafetensors(path).tensors, tensors)
      const file = new SafetensorsFile(path)
      for (const name of tensors.keys())
        assertSame(new Map([[name, file.read(name)]]), new Map([[name, tensors.get(name)!]]))
      file.close()
    }),
    { numRuns: 25 },
  )
})

test('a file put together by hand, with a header of odd length and tensors out of order', () => {
  const json =
    '{"b":{"dtype":"I64","shape":[2],"data_offsets":[6,22]},"__metadata__":{"format":"pt"},' +
    '"a":{"dtype":"BF16","shape":[1,3],"data_offsets":[0,6]},"empty":{"dtype":"F32","shape":[0,7],"data_offsets":[6,6]}}'
  const data = [0x80, 0x3f, 0x40, 0xc0, 0x80, 0x7f, 7, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255]
  const bytes = Uint8Array.from([json.length % 256, json.length >> 8, 0, 0, 0, 0, 0, 0, ...Buffer.from(json), ...data])
  assert.is(json.length % 2, 1)
  const { tensors, metadata } = decodeSafetensors(bytes)
  assert.equal([...tensors.keys()], ['a', 'empty', 'b'])
  assert.equal(tensors.get('a')!.data, Float32Array.of(1, -3, Infinity))
  assert.equal(tensors.get('b')!.data, Int32Array.of(7, -2))
  assert.equal([...metadata], [['format', 'pt']])
})

test('16-bit floats: every pattern survives, and rounding is to nearest, ties to even', () => {
  const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i)
  for (const [dtype, infinity] of [
    ['F16', 0x7c00],
    ['BF16', 0x7f80],
  ] as const) {
    const values = decodeElements(dtype, new Uint8Array(patterns.buffer), '')
    const back = new Uint16Array(encodeElements(dtype, values, '').slice().buffer)
    patterns.forEach(bits => {
      if ((bits & 0x7fff) > infinity) assert.ok(Number.isNaN(values[bits]) && (back[bits] & 0x7fff) > infinity)
      else assert.is(back[bits], bits)
    })
    // Between neighbours the nearer one is taken, in the middle the even one; beyond the largest, infinity.
    const code = (x: number) => new Uint16Array(encodeElements(dtype, [x], '').slice().buffer)[0]
    for (let bits = 0; bits < infinity - 1; bits += 7) {
      const [below, above] = [values[bits], values[bits + 1]]
      const middle = (below + above) / 2
      assert.is(code(middle), bits + (bits & 1))
      assert.is(code(-middle), 0x8000 + bits + (bits & 1))
      assert.is(code(middle - (above - below) / 1e6), bits)
      assert.is(code(middle + (above - below) / 1e6), bits + 1)
    }
    const largest = values[infinity - 1]
    assert.is(code(largest + (largest - values[infinity - 2]) / 2), infinity)
    assert.is(code(1e300), infinity)
    assert.is(code(-Infinity), 0x8000 + infinity)
    assert.is(code(5e-324), 0)
  }
  // Known values: 1/3, the largest half, the smallest subnormal one, π.
  const known = new Uint16Array(encodeElements('F16', [1 / 3, 65504, 2 ** -24, Math.PI, -0], '').slice().buffer)
  assert.equal(Array.from(known), [0x3555, 0x7bff, 0x0001, 0x4248, 0x8000])
  const brain = new Uint16Array(encodeElements('BF16', [1 / 3, Math.PI, 1.00390625], '').slice().buffer)
  assert.equal(Array.from(brain), [0x3eab, 0x4049, 0x3f80])
})

test('bfloat16 of float32, by its bits, is that of the same numbers in another array', () => {
  const bits = new Uint32Array(2 ** 18).map((_, i) => ((i >> 2) << 16) | [0, 0x7fff, 0x8000, 0x8001][i & 3])
  const floats = new Float32Array(bits.buffer) // every upper half, below, on and above the tie
  const [some, numbers] = [floats.subarray(1), Float64Array.from(floats.subarray(1))]
  assert.ok(Buffer.compare(encodeElements('BF16', some, ''), encodeElements('BF16', numbers, '')) === 0)
})

test('numbers that a type cannot hold are refused by name', () => {
  const one = (dtype: SafetensorsDType, x: number) => () =>
    encodeSafetensors(new Map([['w', { dtype, shape: [1], data: [x] }]]))
  assert.throws(one('U8', 256), "writing: tensor 'w': element 0: expected an integer in [0, 255] for U8, got 256")
  assert.throws(one('BOOL', 2), /BOOL, got 2/)
  assert.throws(one('I32', 0.5), /got 0.5/)
  assert.throws(one('I32', 2 ** 31), /got 2147483648/)
  assert.throws(one('I64', NaN), /got NaN/)
  const big = BigInt64Array.of(5n, -(2n ** 40n))
  const got = `f: tensor 'n': element 1: expected an I64 in the range of i32, got ${-(2n ** 40n)}`
  assert.throws(() => decodeElements('I64', new Uint8Array(big.buffer), "f: tensor 'n'"), got)
  assert.throws(
    () => decodeElements('BOOL', Uint8Array.of(1, 3), 'f'),
    'f: element 1: expected 0 or 1 in a BOOL, got 3',
  )
  const short = new Map([['w', { dtype: 'F32', shape: [3], data: [1] } as const]])
  assert.throws(() => encodeSafetensors(short), "writing: tensor 'w': expected 3 elements for [3], got 1")
})

const header = suite('headers')
const parse = (json: string, dataLength: number) => {
  const bytes = new TextEncoder().encode(json)
  return () => parseSafetensorsHeader(bytes, 8 + bytes.length + dataLength, 'm.st')
}
const entry = (fields: object) => JSON.stringify({ w: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...fields } })
const two = (a: number[], b: number[]) =>
  JSON.stringify({
    a: { dtype: 'U8', shape: [a[1] - a[0]], data_offsets: a },
    b: { dtype: 'U8', shape: [b[1] - b[0]], data_offsets: b },
  })
const wrong: [name: string, json: string, dataLength: number, message: string][] = [
  [
    'not JSON',
    '{"w":',
    8,
    'm.st: expected a header of JSON in UTF-8, got bytes that are not: not a safetensors file, or damaged',
  ],
  ['an array', '[]', 0, 'm.st: header: expected a JSON object, got []'],
  ['null', 'null', 0, 'm.st: header: expected a JSON object, got null'],
  [
    'metadata not an object',
    '{"__metadata__":["a"]}',
    0,
    'm.st: __metadata__: expected an object of strings, got ["a"]',
  ],
  ['metadata not strings', '{"__metadata__":{"a":1}}', 0, "m.st: __metadata__: expected a string at 'a', got 1"],
  ['a tensor not an object', '{"w":3}', 0, "m.st: tensor 'w': expected { dtype, shape, data_offsets }, got 3"],
  [
    'a dtype that is no name',
    entry({ dtype: 'F 8' }),
    8,
    'm.st: tensor \'w\': dtype: expected the name of a type, such as F32, got "F 8"',
  ],
  [
    'inherited dtype',
    entry({ dtype: 'toString' }),
    8,
    'm.st: tensor \'w\': dtype: expected the name of a type, such as F32, got "toString"',
  ],
  [
    'missing dtype',
    entry({ dtype: undefined }),
    8,
    "m.st: tensor 'w': dtype: expected the name of a type, such as F32, got nothing",
  ],
  ['negative size', entry({ shape: [-2] }), 8, "m.st: tensor 'w': shape: expected integers from 0, got [-2]"],
  ['fractional size', entry({ shape: [0.5, 4] }), 8, "m.st: tensor 'w': shape: expected integers from 0, got [0.5,4]"],
  [
    'shape not a list',
    entry({ shape: { length: 1 } }),
    8,
    'm.st: tensor \'w\': shape: expected integers from 0, got {"length":1}',
  ],
  [
    'overflowing size',
    entry({ shape: [2 ** 40, 2 ** 40, 0] }),
    8,
    "m.st: tensor 'w': shape: expected less than 2^53 bytes, got [1099511627776,1099511627776,0]",
  ],
  [
    'one offset',
    entry({ data_offsets: [8] }),
    8,
    "m.st: tensor 'w': data_offsets: expected [begin, end], integers with 0 ≤ begin ≤ end, got [8]",
  ],
  [
    'end before begin',
    entry({ data_offsets: [8, 0] }),
    8,
    "m.st: tensor 'w': data_offsets: expected [begin, end], integers with 0 ≤ begin ≤ end, got [8,0]",
  ],
  [
    'bytes for another shape',
    entry({ shape: [3] }),
    8,
    "m.st: tensor 'w': expected 12 bytes for F32 [3], got 8 by its data_offsets",
  ],
  [
    'bytes for another dtype',
    entry({ dtype: 'F64' }),
    8,
    "m.st: tensor 'w': expected 16 bytes for F64 [2], got 8 by its data_offsets",
  ],
  [
    'a hole at the beginning',
    entry({ data_offsets: [4, 12] }),
    12,
    "m.st: tensor 'w': data_offsets: expected a begin at 0, where the tensor before ends, got 4",
  ],
  [
    'a hole',
    two([0, 2], [3, 4]),
    4,
    "m.st: tensor 'b': data_offsets: expected a begin at 2, where the tensor before ends, got 3",
  ],
  [
    'an overlap',
    two([0, 2], [1, 4]),
    4,
    "m.st: tensor 'b': data_offsets: expected a begin at 2, where the tensor before ends, got 1",
  ],
  [
    'the same bytes twice',
    two([0, 2], [0, 2]),
    2,
    "m.st: tensor 'b': data_offsets: expected a begin at 2, where the tensor before ends, got 0",
  ],
  ['a file cut short', entry({}), 7, 'm.st: expected 70 bytes by its header, got 69: the file is cut short'],
  ['a file with a rest', entry({}), 9, 'm.st: expected 70 bytes by its header, got 71'],
  ['a tensor twice', '{"w":{},"w":{}}', 0, "m.st: header: expected every key once, got 'w' twice"],
  [
    'a tensor twice in other letters',
    '{"w":{},"\\u0077":{}}',
    0,
    "m.st: header: expected every key once, got 'w' twice",
  ],
  [
    'a field twice',
    '{"w":{"dtype":"F32","shape":[],"dtype":"U8"}}',
    0,
    "m.st: header: expected every key once, got 'dtype' twice",
  ],
  ['a name of two lines', '{"w\\nx":3}', 0, "m.st: tensor 'w\\nx': expected { dtype, shape, data_offsets }, got 3"],
]
for (const [name, json, dataLength, message] of wrong)
  header(name, () => {
    try {
      parse(json, dataLength)()
    } catch (error) {
      assert.instance(error, SafetensorsError)
      assert.is((error as Error).message, message)
      return
    }
    assert.unreachable('accepted')
  })

header('keys that only look alike are accepted', () => {
  const json = '{"__metadata__":{"a":"\\"w\\":","b":"{"},"w":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}'
  assert.equal([...parse(json, 1)().tensors.keys()], ['w'])
})

header('a header longer than its file, or than any header, is refused before it is read', () => {
  const start = (low: number, high: number) => new Uint8Array(Uint32Array.of(low, high).buffer)
  assert.throws(() => decodeSafetensors(start(1, 0), 'f'), 'f: the header wants 1 bytes, got 0: the file is cut short')
  assert.throws(() => decodeSafetensors(start(0, 2 ** 31), 'f'), /f: expected a header of at most 100000000 bytes, got/)
  assert.throws(() => decodeSafetensors(new Uint8Array(7), 'f'), /expected at least 8 bytes, got 7/)
  assert.throws(() => decodeSafetensors(new Uint8Array(0), 'f'), /expected at least 8 bytes, got 0/)
})

header('whatever is done to a file, it is read or refused in one line', () => {
  const path = join(folder, 'damaged.safetensors')
  const damage = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), at: fc.nat(), byte: fc.nat(255) }),
    fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), byte: fc.nat(40) }),
    fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), byte: fc.nat(255) }),
    fc.record({ kind: fc.constant('digit' as const), at: fc.nat(), byte: fc.integer({ min: 48, max: 57 }) }),
  )
  let refused = 0
  fc.assert(
    fc.property(contents, fc.array(damage, { minLength: 1, maxLength: 3 }), (entries, changes) => {
      const bytes = Array.from(encodeSafetensors(new Map(entries), new Map([['by', 'demask']])))
      for (const { kind, at, byte } of changes) {
        const i = at % bytes.length
        if (kind === 'set') bytes[i] = byte
        else if (kind === 'cut') bytes.splice(i, byte)
        else if (kind === 'insert') bytes.splice(i, 0, byte)
        else {
          const digits = bytes.flatMap((each, k) => (each >= 48 && each <= 57 ? [k] : []))
          if (digits.length > 0) bytes[digits[at % digits.length]] = byte
        }
        if (bytes.length === 0) bytes.push(0)
      }
      writeFileSync(path, Uint8Array.from(bytes))
      for (const read of [() => decodeSafetensors(Uint8Array.from(bytes)), () => readSafetensors(path)])
        try {
          const { tensors } = read()
          const total = [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0)
          assert.ok(total <= 4 * bytes.length)
        } catch (error) {
          refused++
          assert.instance(error, SafetensorsError)
          assert.not.match((error as Error).message, /\n/)
        }
    }),
    { numRuns: 400 },
  )
  assert.ok(refused > 200)
})

header('a missing tensor, a folder and a missing file are named', async () => {
  const path = join(folder, 'one.safetensors')
  await writeSafetensors(path, new Map([['w', { dtype: 'F32', shape: [], data: [1] }]]))
  const file = new SafetensorsFile(path)
  assert.throws(() => file.read('v'), `${path}: expected tensor 'v', got no such name`)
  truncateSync(path, file.header.tensors.get('w')!.begin + 1)
  assert.throws(() => file.read('w'), /the file shrank/)
  file.close()
  assert.throws(() => readSafetensors(folder), `${folder}: expected a file`)
  assert.throws(() => readSafetensors(join(folder, 'none')), /ENOENT.*none/)
})

header('a tensor past 2 GiB in a sparse file is read at its offset', () => {
  const path = join(folder, 'large.safetensors')
  const gap = 3 * 2 ** 30
  const entries = {
    gap: { dtype: 'U8', shape: [gap], data_offsets: [0, gap] },
    w: { dtype: 'F32', shape: [2], data_offsets: [gap, gap + 8] },
  }
  const json = Buffer.from(JSON.stringify(entries))
  const length = Buffer.alloc(8)
  length.writeUInt32LE(json.length)
  const descriptor = openSync(path, 'w')
  try {
    writeSync(descriptor, Buffer.concat([length, json]))
    writeSync(descriptor, new Uint8Array(Float32Array.of(0.5, -8).buffer), 0, 8, 8 + json.length + gap)
  } catch (error) {
    console.log(`skipped: no sparse file of 3 GiB in ${folder} (${(error as Error).message})`)
    return
  } finally {
    closeSync(descriptor)
  }
  const file = new SafetensorsFile(path)
  assert.equal(file.read('w'), { dtype: 'F32', shape: [2], data: Float32Array.of(0.5, -8) })
  assert.is(file.header.tensors.get('gap')!.end, 8 + json.length + gap)
  file.close()
  rmSync(path)
})

test.run()
header.run()
