/**
 * Files of weights as people have them: by their bytes whatever their name is, in shards, in diffusers' folders, wrapped, without a
 * row for 'no class', damaged by training.
 */

import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run as convert } from '../../cli/convert.ts'
import { openOutput } from '../../cli/sample-output.ts'
import { cpu, rng } from '../../core/index.ts'
import { NpzFile } from '../../io/npz.ts'
import type { HostTensor } from '../../io/safetensors.ts'
import { decodeElements, encodeElements } from '../../io/safetensors-elements.ts'
import { readSafetensors, SafetensorsFile, writeSafetensors } from '../../io/safetensors-node.ts'
import { isPyTorch, openWeights } from '../../io/weights-node.ts'
import { DiT, maskDiTPreset, PreconditionedMaskDiT } from '../../models/index.ts'
import { describe, recognise } from '../../models/recognise.ts'
import { type HostState, shapesOnly } from '../../nn/index.ts'
import { load } from '../../training/trained-run.ts'
import { fail, succeed } from '../programs/example.ts'
import { root } from '../repo/markdown.ts'
import { zipOf } from './zip.ts'

const fixture = (name: string) => join(root, 'tests/fixtures/pytorch', name)
const folder = mkdtempSync(join(tmpdir(), 'demask-weights-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const at = (name: string) => join(folder, name)

async function refused(promise: Promise<unknown>, wanted: RegExp): Promise<void> {
  const error = await promise.then(
    () => assert.unreachable('accepted'),
    (error: Error) => error,
  )
  assert.match((error as Error).message, wanted)
  assert.not.match((error as Error).message, /\n/)
}

const small = { inputSize: 8, patchSize: 2, inChannels: 3, hiddenSize: 16, depth: 2, numHeads: 2, numClasses: 10 }

/** A DiT whose every weight is a random number, and its state on the host. */
function example(options: Partial<ConstructorParameters<typeof DiT>[0]> = {}): Map<string, HostTensor> {
  const model = new DiT({ ...small, ...options }, { rng: rng(1), backend: cpu })
  const state = new Map<string, HostTensor>()
  for (const [name, { shape, size }] of model.stateDict())
    state.set(name, {
      dtype: 'F32',
      shape,
      data: Float32Array.from(rng(2).fork(name).normalArray(size), x => 0.05 * x),
    })
  model.dispose()
  return state
}

test('a file is what its bytes say, under any name', async () => {
  for (const name of ['best.pth.tar', 'weights.pkl', 'weights', 'model.safetensors']) {
    copyFileSync(fixture('dit.pt'), at(name))
    assert.ok(isPyTorch(at(name)))
    using file = await openWeights(at(name))
    assert.is(file.part, 'ema', name)
  }
  copyFileSync(fixture('training-ema.safetensors'), at('really.pt'))
  assert.not(isPyTorch(at('really.pt')))
  using file = await openWeights(at('really.pt'))
  assert.is(file.state.size, 4)
})

test('files that are no weights are refused with what they are', async () => {
  const pointer =
    'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n'
  const tar = Buffer.alloc(1024)
  tar.write('ustar', 257)
  const others: [string | Buffer, RegExp][] = [
    [pointer, /a Git LFS pointer to 12345 bytes: 'git lfs pull' fetches the file itself$/],
    [tar, /a tar archive, as PyTorch before 0\.1\.10 wrote too; 'tar xf FILE' unpacks it$/],
    [Buffer.from([0x1f, 0x8b, 8, 0]), /a file that gzip compressed/],
    [Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), /a file that zstd compressed/],
    [Buffer.from([0x80, 4, 0x95]), /a pickle of another program$/],
    ['\x89HDF\r\n', /an HDF5 file/],
    ['GGUF', /a GGUF file/],
    ['<!DOCTYPE html><p>404', /a page of the web: the download failed$/],
    ['', /an empty file$/],
    ['hello', /another file$/],
    ['{"a": 1}', /expected an index of shards with weight_map, got other JSON$/],
    ['{"a": ', /expected an index of shards as JSON, got another text$/],
    [zipOf([{ name: 'mu.npy', data: Uint8Array.of(1) }]), /got arrays of NumPy \(\.npz\)$/],
  ]
  for (const [content, wanted] of others)
    for (const name of ['a.pt', 'a.bin', 'a']) {
      writeFileSync(at(name), typeof content === 'string' ? Buffer.from(content, 'latin1') : content)
      await refused(openWeights(at(name)), wanted)
      rmSync(at(name))
    }
  writeFileSync(at('p.safetensors'), pointer)
  await refused(openWeights(at('p.safetensors')), /Git LFS pointer/)
  mkdirSync(at('empty'))
  await refused(openWeights(at('empty')), /got a folder without$/)
  if (process.platform === 'win32') return
  execFileSync('mkfifo', [at('pipe')])
  await refused(openWeights(at('pipe')), /expected a file, got a folder or a device$/)
  await refused(NpzFile.open(at('pipe')), /expected a file, got a folder or a device$/)
  assert.throws(() => new SafetensorsFile(at('pipe')), /expected a file, got a folder or a device$/)
})

const shard = (name: string, value: number) =>
  writeSafetensors(at(`shards/${name}`), new Map([[`w${value}`, { dtype: 'F32' as const, shape: [1], data: [value] }]]))

test('weights in shards are one state; an index that leads elsewhere is refused', async () => {
  mkdirSync(at('shards'))
  await shard('a.safetensors', 1)
  await shard('b.safetensors', 2)
  await shard('real', 3)
  symlinkSync('real', at('shards/c.safetensors')) // as the cache of downloads has them
  const index = at('shards/model.safetensors.index.json')
  const write = (weight_map: object) =>
    writeFileSync(index, JSON.stringify({ metadata: { total_size: 12 }, weight_map }))
  write({ w1: 'a.safetensors', w2: 'b.safetensors', w3: 'c.safetensors' })
  for (const path of [index, at('shards')]) {
    using file = await openWeights(path)
    assert.equal(
      [...file.state].map(([name, { data }]) => [name, data[0]]),
      [
        ['w1', 1],
        ['w2', 2],
        ['w3', 3],
      ],
    )
  }
  await convert([at('shards'), at('whole.safetensors')])
  assert.equal([...readSafetensors(at('whole.safetensors')).tensors.keys()].sort(), ['w1', 'w2', 'w3'])
  for (const place of ['../a.safetensors', '/etc/passwd', 'x/a.safetensors', '..', '', 'a\0b', 'C:\\a', 7]) {
    write({ w1: place })
    await refused(openWeights(index), /'w1': expected the name of a file beside the index, got/)
  }
  write({ w1: 'none.safetensors' })
  await refused(openWeights(index), /expected none\.safetensors beside it, got no such file$/)
  write({ w9: 'a.safetensors' })
  await refused(openWeights(index), /expected tensor 'w9' in a\.safetensors, got no such name$/)
  write({ w1: 'model.safetensors.index.json' })
  await refused(openWeights(index), /expected shards of weights, got an index/)
  writeFileSync(at('shards/large.json'), '{')
  truncateSync(at('shards/large.json'), 2 ** 26 + 1)
  await refused(openWeights(at('shards/large.json')), /expected an index of at most 67108864 bytes, got more$/)
  write(Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`w${i}`, `${i}.safetensors`])))
  await refused(openWeights(index), /expected at most 1000 shards, got more$/)
  // Names of PyTorch's wrappers.
  copyFileSync(fixture('legacy.pt'), at('shards/pytorch_model-1.bin'))
  writeFileSync(index, JSON.stringify({ weight_map: { w: 'pytorch_model-1.bin' } }))
  using file = await openWeights(index)
  assert.is(file.state.get('w')!.data[0], -3)
})

