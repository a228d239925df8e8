/** Sets of pictures in other people's formats: CIFAR, IDX, NumPy's .npz; ADM's crop; and what damage does to them. */

import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32, deflateRawSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import sharp from 'sharp'
import { suite, test } from 'uvu'
import * as assert from 'uvu/assert'
import { openDataset, readPicture } from '../../data/index.ts'
import { centerCrop } from '../../data/resize.ts'
import { encodeNpyHeader } from '../../io/npy.ts'
import { NpzFile, type NpzSource, readNpz, writeNpz } from '../../io/npz.ts'
import { SafetensorsError } from '../../io/safetensors.ts'
import { UserError } from '../../io/user-error.ts'
import { ZipError } from '../../io/zip-node.ts'
import { zipOf } from '../io/zip.ts'
import { root } from '../repo/markdown.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-datasets-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const place = (name: string) => join(folder, name)

/** The line that a promise is rejected with. */
async function line(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => assert.unreachable('accepted'),
    (error: Error) => error,
  )
  assert.ok(
    [UserError, ZipError, SafetensorsError].some(kind => error instanceof kind),
    String((error as Error).stack),
  )
  assert.not.match((error as Error).message, /\n/)
  return (error as Error).message
}

const bytes = (length: number, seed = 0) => Uint8Array.from({ length }, (_, i) => (i * 37 + seed * 11 + (i >> 5)) & 255)
/** Planes (3, area) to interleaved (area, 3). */
const interleaved = (planes: Uint8Array) =>
  planes.map((_, i) => planes[(i % 3) * (planes.length / 3) + Math.floor(i / 3)])

const pictures = join(root, 'tests/fixtures/pictures')

test("ADM's crop: the bytes that Pillow gives, from pixels and from files", async () => {
  const crops = await readNpz(join(pictures, 'crops.npz'))
  let compared = 0
  for (const [name, { data, shape }] of crops) {
    const [, from, size] = /^(\d+x\d+)-(\d+)$/.exec(name) ?? []
    if (from === undefined) continue
    const whole = crops.get(from)!
    const picture = { data: Uint8Array.from(whole.data), width: whole.shape[1], height: whole.shape[0] }
    const crop = centerCrop(picture, Number(size))
    assert.equal([crop.height, crop.width, 3], shape)
    assert.equal(crop.data, Uint8Array.from(data), name)
    compared++
  }
  assert.is(compared, 9)
  for (const name of ['photo.png', 'photo.jpg'])
    assert.equal(
      interleaved(await readPicture(join(pictures, name), 16)),
      Uint8Array.from(crops.get(`${name}-16`)!.data),
    )
})

test('a long thin picture costs no more than its square', () => {
  const thin = { data: bytes(3 * 500_000), width: 1, height: 500_000 } // scaled whole it would be 256 × 128,000,000
  assert.is(centerCrop(thin, 256).data.length, 3 * 256 * 256)
  assert.is(centerCrop({ ...thin, width: 500_000, height: 1 }, 256).data.length, 3 * 256 * 256)
})

/** Records of CIFAR: labels, then planes. */
const cifar = (labels: number[][]) =>
  Buffer.concat(labels.map((label, i) => Buffer.concat([Buffer.from(label), bytes(3072, i)])))

