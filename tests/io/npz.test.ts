/** Arrays of NumPy: Fortran's and big-endian order, .npy alone, types that are listed and not read. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeNpyHeader } from '../../io/npy.ts'
import { NpzFile, readNpz } from '../../io/npz.ts'
import { zipOf } from './zip.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-npz-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** An array as NumPy writes it. */
function npy(descr: string, shape: readonly number[], elements: ArrayBufferView | Uint8Array, fortran = false): Buffer {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const text = Buffer.from(
    `{'descr': ${descr}, 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': (${sizes}), }\n`,
  )
  const head = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, text.length & 255, text.length >> 8])
  return Buffer.concat([head, text, new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength)])
}

function stored(name: string, bytes: Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}

/** Columns first: element (i, j, k) of [2, 3, 4] is 100 i + 10 j + k. */
const fortran: number[] = []
for (let k = 0; k < 4; k++) for (let j = 0; j < 3; j++) for (let i = 0; i < 2; i++) fortran.push(100 * i + 10 * j + k)
const rowOf = (i: number) => Array.from({ length: 12 }, (_, n) => 100 * i + 10 * Math.floor(n / 4) + (n % 4))

async function rows(file: NpzFile, name: string): Promise<number[][]> {
  const all: number[][] = []
  for await (const row of file.rows(name)) all.push([...file.decodeRow(name, row)])
  return all
}

test("arrays in Fortran's order are read in C order, whole and by rows", async () => {
  const arrays = {
    bytes: npy("'|u1'", [2, 3, 4], Uint8Array.from(fortran), true),
    halves: npy("'<i2'", [2, 3, 4], Int16Array.from(fortran), true),
    floats: npy("'<f4'", [2, 3, 4], Float32Array.from(fortran), true),
    doubles: npy("'<f8'", [2, 3, 4], Float64Array.from(fortran), true),
    vector: npy("'<f4'", [3], Float32Array.of(1, 2, 3), true),
  }
  const path = stored('f.npz', zipOf(Object.entries(arrays).map(([name, data]) => ({ name: `${name}.npy`, data }))))
  using file = await NpzFile.open(path)
  for (const name of ['bytes', 'halves', 'floats', 'doubles']) {
    const { data, shape } = await file.read(name)
    assert.equal(
      [shape, [...data]],
      [
        [2, 3, 4],
        [...rowOf(0), ...rowOf(1)],
      ],
      name,
    )
    assert.not(file.isStored(name))
    assert.equal(await rows(file, name), [rowOf(0), rowOf(1)], name)
  }
  assert.ok(file.isStored('vector'), 'one axis has one order')
  assert.equal(await rows(file, 'vector'), [[1], [2], [3]])
})

test('big-endian elements, unsigned and wide integers', async () => {
  const big = Buffer.alloc(16)
  ;[1.5, -2, 0.25, 8].forEach((value, i) => void big.writeFloatBE(value, 4 * i))
  const parts = [
    { name: 'big.npy', data: npy("'>f4'", [2, 2], big) },
    { name: 'bigF.npy', data: npy("'>f4'", [2, 2], big, true) },
    { name: 'u2.npy', data: npy("'<u2'", [2], Uint16Array.of(1, 65535)) },
    { name: 'u8.npy', data: npy("'<u8'", [2], BigUint64Array.of(1n, 2n ** 31n - 1n)) },
    { name: 'wide.npy', data: npy("'<u8'", [1], BigUint64Array.of(2n ** 40n)) },
  ]
  using file = await NpzFile.open(stored('big.npz', zipOf(parts)))
  assert.equal((await file.read('big')).data, Float32Array.of(1.5, -2, 0.25, 8))
  assert.equal((await file.read('bigF')).data, Float32Array.of(1.5, 0.25, -2, 8))
  assert.equal(await rows(file, 'big'), [
    [1.5, -2],
    [0.25, 8],
  ])
  assert.equal((await file.read('u2')).data, Int32Array.of(1, 65535))
  assert.equal((await file.read('u8')).data, Int32Array.of(1, 2 ** 31 - 1))
  const error = await file.read('wide').catch((error: Error) => error.message)
  assert.match(String(error), /big\.npz: wide: element 0: expected an U64 in the range of i32, got 1099511627776$/)
})

test('arrays of strings, objects, records and complex numbers are listed, and left out or refused', async () => {
  const three = Uint8Array.of(1, 2, 3)
  const odd = {
    strings: ["'<U3'", '<U3'],
    objects: ["'|O'", '|O'],
    records: ["[('a', '<i4'), ('b', '<f8')]", "[('a', '<i4'), ('b'"],
    complex: ["'<c8'", '<c8'],
    time: ["'<M8[D]'", '<M8[D]'],
    none: ["'toString'", 'toString'],
  }
  const parts = Object.entries(odd).map(([name, [descr]]) => ({ name: `${name}.npy`, data: npy(descr, [3], three) }))
  const path = stored('odd.npz', zipOf([...parts, { name: 'mu.npy', data: npy("'<f8'", [1], Float64Array.of(0.5)) }]))
  using file = await NpzFile.open(path)
  for (const [name, [, dtype]] of Object.entries(odd)) {
    assert.ok(file.header(name).dtype.startsWith(dtype), `${name}: ${file.header(name).dtype}`)
    assert.equal(file.header(name).shape, [3])
    const error = await file.read(name).catch((error: Error) => error.message)
    assert.match(String(error), new RegExp(`odd\\.npz: ${name}: expected elements of BOOL, U8, .*, got '`))
  }
  assert.equal([...(await readNpz(path)).keys()], ['mu'])
  const refused = await readNpz(path, ['strings']).catch((error: Error) => error.message)
  assert.match(String(refused), /strings: expected elements of .*, got '<U3'$/)
})

test('a .npy alone is arr_0, by its bytes', async () => {
  const path = stored('one', npy("'<f4'", [2, 2], Float32Array.of(1, 2, 3, 4)))
  using file = await NpzFile.open(path)
  assert.equal([...file.arrays.keys()], ['arr_0'])
  assert.ok(file.isStored('arr_0'))
  assert.equal([...file.decodeRow('arr_0', file.row('arr_0', 1))], [3, 4])
  assert.equal(await rows(file, 'arr_0'), [
    [1, 2],
    [3, 4],
  ])
  assert.equal((await readNpz(path)).get('arr_0')!.data, Float32Array.of(1, 2, 3, 4))
  const cut = await NpzFile.open(stored('cut', npy("'<f4'", [2, 2], Float32Array.of(1)))).catch((e: Error) => e.message)
  assert.match(String(cut), /cut: arr_0: expected 16 bytes for F32 \[2, 2\], got 4$/)
  assert.throws(() => encodeNpyHeader('F8_E4M3', [1]), /expected one of BOOL, U8, .*, got F8_E4M3/)
})

test("a compressed array in Fortran's order", async () => {
  const data = npy("'<f4'", [2, 3, 4], Float32Array.from(fortran), true)
  const claims = { method: 8, size: data.length }
  const deflated = deflateRawSync(data)
  const { crc32 } = await import('node:zlib')
  const parts = [{ name: 'a.npy', data: deflated, claims: { ...claims, crc: crc32(data) } }]
  using file = await NpzFile.open(stored('deflated.npz', zipOf(parts)))
  assert.equal(await rows(file, 'a'), [rowOf(0), rowOf(1)])
})

test.run()