/** The same tensors under diffusers' names. */
function diffusers(state: ReadonlyMap<string, HostTensor>): Map<string, HostTensor> {
  const out = new Map<string, HostTensor>()
  for (const [name, tensor] of state) {
    const block = /^blocks\.(\d+)\.(.*)$/.exec(name)
    const { shape, data } = tensor
    if (name === 'pos_embed') continue
    if (name.startsWith('t_embedder') || name.startsWith('y_embedder'))
      for (let i = 0; i < small.depth; i++) {
        const renamed = name
          .replace('t_embedder.mlp.0', 'timestep_embedder.linear_1')
          .replace('t_embedder.mlp.2', 'timestep_embedder.linear_2')
          .replace('y_embedder', 'class_embedder')
        out.set(`transformer_blocks.${i}.norm1.emb.${renamed}`, tensor)
      }
    else if (block?.[2].startsWith('attn.qkv')) {
      const kind = block[2].split('.')[2]
      const third = data.length / 3
      for (const [k, part] of ['q', 'k', 'v'].entries())
        out.set(`transformer_blocks.${block[1]}.attn1.to_${part}.${kind}`, {
          dtype: 'F32',
          shape: [shape[0] / 3, ...shape.slice(1)],
          data: (data as Float32Array).slice(k * third, (k + 1) * third),
        })
    } else
      out.set(
        name
          .replace(/^blocks/, 'transformer_blocks')
          .replace('attn.proj', 'attn1.to_out.0')
          .replace('mlp.fc1', 'ff.net.0.proj')
          .replace('mlp.fc2', 'ff.net.2')
          .replace('final_layer.adaLN_modulation.1', 'proj_out_1')
          .replace('final_layer.linear', 'proj_out_2')
          .replace('adaLN_modulation.1', 'norm1.linear')
          .replace('x_embedder', 'pos_embed'),
        tensor,
      )
  }
  return out
}