test('CIFAR-10 and CIFAR-100: labels, names, planes; a folder, the folder in it, one file', async () => {
  const ten = place('cifar-10-batches-bin')
  mkdirSync(ten)
  for (let i = 1; i <= 5; i++) writeFileSync(join(ten, `data_batch_${i}.bin`), cifar([[i], [9]]))
  writeFileSync(join(ten, 'test_batch.bin'), cifar([[7]]))
  writeFileSync(
    join(ten, 'batches.meta.txt'),
    `${'plane car bird cat deer dog frog horse ship truck'.split(' ').join('\n')}\n\n`,
  )
  for (const path of [ten, folder]) {
    const set = await openDataset(`cifar10:${path}`, 32)
    assert.is(set.length, 10)
    assert.equal([0, 1, 2, 8].map(set.label), [1, 9, 2, 5])
    assert.is(set.classes[9], 'truck')
    assert.equal(await set.pixels(3), bytes(3072, 1))
    assert.ok(set.flips)
  }
  const small = await openDataset(`cifar10:${join(ten, 'test_batch.bin')}`, 8)
  assert.equal([small.length, small.label(0)], [1, 7])
  const crop = centerCrop({ data: interleaved(bytes(3072, 0)), width: 32, height: 32 }, 8).data
  assert.equal(interleaved(await small.pixels(0)), crop)

  const hundred = place('hundred')
  mkdirSync(hundred)
  writeFileSync(
    join(hundred, 'train.bin'),
    cifar([
      [19, 99],
      [0, 3],
    ]),
  )
  const set = await openDataset(`cifar100:${hundred}`, 32)
  assert.equal([set.length, set.label(0), set.label(1), set.classes.length, set.classes[99]], [2, 99, 3, 100, '99'])
  assert.equal(await set.pixels(1), bytes(3072, 1))

  writeFileSync(place('cut.bin'), cifar([[1]]).subarray(1))
  assert.match(
    await line(openDataset(`cifar10:${place('cut.bin')}`, 32)),
    /expected records of 3073 bytes, got 3072 bytes/,
  )
  writeFileSync(place('other.bin'), cifar([[1], [10]]))
  assert.match(
    await line(openDataset(`cifar10:${place('other.bin')}`, 32)),
    /picture 1: expected a label below 10, got 10/,
  )
  writeFileSync(join(ten, 'batches.meta.txt'), 'plane\n')
  assert.match(await line(openDataset(`cifar10:${ten}`, 32)), /expected 10 names, got 1/)
  rmSync(join(ten, 'data_batch_3.bin'))
  writeFileSync(join(ten, 'data_batch_3'), '')
  assert.match(
    await line(openDataset(`cifar10:${ten}`, 32)),
    /data_batch_3\.bin.*no such file.*there is the Python version/,
  )
})

/** An IDX file of bytes. */
const idx = (sizes: number[], data: Uint8Array, magic = 0x800 + sizes.length) => {
  const head = Buffer.alloc(4 + 4 * sizes.length)
  head.writeUInt32BE(magic)
  sizes.forEach((n, i) => {
    head.writeUInt32BE(n, 4 + 4 * i)
  })
  return Buffer.concat([head, data])
}

test('MNIST and other IDX files, gzipped or not', async () => {
  const grey = bytes(3 * 6 * 4)
  const labels = Uint8Array.of(4, 0, 2)
  for (const zipped of [false, true]) {
    const mnist = place(`mnist-${zipped}`)
    mkdirSync(mnist)
    const write = (name: string, data: Buffer) =>
      writeFileSync(join(mnist, zipped ? `${name}.gz` : name), zipped ? gzipSync(data) : data)
    write('train-images-idx3-ubyte', idx([3, 6, 4], grey))
    write('train-labels-idx1-ubyte', idx([3], labels))
    const set = await openDataset(`mnist:${mnist}`, 4)
    assert.equal([set.length, set.flips, set.name], [3, false, `mnist:${mnist}`])
    assert.equal(set.classes, ['0', '1', '2', '3', '4'])
    assert.equal([0, 1, 2].map(set.label), [4, 0, 2])
    const middle = grey.subarray(24 + 4, 24 + 20) // of picture 1, without its first and last row
    assert.equal(await set.pixels(1), Uint8Array.from([...middle, ...middle, ...middle]))
  }
  const path = place('faces.idx')
  writeFileSync(path, idx([3, 6, 4], grey))
  const alone = await openDataset(`idx:${path}`, 4)
  assert.equal([alone.length, alone.label(2), alone.classes], [3, 0, ['faces.idx']])

  const refuse = async (data: Buffer, wanted: RegExp, name = 'wrong.idx') => {
    writeFileSync(place(name), data)
    assert.match(await line(openDataset(`idx:${place(name)}`, 4)), wanted)
  }
  await refuse(idx([3, 6, 4], grey.subarray(1)), /expected \[3, 6, 4\] bytes, got a file of at most 87: cut short/)
  await refuse(idx([2, 6, 4], grey), /expected 48 bytes for \[2, 6, 4\], got more/)
  await refuse(idx([3, 6, 4], grey, 0xd03), /got one that begins with 0 0 13 3/)
  await refuse(Buffer.alloc(7), /expected 4 bytes, got 7|it is cut short/)
  await refuse(Buffer.alloc(0), /it is cut short/)
  await refuse(idx([0, 6, 4], new Uint8Array(0)), /expected pictures, got \[0, 6, 4\]/)
  await refuse(idx([2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1], grey), /cut short/)
  await refuse(Buffer.from('no gzip'), /expected an IDX file: incorrect header check/, 'wrong.gz')
  await refuse(
    gzipSync(idx([3, 6, 4], grey)).subarray(0, 60),
    /expected an IDX file: unexpected end of file/,
    'wrong.gz',
  )
  await refuse(gzipSync(idx([2 ** 20, 2 ** 10, 1], grey)), /cut short/, 'wrong.gz') // a gigabyte in a hundred bytes
  await refuse(gzipSync(idx([100, 30, 30], grey)), /expected 90016 bytes, got 88: it is cut short/, 'wrong.gz')
  assert.match(await line(openDataset(`mnist:${folder}`, 4)), /expected train-images-idx3-ubyte or .*\.gz, got neither/)
  writeFileSync(place('x-images-idx3'), idx([3, 6, 4], grey))
  writeFileSync(place('x-labels-idx1'), idx([2], labels.subarray(1)))
  assert.match(await line(openDataset(`idx:${place('x-images-idx3')}`, 4)), /x-labels-idx1: expected 3 labels, got 2/)
})

