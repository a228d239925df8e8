/** docs/formats.md: every line of its tables is run. */

import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { crc32, deflateRawSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run as convert } from '../../cli/convert.ts'
import { listRows } from '../../data/list-rows.ts'
import { encodeNpyHeader } from '../../io/npy.ts'
import { NpzFile, readNpz, writeNpz } from '../../io/npz.ts'
import { type RawTensor, safetensorsBytes } from '../../io/safetensors.ts'
import { SafetensorsFile, writeSafetensors } from '../../io/safetensors-node.ts'
import { openWeights } from '../../io/weights-node.ts'
import { DiT } from '../../models/index.ts'
import { recognise } from '../../models/recognise.ts'
import { type HostState, shapesOnly } from '../../nn/index.ts'
import { read, root } from '../repo/markdown.ts'
import { dataSetLines } from './data-set-lines.ts'
import { zipOf } from './zip.ts'

const fixture = (name: string) => join(root, 'tests/fixtures/pytorch', name)
const folder = mkdtempSync(join(tmpdir(), 'demask-formats-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const at = (name: string) => join(folder, name)

/** The first element of a tensor in a file. */
async function first(path: string, name: string, part?: string): Promise<number> {
  using file = await openWeights(path, { part })
  const tensor = file.state.get(name)
  assert.ok(tensor, `${name} in ${[...file.state.keys()]}`)
  return tensor.data[0]
}

async function refused(path: string, content: string | Uint8Array, wanted: RegExp): Promise<void> {
  writeFileSync(path, typeof content === 'string' ? Buffer.from(content, 'latin1') : content)
  const error = await openWeights(path).then(
    () => assert.unreachable('accepted'),
    (error: Error) => error,
  )
  assert.match((error as Error).message, wanted)
  assert.not.match((error as Error).message, /\n/)
}

/** A file with one tensor of a type, whose bytes are these. */
async function stored(dtype: string, shape: readonly number[], bytes: readonly number[]): Promise<string> {
  const path = at(`${dtype}.safetensors`)
  const tensor: RawTensor = { dtype, shape, size: bytes.length, bytes: () => Uint8Array.from(bytes) }
  await writeSafetensors(path, new Map([['w', tensor]]))
  return path
}

let copies = 0
/** Type and bytes of the tensor `w` of a file after `convert`. */
async function converted(path: string, ...flags: string[]): Promise<[dtype: string, bytes: number[]]> {
  const out = at(`out-${copies++}.safetensors`)
  await convert([path, out, ...flags])
  using file = new SafetensorsFile(out)
  return [file.header.tensors.get('w')!.dtype, [...file.bytes('w')]]
}

/** One element of 1 in every type that is read. */
const ones: Readonly<Record<string, readonly number[]>> = {
  F64: [0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
  F32: [0, 0, 0x80, 0x3f],
  F16: [0, 0x3c],
  BF16: [0x80, 0x3f],
  F8_E4M3: [0x38],
  F8_E5M2: [0x3c],
  F8_E8M0: [127],
  F8_E4M3FNUZ: [0x40],
  F8_E5M2FNUZ: [0x40],
  I64: [1, 0, 0, 0, 0, 0, 0, 0],
  U64: [1, 0, 0, 0, 0, 0, 0, 0],
  U32: [1, 0, 0, 0],
  I32: [1, 0, 0, 0],
  I16: [1, 0],
  U16: [1, 0],
  I8: [1],
  U8: [1],
  BOOL: [1],
}

async function readsAsOne(type: typeof Float32Array | typeof Float64Array | typeof Int32Array, ...dtypes: string[]) {
  for (const dtype of dtypes) {
    const path = await stored(dtype, [1], ones[dtype])
    using file = await openWeights(path)
    assert.equal(file.state.get('w')!.data, type.of(1), dtype)
    assert.equal(await converted(path), [dtype, [...ones[dtype]]])
    if (type === Int32Array) continue
    for (const [flag, target] of [
      ['f32', 'F32'],
      ['f16', 'F16'],
      ['bf16', 'BF16'],
    ] as const)
      assert.equal(await converted(path, '--dtype', flag), [target, [...ones[target]]], `${dtype} to ${target}`)
  }
}

async function listedOnly(dtype: string, shape: readonly number[], bytes: readonly number[]) {
  const path = await stored(dtype, shape, bytes)
  using file = await openWeights(path)
  assert.equal([file.state.get('w')!.dtype, file.state.get('w')!.shape], [dtype, shape])
  assert.throws(() => file.state.get('w')!.data, /expected elements that f32, f64 or i32 can hold/)
  assert.equal(await converted(path), [dtype, [...bytes]])
}

async function unread(name: string, wanted: RegExp) {
  using file = await openWeights(fixture('types.pt'), { part: 'wide' })
  assert.ok(file.state.has(name))
  assert.throws(() => file.state.get(name)!.data, wanted)
}

const model = () =>
  new DiT(
    { inputSize: 4, patchSize: 2, inChannels: 4, hiddenSize: 8, depth: 1, numHeads: 2, numClasses: 3 },
    shapesOnly,
  )
const shapesOf = (prefix: string): Map<string, HostState> =>
  new Map(Array.from(model().stateDict(), ([name, { shape }]) => [prefix + name, { shape, data: [] }]))

const npy = (descr: string, shape: string, bytes: readonly number[], fortran = false) => {
  const text = `{'descr': ${descr}, 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': ${shape}, }`
  return Buffer.concat([
    Buffer.from(`\x93NUMPY\x01\x00${String.fromCharCode(text.length)}\x00${text}`, 'latin1'),
    Buffer.from(bytes),
  ])
}

/** Checks pictures and classes of a list with this text, and the notes about it. */
function lists(name: string, text: string, wanted: readonly string[], said: readonly string[] = []): void {
  writeFileSync(at(name), text)
  const { files, classes, notes } = listRows(at(name))
  assert.equal(
    files.map(({ path, label }) => `${relative(folder, String(path))} ${classes[label]}`),
    wanted,
  )
  assert.equal(notes, said)
}

/** Assertions by the first cell of each line. */
const lines: Readonly<Record<string, () => Promise<unknown>>> = {
  safetensors: async () => {
    const json = '{"__metadata__":null,"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    writeFileSync(
      at('null'),
      Buffer.concat([Buffer.from([json.length, 0, 0, 0, 0, 0, 0, 0]), Buffer.from(json), Buffer.of(7)]),
    )
    assert.is(await first(at('null'), 'w'), 7)
    assert.is(Object.keys(safetensorsBytes).length, 22)
  },
  'PyTorch 1.6 and newer, ZIP': async () => {
    for (const name of ['protocol-2.pt', 'protocol-3.pt', 'protocol-4.pt', 'protocol-5.pt', 'big-endian.pt'])
      assert.is(await first(fixture(name), 'w'), -3)
    assert.is(await first(fixture('views.pt'), 'offset'), -2)
  },
  'PyTorch, older format': async () => {
    assert.is(await first(fixture('legacy.pt'), 'w'), -3)
    assert.is(await first(fixture('legacy-views.pt'), 'row'), -2)
  },
  'PyTorch, whole module': async () => assert.is(await first(fixture('module.pt'), 'scale'), -3),
  'objects beside weights': async () => assert.is(await first(fixture('objects-4.pt'), 'w'), -3),
  shards: async () => {
    mkdirSync(at('shards'))
    for (const [index, shard, from] of [
      ['model.safetensors.index.json', 'a.safetensors', fixture('training-ema.safetensors')],
      ['pytorch_model.bin.index.json', 'a.bin', fixture('training.pt')],
    ]) {
      copyFileSync(from, at(`shards/${shard}`))
      writeFileSync(at(`shards/${index}`), JSON.stringify({ weight_map: { '0.bias': shard } }))
      using file = await openWeights(at(`shards/${index}`))
      assert.equal([...file.state.keys()], ['0.bias'])
    }
  },
  'diffusers, DiT': async () => {
    // tests/io/weights.test.ts makes one and compares every tensor.
    const state = new Map<string, HostState>(
      ['pos_embed.proj.weight', 'transformer_blocks.0.norm1.linear.weight'].map(name => [
        name,
        { shape: [8, 4, 2, 2], data: [] },
      ]),
    )
    assert.throws(() => recognise(state, 'f'), /expected the config\.json of diffusers beside it/)
    assert.throws(
      () => recognise(state, 'f', { config: '{"sample_size": 4}' }),
      /in a DiTTransformer2DModel of diffusers, got none/,
    )
  },
  'wrappers in names': async () => {
    using file = await openWeights(fixture('training.pt'), { weights: 'model' }) // module._orig_mod.0.weight
    assert.ok(file.state.has('0.weight'))
  },
  averages: async () => {
    using file = await openWeights(fixture('shadow.pt'))
    assert.is(file.part, 'ema.shadow')
  },
  'prefixes of programs': async () => {
    for (const prefix of ['model.', 'ema_model.', 'net.'])
      assert.is(recognise(shapesOf(prefix), 'f', { heads: 2 }).family.name, 'DiT')
  },
  F64: () => readsAsOne(Float64Array, 'F64'),
  'F32, F16, BF16': () => readsAsOne(Float32Array, 'F32', 'F16', 'BF16'),
  'F8_E4M3, F8_E5M2, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ': () =>
    readsAsOne(Float32Array, 'F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F8_E4M3FNUZ', 'F8_E5M2FNUZ'),
  'I64, U64, U32': async () => {
    await readsAsOne(Int32Array, 'I64', 'U64', 'U32')
    for (const dtype of ['I64', 'U64', 'U32']) {
      const bytes = ones[dtype].map((_, i) => (i === 3 ? 0x90 : 0))
      const path = await stored(dtype, [1], bytes)
      using file = await openWeights(path)
      assert.throws(() => file.state.get('w')!.data, /in the range of i32, got 2415919104$/)
      assert.equal(await converted(path), [dtype, bytes])
    }
  },
  'I32, I16, U16, I8, U8, BOOL': () => readsAsOne(Int32Array, 'I32', 'I16', 'U16', 'I8', 'U8', 'BOOL'),
  'C64, F6_E2M3, F6_E3M2, F4, types that come later': async () => {
    await listedOnly('C64', [1], [1, 2, 3, 4, 5, 6, 7, 8])
    await listedOnly('F6_E2M3', [4], [1, 2, 3])
    await listedOnly('F6_E3M2', [4], [1, 2, 3])
    await listedOnly('F4', [2], [1])
    await listedOnly('I2', [5], [1, 2])
  },
  'C128, unknown types of PyTorch': async () => {
    await unread('C128', /expected elements that f32, f64 or i32 can hold, got 'C128'$/)
    const error = await convert([fixture('types.pt'), at('c.safetensors'), '--part', 'wide']).catch(
      (e: Error) => e.message,
    )
    assert.match(String(error), /C128: expected a type that safetensors has, got C128$/)
  },
  'negative bit of PyTorch': async () => {
    assert.is(await first(fixture('types.pt'), 'negative'), 3)
    await convert([fixture('types.pt'), at('neg.safetensors')])
    assert.is(await first(at('neg.safetensors'), 'negative'), 3)
  },
  'conjugate bit of PyTorch': () => unread('conjugate', /got one with the conjugate bit/),
  '.npz': async () => {
    const grey = { dtype: 'U8' as const, shape: [2, 1, 1], data: [1, 2] }
    await writeNpz(
      at('a.npz'),
      new Map([
        ['grey', grey],
        ['planes', { ...grey, shape: [1, 2, 1, 1] }],
      ]),
    )
    const arrays = await readNpz(at('a.npz'))
    assert.equal(
      [arrays.get('grey')!.shape, arrays.get('planes')!.shape],
      [
        [2, 1, 1],
        [1, 2, 1, 1],
      ],
    )
    const data = npy("'|u1'", '(2,)', [3, 4])
    const claims = { method: 8, size: data.length, crc: crc32(data) }
    writeFileSync(at('b.npz'), zipOf([{ name: 'x.npy', data: deflateRawSync(data), claims }]))
    assert.equal((await readNpz(at('b.npz'))).get('x')!.data, Int32Array.of(3, 4))
  },
  '.npy': async () => {
    writeFileSync(at('a.npy'), npy("'|u1'", '(2,)', [3, 4]))
    assert.equal((await readNpz(at('a.npy'))).get('arr_0')!.data, Int32Array.of(3, 4))
  },
  'integers, floats and booleans of NumPy': async () => {
    const types: Readonly<Record<string, string>> = {
      b1: 'BOOL',
      u1: 'U8',
      i1: 'I8',
      i2: 'I16',
      u2: 'U16',
      i4: 'I32',
      u4: 'U32',
      i8: 'I64',
      u8: 'U64',
      f2: 'F16',
      f4: 'F32',
      f8: 'F64',
    }
    for (const [code, dtype] of Object.entries(types))
      for (const order of ['<', '>']) {
        const one = order === '<' ? ones[dtype] : [...ones[dtype]].reverse()
        writeFileSync(at('t.npy'), npy(`'${order}${code}'`, '(1,)', one))
        assert.is((await readNpz(at('t.npy'))).get('arr_0')!.data[0], 1, `${order}${code}`)
      }
  },
  "Fortran's order": async () => {
    writeFileSync(at('f.npy'), npy("'|u1'", '(2, 3)', [1, 4, 2, 5, 3, 6], true))
    assert.equal((await readNpz(at('f.npy'))).get('arr_0')!.data, Int32Array.of(1, 2, 3, 4, 5, 6))
  },
  'strings, objects, records, complex numbers, times': async () => {
    for (const descr of ["'<U2'", "'|O'", "[('a', '<i4')]", "'<c8'", "'<M8[s]'"]) {
      writeFileSync(at('o.npy'), npy(descr, '(1,)', [0]))
      assert.is((await readNpz(at('o.npy'))).size, 0)
      using file = await NpzFile.open(at('o.npy'))
      const error = await file.read('arr_0').catch((error: Error) => error.message)
      assert.match(String(error), /expected elements of BOOL, U8/)
    }
  },
  '.npz, written': async () => {
    for (const name of ['1.npz', '2.npz'])
      await writeNpz(at(name), new Map([['x', { dtype: 'F32', shape: [1], data: [2] }]]))
    using file = await NpzFile.open(at('1.npz'))
    assert.ok(file.isStored('x'))
    assert.equal(readFileSync(at('1.npz')), readFileSync(at('2.npz')))
    assert.match(Buffer.from(encodeNpyHeader('F32', [1])).toString('latin1'), /'fortran_order': False/)
  },
  ...dataSetLines,
  '.csv': async () => lists('a.csv', '\ufeff"in, out.png","a ""b"""\r\n1.png,c\n', ['in, out.png a "b"', '1.png c']),
  '.csv, header': async () => {
    lists('a.csv', 'Label,width,path\ncat,4,1.png\n', ['1.png cat'], ['left out: the columns width'])
    lists('a.csv', 'file_name\n1.png\n', ['1.png a'])
  },
  '.csv, no header': async () => {
    lists('a.csv', '2.png,10\n1.png,9', ['2.png 10', '1.png 9'])
    lists('a.csv', '2.png\n1.png\n', ['2.png a', '1.png a'])
    writeFileSync(at('a.csv'), 'image,class\n1.png,cat\n')
    assert.throws(() => listRows(at('a.csv')), /a\.csv:1: expected a header with 'path'/)
  },
  '.jsonl': async () =>
    lists('a.jsonl', '{"path":"1.png","label":10}\n\n{"file_name":"2.png","label":"9"}', ['1.png 10', '2.png 9']),
  'no labels': async () => lists('mine.jsonl', '{"path":"1.png"}', ['1.png mine']),
  'Git LFS pointer': () =>
    refused(
      at('x'),
      'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n',
      /Git LFS pointer to 7 bytes: 'git lfs pull'/,
    ),
  "tar archive, also PyTorch's before 0.1.10": () =>
    refused(at('x'), `${'\0'.repeat(257)}ustar`, /tar archive.*unpacks it$/),
  'gzip, zstd, 7z, RAR': async () => {
    for (const [bytes, how] of [
      ['\x1f\x8b', /gunzip/],
      ['\x28\xb5\x2f\xfd', /unzstd/],
      ['7z\xbc\xaf', /unpack/],
      ['Rar!', /unpack/],
    ] as const)
      await refused(at('x'), bytes, how)
  },
  'TorchScript program': async () => {
    const error = await openWeights(fixture('script.pt')).catch((error: Error) => error.message)
    assert.match(String(error), /got a TorchScript program$/)
  },
  'pickle of another program': () => refused(at('x'), '\x80\x04\x95', /a pickle of another program$/),
  'HDF5, GGUF, page of the web, picture': async () => {
    for (const [bytes, what] of [
      ['\x89HDF\r\n', /HDF5/],
      ['GGUF', /GGUF/],
      ['<html>', /page of the web/],
      ['\x89PNG', /a picture$/],
    ] as const)
      await refused(at('x'), bytes, what)
  },
  'pickle that names code': async () => {
    const error = await openWeights(fixture('runs-code.pt')).catch((error: Error) => error.message)
    assert.match(String(error), /it asks for 'posix\.system'/)
  },
}

/** The first cells of the tables' lines. */
const cells = read('docs/formats.md')
  .split('\n')
  .filter(line => line.startsWith('|') && !/^\|(-|\s*(format|type|file|data set) \|)/.test(line))
  .map(line => line.split('|')[1].trim())

test('the tables and the tests have the same lines', () => assert.equal(cells, Object.keys(lines)))

for (const [cell, run] of Object.entries(lines)) test(cell, async () => void (await run()))

test.run()