test("diffusers' DiT is read under its names, from its folder, with its config", async () => {
  const state = example()
  mkdirSync(at('pipe-line/transformer'), { recursive: true })
  const path = at('pipe-line/transformer/diffusion_pytorch_model.safetensors')
  await writeSafetensors(path, diffusers(state))
  const config = JSON.stringify({ _class_name: 'DiTTransformer2DModel', sample_size: 8, num_attention_heads: 2 })
  await refused(
    (async () => {
      using file = await openWeights(path)
      recognise(file.state, path, { config: file.metadata.get('config') })
    })(),
    /expected the config\.json of diffusers beside it, which has sample_size, got none$/,
  )
  writeFileSync(at('pipe-line/transformer/config.json'), config)
  for (const from of [at('pipe-line'), at('pipe-line/transformer'), path]) {
    using file = await openWeights(from)
    const found = recognise(file.state, from, { config: file.metadata.get('config') })
    assert.is(describe(found), 'DiT: 2 blocks × 16, 2 heads, patch 2, 3 × 8 × 8, 10 classes')
    for (const [name, { data }] of state)
      if (name !== 'pos_embed') assert.equal(found.state.get(name)!.data, data, name)
    const model = found.make({ rng: null, backend: cpu })
    load(model, found.state, from)
    const fresh = new DiT(small, { rng: rng(1), backend: cpu })
    assert.equal(model.stateDict().get('pos_embed')!.dataSync(), fresh.pos_embed.dataSync())
  }
  const drawn = await succeed('demask', [
    'sample',
    ...['--from', at('pipe-line'), '--count', '1', '--steps', '2', '--threads', '1', '--out', at('d.png')],
  ])
  assert.match(drawn, /DiT: 2 blocks × 16, 2 heads/)
  // Blocks whose embedders were trained apart are no DiT.
  const apart = diffusers(state)
  const name = 'transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias'
  apart.set(name, { ...apart.get(name)!, data: new Float32Array(16) })
  const found = recognise(apart, 'f', { config })
  assert.throws(
    () => load(found.make({ rng: null, backend: cpu }), found.state, 'f'),
    /timestep_embedder\.linear_1\.bias: expected the same in every block, got another in block 1$/,
  )
  for (const [text, wanted] of [
    ['{"sample_size": 7}', /config\.json: expected a sample_size that is a multiple of 2, got 7$/],
    ['{"sample_size": "x"}', /got NaN$/],
    ['[', /config\.json: expected an object as JSON, got another text$/],
  ] as const)
    assert.throws(() => recognise(apart, 'f', { config: text }), wanted)
  apart.delete('proj_out_1.weight')
  assert.throws(() => recognise(apart, 'f', { config }), /expected proj_out_1\.weight in a DiTTransformer2DModel/)
})