const rgb = bytes(5 * 4 * 6 * 3)
const samples = (): Map<string, NpzSource> =>
  new Map<string, NpzSource>([
    ['arr_0', { dtype: 'U8', shape: [5, 4, 6, 3], data: rgb }],
    ['arr_1', { dtype: 'I64', shape: [5], data: [3, 0, 1, 1, 2] }],
  ])

/** An entry of an .npz that is deflated. */
const deflated = (name: string, dtype: 'U8' | 'I64', shape: number[], data: Uint8Array) => {
  const whole = Buffer.concat([encodeNpyHeader(dtype, shape), data])
  return { name, data: deflateRawSync(whole), claims: { method: 8, size: whole.length, crc: crc32(whole) } }
}

test("ADM's batches: written and read, stored and compressed, whole and row by row", async () => {
  const stored = place('samples.npz')
  await writeNpz(stored, samples())
  const again = place('again.npz')
  await writeNpz(again, samples())
  assert.equal(readFileSync(again), readFileSync(stored)) // not the time of day
  const arrays = await readNpz(stored)
  assert.equal(arrays.get('arr_0'), { dtype: 'U8', shape: [5, 4, 6, 3], data: Int32Array.from(rgb) })
  assert.equal(arrays.get('arr_1')!.data, Int32Array.of(3, 0, 1, 1, 2))

  const compressed = place('compressed.npz')
  const labels = new Uint8Array(BigInt64Array.of(3n, 0n, 1n, 1n, 2n).buffer)
  writeFileSync(
    compressed,
    zipOf([deflated('arr_0.npy', 'U8', [5, 4, 6, 3], rgb), deflated('arr_1.npy', 'I64', [5], labels)]),
  )
  for (const path of [stored, compressed]) {
    using file = await NpzFile.open(path)
    const rows: Uint8Array[] = []
    for await (const row of file.rows('arr_0')) rows.push(row)
    assert.equal(
      rows,
      Array.from({ length: 5 }, (_, i) => rgb.slice(72 * i, 72 * (i + 1))),
    )
    assert.is(file.isStored('arr_0'), path === stored)
    if (path === stored) assert.equal(file.row('arr_0', 3), rows[3])
    const set = await openDataset(`npz:${path}`, 4)
    assert.equal([set.length, set.classes, set.flips], [5, ['0', '1', '2', '3'], false])
    assert.equal([0, 1, 2, 3, 4].map(set.label), [3, 0, 1, 1, 2])
    const middle = centerCrop({ data: rows[3], width: 6, height: 4 }, 4).data
    assert.equal(interleaved(await set.pixels(3)), middle)
  }
  await writeNpz(stored, new Map([...samples()].slice(0, 1)))
  assert.equal((await openDataset(`npz:${stored}`, 4)).classes, ['pictures'])
})

test('pictures of an array: grey or RGB, channels last or first, bytes or numbers of a range', async () => {
  const grey = Uint8Array.from({ length: 2 * 16 }, (_, i) => i * 8)
  const all = Uint8Array.from({ length: 2 * 3 * 16 }, (_, i) => (i * 53) % 256) // planes
  const last = Array.from({ length: 2 }, (_, n) => [...interleaved(all.subarray(48 * n, 48 * n + 48))]).flat()
  const scaled = (values: Uint8Array, low: number) => Array.from(values, byte => low + (byte / 255) * (1 - low))
  const greyPlanes = Uint8Array.from({ length: 48 }, (_, i) => grey[16 + (i % 16)])
  const arrays: [NpzSource, Uint8Array, RegExp | null][] = [
    [{ dtype: 'U8', shape: [2, 4, 4], data: grey }, greyPlanes, null],
    [{ dtype: 'U8', shape: [2, 4, 4, 1], data: grey }, greyPlanes, null],
    [{ dtype: 'U8', shape: [2, 1, 4, 4], data: grey }, greyPlanes, null],
    [{ dtype: 'U8', shape: [2, 3, 4, 4], data: all }, all.subarray(48), null],
    [{ dtype: 'U8', shape: [2, 4, 4, 3], data: last }, all.subarray(48), null],
    [{ dtype: 'I64', shape: [2, 3, 4, 4], data: all }, all.subarray(48), /are taken as 0 to 255$/],
    [{ dtype: 'F32', shape: [2, 3, 4, 4], data: scaled(all, 0) }, all.subarray(48), /0 to 1, are taken as 0 to 1$/],
    [{ dtype: 'F64', shape: [2, 3, 4, 4], data: scaled(all, -1) }, all.subarray(48), /are taken as -1 to 1$/],
    [{ dtype: 'F32', shape: [2, 3, 4, 4], data: all }, all.subarray(48), /are taken as 0 to 255$/],
  ]
  all.set([0, 255]) // both ends of the range
  last.splice(0, 4, 0, last[1], last[2], 255)
  arrays[6][0] = { dtype: 'F32', shape: [2, 3, 4, 4], data: scaled(all, 0) }
  arrays[7][0] = { dtype: 'F64', shape: [2, 3, 4, 4], data: scaled(all, -1) }
  for (const [i, [source, wanted, said]] of arrays.entries()) {
    const path = place(`layout-${i}.npz`)
    await writeNpz(path, new Map([['arr_0', source]]))
    const lines: string[] = []
    const set = await openDataset(path, 4, { report: each => lines.push(each) })
    assert.equal([set.length, set.name], [2, `npz:${path}`])
    assert.equal(await set.pixels(1), wanted, `${source.dtype} ${source.shape}`)
    assert.is(lines.length, said === null ? 0 : 1)
    if (said !== null) assert.match(lines[0], said)
  }
})