const shapes = (state: ReadonlyMap<string, HostState>, prefix: string): Map<string, HostState> =>
  new Map(Array.from(state, ([name, tensor]) => [prefix + name, tensor]))

test('a network is found under the prefix of its program, averaged weights first', () => {
  const state = example()
  const scaled = (k: number) => new Map(Array.from(state, ([n, t]) => [n, { ...t, data: t.data.map(x => k * x) }]))
  const first = (given: ReadonlyMap<string, HostState>) =>
    recognise(given, 'f', { heads: 2 }).state.get('pos_embed')!.data
  const beside = { shape: [3], data: [1, 2, 3] }
  assert.equal(first(new Map([...shapes(state, 'model.'), ['loss.weight', beside]])), state.get('pos_embed')!.data)
  assert.equal(first(shapes(state, 'net.dit.')), state.get('pos_embed')!.data)
  const both = [...shapes(scaled(2), 'model.'), ...shapes(scaled(3), 'ema_model.'), ['step', beside] as const]
  assert.equal(first(new Map(both)), scaled(3).get('pos_embed')!.data)
  // MaskDiT's own names begin with model.
  const options = { ...maskDiTPreset('S/2', { inputSize: 8, inChannels: 3, numClasses: 10 }) }
  const maskdit: Map<string, HostState> = new Map(
    Array.from(new PreconditionedMaskDiT(options, shapesOnly).stateDict(), ([name, { shape }]) => [
      name,
      { shape, data: [] },
    ]),
  )
  for (const given of [maskdit, shapes(maskdit, 'ema_model.'), new Map([...maskdit, ['extra', beside]])]) {
    const found = recognise(given, 'f')
    assert.equal([found.family.name, [...found.state.keys()]], ['MaskDiT', [...maskdit.keys()]])
  }
})

test("a DiT without a row for 'no class' has all its classes, and is not guided", async () => {
  const path = at('no-null.safetensors')
  await writeSafetensors(path, example({ classDropoutProb: 0 })) // 10 rows
  const args = ['--from', path, '--heads', '2', '--count', '1', '--steps', '2', '--threads', '1', '--out', at('n.png')]
  assert.match(await succeed('demask', ['sample', ...args, '--classes', '10', '--class', '9']), /10 classes/)
  assert.match(await succeed('demask', ['sample', ...args, '--class', '8', '--guidance', '4']), /9 classes/)
  await fail('demask', ['sample', ...args, '--class', '9'], /--class: expected a number below 9/)
  await fail(
    'demask',
    ['sample', ...args, '--classes', '10', '--guidance', '4'],
    /--guidance: expected a model with a row for 'no class', got a DiT without/,
  )
  await fail(
    'demask',
    ['sample', ...args, '--classes', '12'],
    /--classes: expected 10 or, with a row for 'no class', 9, got 12/,
  )
})

test('weights that are not finite are refused, and so are pictures', async () => {
  for (const [value, text] of [
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
  ] as const) {
    const state = example()
    const bias = state.get('final_layer.linear.bias')!
    bias.data[3] = value
    const path = at(`${text}.safetensors`)
    await writeSafetensors(path, state)
    await fail(
      'demask',
      [
        'sample',
        '--from',
        path,
        '--heads',
        '2',
        '--count',
        '1',
        '--steps',
        '2',
        '--threads',
        '1',
        '--out',
        at('x.png'),
      ],
      new RegExp(`${text}\\.safetensors: final_layer\\.linear\\.bias: element 3: expected finite weights, got ${text}`),
    )
  }
  for (const out of ['x.png', 'x.npz', 'x']) {
    const output = openOutput(at(out), { seeds: [7, 8], labels: null, about: '' })
    const values = new Float32Array(2 * 48)
    values[50] = Number.NaN
    await refused(
      output.add({ values, shape: [2, 3, 4, 4], seeds: [7, 8], labels: null }),
      /^the picture of seed 8: expected finite values, got NaN: weights or settings are wrong$/,
    )
    assert.not(existsSync(at(out)))
  }
})