test("EDM's ZIP: pictures by name, labels of dataset.json, others left out", async () => {
  const paint = (value: number) =>
    sharp(new Uint8Array(48).fill(value), { raw: { width: 4, height: 4, channels: 3 } })
      .png()
      .toBuffer()
  const names = ['00000/img00000001.png', '00000/img00000000.png', '00001/img00000002.png']
  const pictures = await Promise.all(names.map(async (name, i) => ({ name, data: await paint(50 * i) })))
  const labels = [
    [names[1], 3],
    [names[0], 0],
    [names[2], 1],
  ]
  const json = (value: unknown) => ({ name: 'dataset.json', data: Buffer.from(JSON.stringify(value)) })
  const path = place('edm.zip')
  const said: string[] = []
  const opened = (parts: Parameters<typeof zipOf>[0]) => {
    writeFileSync(path, zipOf(parts))
    return openDataset(path, 4, { report: each => said.push(each) })
  }
  const others = ['__MACOSX/._a.png', 'notes.txt', 'a/b.TXT', 'c.bmp'].map(name => ({ name, data: Buffer.from('x') }))
  const set = await opened([...pictures, json({ labels }), ...others])
  assert.equal([set.length, set.classes, [0, 1, 2].map(set.label)], [3, ['0', '1', '2', '3'], [3, 0, 1]])
  assert.equal([(await set.pixels(0))[0], (await set.pixels(1))[0], (await set.pixels(2))[0]], [50, 0, 100])
  assert.equal(said, [`${path}: left out: 2 .txt, 1 .bmp`])
  assert.equal((await openDataset(`zip:${path}`, 4, { report: () => {} })).length, 3)
  for (const none of [[], [json({ labels: null })]])
    assert.equal((await opened([...pictures, ...none])).classes, ['edm'])
  const damaged = await opened([...pictures, { name: 'z.png', data: Buffer.from('no picture') }])
  assert.match(
    await line(Promise.resolve(damaged.pixels(3))),
    /edm\.zip: z\.png: expected a picture, got one that cannot/,
  )
  const wrong: [Parameters<typeof zipOf>[0], RegExp][] = [
    [[json({ labels })], /expected pictures, got none of 1 files/],
    [
      [...pictures, json({ labels: labels.slice(1) })],
      /img00000000\.png: expected a class from 0 to 65535, got undefined/,
    ],
    [[...pictures, json({ labels: 3 })], /expected labels as a list of \[name, class\]/],
    [[...pictures, { name: 'dataset.json', data: Buffer.from('{') }], /dataset\.json: expected JSON: /],
  ]
  for (const [parts, wanted] of wrong) assert.match(await line(opened(parts)), wanted)
  assert.match(await line(openDataset('zip:/nowhere.zip', 4)), /expected a ZIP of pictures: no such file or folder/)
})

test('arrays of every type, no axes, no elements; parts as they come', async () => {
  const path = place('types.npz')
  const parts = async function* () {
    yield [1, 2]
    yield []
    yield [3]
  }
  const sources: [string, NpzSource][] = [
    ['f8', { dtype: 'F64', shape: [2, 1], data: [0.1, -1e300] }],
    ['f4', { dtype: 'F32', shape: [], data: [1.5] }],
    ['f2', { dtype: 'F16', shape: [2], data: [1.5, -0.25] }],
    ['i8', { dtype: 'I64', shape: [1], data: [-7] }],
    ['i4', { dtype: 'I32', shape: [1, 1, 2], data: [-(2 ** 31), 5] }],
    ['i2', { dtype: 'I16', shape: [2], data: [-300, 300] }],
    ['i1', { dtype: 'I8', shape: [2], data: [-3, 3] }],
    ['b1', { dtype: 'BOOL', shape: [2], data: [1, 0] }],
    ['none', { dtype: 'U8', shape: [0, 3], data: [] }],
    ['parts', { dtype: 'U8', shape: [3], data: parts }],
  ]
  await writeNpz(path, new Map(sources))
  const arrays = await readNpz(path)
  for (const [name, { dtype, shape, data }] of sources) {
    const got = arrays.get(name)!
    assert.equal([got.dtype, got.shape], [dtype, shape])
    assert.equal(Array.from(got.data), typeof data === 'function' ? [1, 2, 3] : Array.from(data))
  }
})

test('writing: what does not fit leaves what was there as it was', async () => {
  const path = place('kept.npz')
  await writeNpz(path, samples())
  const before = readFileSync(path)
  const wrong: [NpzSource, RegExp][] = [
    [{ dtype: 'U8', shape: [3], data: [1, 2] }, /kept\.npz: x: expected 3 elements for \[3\], got 2/],
    [{ dtype: 'U8', shape: [1], data: [1, 2] }, /expected 1 elements for \[1\], got more/],
    [{ dtype: 'U8', shape: [1], data: [256] }, /expected an integer in \[0, 255\] for U8, got 256/],
    [{ dtype: 'BF16', shape: [1], data: [1] }, /expected one of BOOL, .*, got BF16/],
  ]
  for (const [source, wanted] of wrong) assert.match(await line(writeNpz(path, new Map([['x', source]]))), wanted)
  assert.equal(readFileSync(path), before)
  assert.match(
    await line(writeNpz(place('nowhere/x.npz'), samples())),
    /x\.npz: could not be written: no such file or folder/,
  )
})

const hostile = suite('hostile .npz')

/** An .npz of one entry. */
const npzOf = (data: Uint8Array, name = 'arr_0.npy') => zipOf([{ name, data }])
/** An array with this header. */
const npy = (header: string, data: Uint8Array | null = new Uint8Array(0), version = 1) => {
  const text = Buffer.from(header, 'latin1')
  const head = Buffer.from([0x93, ...Buffer.from('NUMPY'), version, 0, text.length & 255, text.length >> 8])
  return Buffer.concat([head, ...(version === 1 ? [] : [Buffer.alloc(2)]), text, data ?? Buffer.alloc(0)])
}
const fields = (descr: string, shape: string, order = 'False') =>
  `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }`

hostile('headers that are wrong, or ask for what is not read', async () => {
  const path = place('hostile.npz')
  const three = Uint8Array.of(1, 2, 3)
  const good = npzOf(npy(fields("'|u1'", '(3,)'), three))
  writeFileSync(path, good)
  assert.equal((await readNpz(path)).get('arr_0')!.data, Int32Array.of(1, 2, 3))
  writeFileSync(path, npzOf(npy(fields("'|u1'", '(3L,)'), three, 2))) // Python 2's
  assert.equal((await readNpz(path)).get('arr_0')!.shape, [3])
  const wrong: [Uint8Array, RegExp][] = [
    [npzOf(npy(fields("'|u1'", '(4,)'), three)), /expected 4 bytes for U8 \[4\], got 3/],
    [npzOf(npy(fields("'|u1'", '(-3,)'), three)), /expected a header with descr, fortran_order and shape/],
    [npzOf(npy(fields("'|u1'", `(${'9999999999, '.repeat(9)})`), three)), /expected .* bytes for U8/],
    [
      npzOf(npy(fields("'|u1'", '(9999999999999999, 9999999999999999, 0)'), three)),
      /expected a shape of integers, got \(9999999999999999, /,
    ],
    [npzOf(npy("__import__('os').system('touch was-run')", three)), /expected a header with descr/],
    [npzOf(npy(' '.repeat(20_000), three)), /expected a header with|expected a header within/],
    [npzOf(npy(fields("'|u1'", '(3,)'), three, 9)), /expected version 1, 2 or 3/],
    [npzOf(Buffer.from('hello')), /expected an array of NumPy, got other bytes/],
    [npzOf(three, 'x.txt'), /expected arrays \(\.npy\) only, got "x\.txt"/],
    [Buffer.from('PK'), /expected a ZIP container/],
  ]
  for (const [data, wanted] of wrong) {
    writeFileSync(path, data)
    assert.match(await line(readNpz(path)), wanted)
  }
  const sets: [Map<string, NpzSource>, RegExp][] = [
    [new Map([['mu', { dtype: 'F64', shape: [1], data: [1] }]]), /expected an array arr_0, got mu/],
    [
      new Map([['arr_0', { dtype: 'F32', shape: [1, 1, 2, 3], data: [0, 0, 0, -2, 0, 0] }]]),
      /expected numbers from 0 to 255, 0 to 1 or -1 to 1, got -2 to 0/,
    ],
    [
      new Map([['arr_0', { dtype: 'F32', shape: [1, 1, 2], data: [0, Number.NaN] }]]),
      /expected finite numbers, got NaN/,
    ],
    [new Map([['arr_0', { dtype: 'U8', shape: [1, 2, 2, 4], data: new Uint8Array(16) }]]), /got U8 \[1, 2, 2, 4\]/],
    [
      new Map([...samples(), ['arr_1', { dtype: 'I64', shape: [2], data: [0, 0] }]]),
      /expected \[5\] labels, got \[2\]/,
    ],
    [
      new Map([...samples(), ['arr_1', { dtype: 'I32', shape: [5], data: [0, 0, -1, 0, 0] }]]),
      /expected labels from 0 to 65535, got -1/,
    ],
    [new Map([...samples(), ['arr_1', { dtype: 'I32', shape: [5], data: [0, 0, 2 ** 30, 0, 0] }]]), /got 1073741824/],
  ]
  for (const [arrays, wanted] of sets) {
    rmSync(path, { force: true })
    await writeNpz(path, arrays)
    assert.match(await line(openDataset(`npz:${path}`, 4)), wanted)
  }
  const missing = place('not-there.npz')
  assert.throws(() => closeSync(openSync(missing, 'r')), /ENOENT/)
  assert.match(await line(openDataset(`npz:${missing}`, 4)), /not-there\.npz: expected an \.npz file: no such file/)
})

hostile('deflated bytes that are more, fewer or other than the directory says', async () => {
  const path = place('bomb.npz')
  const part = deflated('arr_0.npy', 'U8', [5, 4, 6, 3], rgb)
  const whole = part.claims.size
  const wrong: [object, RegExp][] = [
    [{ size: whole - 1 }, /expected \d+ bytes for U8|got more/],
    [{ size: whole + 1 }, /expected 360 bytes for U8 .*, got 361|expected \d+ bytes, got/],
    [{ crc: 7 }, /arr_0\.npy: expected checksum 00000007, got \w{8}: it is damaged/],
    [{ method: 0, size: part.data.length, crc: crc32(part.data) }, /expected an array of NumPy/],
  ]
  for (const [claims, wanted] of wrong) {
    writeFileSync(path, zipOf([{ ...part, claims: { ...part.claims, ...claims } }]))
    assert.match(await line(readNpz(path)), wanted)
  }
  const zeros = deflateRawSync(Buffer.alloc(2 ** 24)) // a thousand to one is as good as it gets
  writeFileSync(path, zipOf([{ name: 'a.npy', data: zeros, claims: { method: 8, size: 2 ** 40 } }]))
  assert.match(await line(readNpz(path)), /it claims 1099511627776 bytes of/)
  writeFileSync(path, zipOf([{ name: 'a.npy', data: part.data.subarray(0, 50), claims: { method: 8, size: whole } }]))
  assert.match(await line(readNpz(path)), /expected deflated bytes: unexpected end of file/)
})

hostile('whatever is done to a file, it is read or refused in one line', async () => {
  const labels = new Uint8Array(BigInt64Array.of(3n, 0n).buffer)
  const small = rgb.subarray(0, 144)
  const compressed = zipOf([
    deflated('arr_0.npy', 'U8', [2, 4, 6, 3], small),
    deflated('arr_1.npy', 'I64', [2], labels),
  ])
  const stored = zipOf([
    { name: 'arr_0.npy', data: Buffer.concat([encodeNpyHeader('U8', [2, 4, 6, 3]), small]) },
    { name: 'arr_1.npy', data: Buffer.concat([encodeNpyHeader('I64', [2]), labels]) },
  ])
  const digits = gzipSync(idx([3, 6, 4], bytes(72)))
  const files = [
    { spec: 'npz:', name: 'fuzz.npz', original: compressed },
    { spec: 'npz:', name: 'fuzz.npz', original: stored },
    { spec: 'idx:', name: 'fuzz.gz', original: digits },
    { spec: 'idx:', name: 'fuzz.idx', original: idx([3, 6, 4], bytes(72)) },
    { spec: 'cifar10:', name: 'fuzz.bin', original: cifar([[1], [2]]) },
  ]
  const damage = fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255), cut: fc.constantFrom(0, 0, 0, 1, 9) }), {
    minLength: 1,
    maxLength: 3,
  })
  let refused = 0
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...files), damage, async ({ spec, name, original }, changes) => {
      const data = Array.from(original)
      for (const { at, byte, cut } of changes)
        data.splice(at % data.length, Math.max(cut, 1), ...(cut > 0 ? [] : [byte]))
      writeFileSync(place(name), Uint8Array.from(data))
      try {
        const set = await openDataset(`${spec}${place(name)}`, 4)
        for (let i = 0; i < set.length; i++) assert.is((await set.pixels(i)).length, 48)
      } catch (error) {
        refused++
        const { message, stack } = error as Error
        assert.ok(
          [UserError, ZipError, SafetensorsError].some(kind => error instanceof kind),
          stack,
        )
        assert.not.match(message, /\n/)
      }
    }),
    { numRuns: 400 },
  )
  assert.ok(refused > 100, `${refused}`)
})

test.run()
hostile.run()