test('convert copies every type of the format as it is, and types that came later', async () => {
  const header = {
    __metadata__: null,
    wide: { dtype: 'I64', shape: [1], data_offsets: [0, 8] },
    count: { dtype: 'U64', shape: [1], data_offsets: [8, 16] },
    z: { dtype: 'C64', shape: [1], data_offsets: [16, 24] },
    f8: { dtype: 'F8_E4M3', shape: [2, 2], data_offsets: [24, 28] },
    f4: { dtype: 'F4', shape: [4], data_offsets: [28, 30] },
    f6: { dtype: 'F6_E2M3', shape: [4], data_offsets: [30, 33] },
    later: { dtype: 'I4_PACKED', shape: [9], data_offsets: [33, 38] },
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  const data = Buffer.from(Array.from({ length: 38 }, (_, i) => 200 - i))
  data.writeBigInt64LE(2n ** 40n, 0)
  data.writeBigUInt64LE(2n ** 64n - 1n, 8)
  writeFileSync(at('types.safetensors'), Buffer.concat([length, json, data]))
  await convert([at('types.safetensors'), at('copied.safetensors')])
  using before = new SafetensorsFile(at('types.safetensors'))
  using after = new SafetensorsFile(at('copied.safetensors'))
  assert.is(after.header.tensors.size, 7)
  for (const [name, { dtype, shape }] of before.header.tensors) {
    const copy = after.header.tensors.get(name)!
    assert.equal([copy.dtype, copy.shape, after.bytes(name)], [dtype, shape, before.bytes(name)], name)
  }
  assert.throws(
    () => after.read('later'),
    /tensor 'later': expected elements that f32, f64 or i32 can hold, got 'I4_PACKED'/,
  )
  await convert([at('types.safetensors'), at('f32.safetensors'), '--dtype', 'f32']).then(
    () => assert.unreachable('F4 is not read'),
    (error: Error) => assert.match(error.message, /tensor 'f4': expected elements that .*, got 'F4'/),
  )
  const said = await succeed('demask', ['info', at('types.safetensors'), '--tensors'])
  for (const line of ['I64 [1] wide', 'F8_E4M3 [2, 2] f8', 'I4_PACKED [9] later', 'C64 [1] z'])
    assert.ok(said.includes(line), line)
  const short = { dtype: 'I4_PACKED', shape: [9], size: 5, bytes: () => new Uint8Array(4) }
  await refused(
    writeSafetensors(at('short.safetensors'), new Map([['w', short]])),
    /tensor 'w': expected 5 bytes, got 4$/,
  )
  assert.throws(
    () => encodeElements('F8_E4M3', [1], 'w'),
    /^w: expected a type that numbers are stored as, got F8_E4M3$/,
  )
  await convert([fixture('types-convert.pt'), at('wide.safetensors')])
  using wide = new SafetensorsFile(at('wide.safetensors'))
  const big = new BigInt64Array(wide.bytes('I64').slice().buffer)
  assert.equal([...big], [2n ** 40n, -(2n ** 40n), 2n ** 62n])
  assert.is(wide.header.tensors.get('C64')!.dtype, 'C64')
  await refused(
    convert([fixture('types.pt'), at('c128.safetensors'), '--part', 'wide']),
    /C128: expected a type that safetensors has, got C128$/,
  )
  await convert([fixture('types.pt'), at('exact.safetensors'), '--dtype', 'f32'])
  const exact = readSafetensors(at('exact.safetensors')).tensors.get('F8_E5M2')!
  const values = decodeElements(
    'F8_E5M2',
    Uint8Array.from({ length: 256 }, (_, i) => i),
    '',
  )
  assert.ok(exact.dtype === 'F32' && values.every((value, i) => Object.is(value, exact.data[i])))
  assert.ok(readFileSync(at('copied.safetensors')).length > 0)
})

test.run()
