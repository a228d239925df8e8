/**
 * Checkpoints as other programs leave them (fixtures of make-wild.py): objects of any class beside the weights, the older
 * format, whole modules, wrappers, averages, types and bits that tensors here do not have.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Inert, PickleError, unpickle } from '../../io/pytorch/pickle.ts'
import { rebuilder } from '../../io/pytorch/rebuild.ts'
import { chooseStateDict, stateDicts, unwrapped } from '../../io/pytorch/state-dicts.ts'
import { StoredTensor } from '../../io/pytorch/stored-tensor.ts'
import { PyTorchFile } from '../../io/pytorch-node.ts'
import { openWeights } from '../../io/weights-node.ts'
import { root } from '../repo/markdown.ts'

const fixture = (name: string) => join(root, 'tests/fixtures/pytorch', name)
const folder = mkdtempSync(join(tmpdir(), 'demask-wild-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

type Values = Readonly<
  Record<string, { readonly shape: readonly number[]; readonly values: readonly (number | string)[] }>
>
const wanted: Readonly<Record<'types' | 'older' | 'module', Values>> = JSON.parse(
  readFileSync(fixture('wild.json'), 'utf8'),
)

/** Asserts that a state has what PyTorch reads of it; NaN and infinities are text in JSON. */
function assertValues(
  state: ReadonlyMap<string, { shape: readonly number[]; data: ArrayLike<number> }>,
  values: Values,
) {
  assert.equal([...state.keys()].sort(), Object.keys(values).sort())
  for (const [name, { shape, values: numbers }] of Object.entries(values)) {
    const got = state.get(name)!
    assert.equal(got.shape, shape, name)
    const read = { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY }
    const exact = numbers.map(x => (typeof x === 'number' ? x : read[x as keyof typeof read]))
    assert.ok(
      exact.length === got.data.length && exact.every((x, i) => Object.is(x, got.data[i])),
      `${name}: ${Array.from(got.data)}`,
    )
  }
}

const w = Float32Array.of(-3, -2.875, -2.75, -2.625, -2.5, -2.375)

test('objects of any class beside the weights are kept as data, and nothing of them is run', async () => {
  for (const name of ['objects-2.pt', 'objects-4.pt', 'objects-5.pt', 'objects-legacy.pt']) {
    using file = await openWeights(fixture(name))
    assert.is(file.part, 'model', name)
    assert.equal(file.state.get('w')!.data, w, name)
    assert.equal(file.state.get('b')!.data, Float32Array.of(-3, -2.875, -2.75), name)
    using saved = await PyTorchFile.open(fixture(name))
    const all = saved.root as Map<string, unknown>
    assert.equal(
      (all.get('scheduler') as Map<string, unknown>).get('milestones'),
      new Map([
        [2, 2],
        [5, 1],
      ]),
      name,
    )
    assert.equal(
      all.get('counter'),
      new Map([
        ['a', 2],
        ['b', 1],
      ]),
    )
    assert.equal(all.get('default'), new Map([['loss', [1]]]))
    assert.equal(all.get('bytearray'), Uint8Array.of(0, 255), name)
    assert.equal(all.get('frozen'), new Set([1, 2]))
    assert.is(all.get('scalar'), 1.5)
    assert.is(all.get('uint16'), 65535)
    assert.is(all.get('epoch'), 7)
    const type = (key: string) => (all.get(key) as Inert).type
    assert.is(type('complex').replace('__builtin__', 'builtins'), 'builtins.complex')
    assert.is(type('when'), 'datetime.datetime')
    assert.match(type('npcomplex'), /^numpy\._core\.multiarray\.scalar$/)
    assert.equal((all.get('subclass') as Inert).items, new Map([['lr', 0.1]]))
    assert.equal((all.get('log') as Inert).list, [1, 2])
    const meter = all.get('meter') as Inert
    assert.is((meter.state as Map<string, unknown>).get('me'), meter)
    assert.ok([...all.values()].filter(value => value instanceof Inert).length > 15)
  }
})

test('types and bits that tensors here do not have', async () => {
  using file = await openWeights(fixture('types.pt'))
  assertValues(file.state, wanted.types)
  assert.equal(file.state.get('imaginary')!.data, Float32Array.of(-1, -1.125, -1.25))
  using wide = await openWeights(fixture('types.pt'), { part: 'wide' })
  const said = (name: string) => {
    try {
      wide.state.get(name)!.data
    } catch (error) {
      return (error as Error).message.replace(/^.*types\.pt: /, '')
    }
    return 'read'
  }
  assert.is(said('I64'), "tensor 'I64': element 0: expected an I64 in the range of i32, got 1099511627776")
  assert.is(said('U32'), "tensor 'U32': element 0: expected an U32 in the range of i32, got 4294967295")
  assert.is(said('U64'), "tensor 'U64': element 0: expected an U64 in the range of i32, got 18446744073709551615")
  assert.is(said('C64'), "tensor 'C64': expected elements that f32, f64 or i32 can hold, got 'C64'")
  assert.is(said('C128'), "tensor 'C128': expected elements that f32, f64 or i32 can hold, got 'C128'")
  assert.match(said('conjugate'), /got one with the conjugate bit; in Python, save t\.resolve_conj\(\)$/)
  assert.equal(
    new Float32Array(wide.state.get('C64')!.bytes().slice().buffer).slice(0, 4),
    Float32Array.of(-3, 1, -2.75, 1.25),
  )
})

test('a tensor of an unknown type is listed, and refused when it is read', async () => {
  const bytes = readFileSync(fixture('protocol-2.pt'))
  const at = bytes.indexOf('FloatStorage')
  const path = join(folder, 'odd.pt')
  // The pickle lies uncompressed in the ZIP: a changed one needs its checksum, so it is read by itself.
  const pickle = bytes.subarray(bytes.indexOf(Buffer.from([0x80, 0x02, 0x7d])), bytes.indexOf('PK', at))
  const odd = Buffer.from(pickle.toString('latin1').replace('FloatStorage', 'QIntsStorage'), 'latin1')
  const state = stateDicts(unpickle(odd, rebuilder(path), path)).get('state_dict')!
  const tensor = state.get('w')!
  assert.equal([tensor.dtype, tensor.shape], ['torch.QIntsStorage', [2, 3]])
  assert.throws(
    () => tensor.checkReadable(path),
    /odd\.pt: expected a type of elements that is known here, got 'torch\.QIntsStorage'$/,
  )
})

test('the older format: views of shared storages, whole modules, files that are cut short', async () => {
  using file = await openWeights(fixture('legacy-views.pt'))
  assertValues(file.state, wanted.older)
  using small = await openWeights(fixture('legacy.pt'))
  assert.equal(small.state.get('w')!.data, w)
  const bytes = readFileSync(fixture('legacy-views.pt'))
  const path = join(folder, 'cut.pt')
  for (let length = 14; length < bytes.length; length += 7) {
    writeFileSync(path, bytes.subarray(0, length))
    const error = await PyTorchFile.open(path).then(
      () => assert.unreachable(`${length} bytes`),
      (error: Error) => error,
    )
    assert.instance(error, PickleError, `${length}: ${error}`)
    assert.match(`${length}: ${(error as Error).message}`, /cut\.pt: [^\n]*(cut short|got its beginning)$/)
  }
  // A count of elements that is not the pickle's.
  const at = bytes.length - 8 - 3 * 2 // storages are in no order: any count will do
  const changed = Buffer.from(bytes)
  for (let i = 0; i < changed.length - 8; i++)
    if (changed.readBigUInt64LE(i) === 24n && i > at - 400) changed.writeBigUInt64LE(25n, i)
  writeFileSync(path, changed)
  const error = await PyTorchFile.open(path).then(
    () => null,
    (error: Error) => error.message,
  )
  assert.match(String(error), /cut\.pt: storage '\d+': expected 24 elements, got 25$/)
})

test('a model that was saved whole has the names of its state dict', async () => {
  for (const name of ['module.pt', 'legacy-module.pt']) {
    using file = await openWeights(fixture(name))
    assertValues(file.state, wanted.module)
  }
  // A module inside itself ends, and one that is shared a million times too.
  const cyclic = new Inert('m', [])
  cyclic.state = new Map<string, unknown>([
    ['_parameters', new Map()],
    [
      '_modules',
      new Map([
        ['a', cyclic],
        ['b', cyclic],
      ]),
    ],
  ])
  assert.is(stateDicts(cyclic).size, 0)
})

test('tensors of a class of their own are the tensors that they hold', async () => {
  using file = await openWeights(fixture('subclass.pt'))
  assert.equal(file.state.get('w')!.data, w.subarray(0, 3))
  assert.equal(file.state.get('p')!.data, w.subarray(0, 2))
})

const one = (...shape: number[]) =>
  StoredTensor.checked(
    'F32',
    { key: '0', dtype: 'F32', length: 1000 },
    { offset: 0, shape, strides: shape.map(() => 0), negative: false, conjugate: false },
    'f',
  )
const dicts = (sets: Readonly<Record<string, readonly number[][]>>) =>
  new Map(Object.entries(sets).map(([name, shapes]) => [name, new Map(shapes.map((s, i) => [`t${i}`, one(...s)]))]))

test('the dict that holds weights is chosen, not one that holds counters', async () => {
  const chosen = (sets: Parameters<typeof dicts>[0], weights?: string) => chooseStateDict(dicts(sets), { weights }, 'f')
  const net = [[100], [10, 20]]
  assert.is(chosen({ ema: [[]], model: net }), 'model')
  assert.is(chosen({ ema: [[1]], model: net }, 'ema'), 'model')
  assert.is(chosen({ ema: net, model: net }), 'ema')
  assert.is(chosen({ ema: net, model: net }, 'model'), 'model')
  assert.is(chosen({ ema: net, state_dict: net }, 'model'), 'state_dict')
  assert.is(chosen({ 'ema.shadow': net, model: net }), 'ema.shadow')
  assert.is(chosen({ 'ema.ema_model': net, 'ema.online_model': net, model: net }), 'ema.ema_model')
  assert.is(chosen({ ema: [[]], 'ema.module': net }), 'ema.module')
  assert.is(chosen({ '': net }), '')
  assert.is(chosen({ '': [[], [1]], generator: net }), 'generator')
  assert.is(chosen({ 'optimizer.state.0': net, backbone: net }), 'backbone')
  assert.is(
    chosen({ optimizer_states: net, 'lr_schedulers.0': net, 'callbacks.EMA.weights': net }),
    'callbacks.EMA.weights',
  )
  assert.throws(() => chosen({ a: net, b: net }), /expected a state dict with a usual name, got 'a' \(2\), 'b' \(2\)/)
  using file = await openWeights(fixture('shadow.pt'))
  assert.is(file.part, 'ema.shadow')
  assert.equal(file.state.get('w')!.data, w)
  using plain = await openWeights(fixture('shadow.pt'), { weights: 'model' })
  assert.equal([plain.part, plain.state.get('w')!.data[0]], ['model', -6])
})

test('wrappers are left out wherever they stand in a name', () => {
  const names = (...given: string[]) => [...unwrapped(new Map(given.map(name => [name, 0]))).keys()]
  assert.equal(names('module.a.weight', 'module.b'), ['a.weight', 'b'])
  assert.equal(names('module._orig_mod.a', 'module._orig_mod.b.c'), ['a', 'b.c'])
  assert.equal(names('blocks.0._orig_mod.attn.qkv.weight', 'x.bias'), ['blocks.0.attn.qkv.weight', 'x.bias'])
  assert.equal(names('_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module.w'), ['blocks.0.w'])
  assert.equal(names('n_averaged', 'module.a', 'module.module.b'), ['a', 'b'])
  assert.equal(names('n_averaged', 'a'), ['n_averaged', 'a'])
  assert.equal(names('a.module', 'b._orig_mod'), ['a.module', 'b._orig_mod']) // a tensor's own name is no wrapper
  assert.equal(names('module.a', 'a'), ['module.a', 'a']) // two would become one
})

const ops = (text: string) => unpickle(Buffer.from(`\x80\x02${text}`, 'latin1'), rebuilder('f'), 'f')

test('odd uses of known and unknown names end in data or one line', () => {
  const inert = (text: string) => assert.instance(ops(text), Inert, text)
  inert('cbuiltins\ngetattr\n)R)R.') // the result of what is not called, called
  inert('ctorch\nfloat32\n)R.')
  inert('c__proto__\nconstructor\n)R.')
  inert('ctorch.storage\n_load_from_bytes\n)R.')
  inert('ctorch._tensor\n_rebuild_from_type_v2\n(NNNNtR.')
  inert('cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02O8tRC\x01xtR.')
  inert('c_codecs\nencode\n(U\x01aU\x05utf16tR.')
  const named = ops('ca\nb\n)}U\x01xK\x07s\x92.') as Inert
  assert.equal(named.args, [new Map([['x', 7]])])
  const filled = ops('ca\nb\n)RK\x01a(K\x02K\x03eU\x01kK\x04s(K\x05\x90}U\x01sK\x06sb.') as Inert
  assert.equal([filled.list, filled.items, filled.state], [[1, 2, 3, 5], new Map([['k', 4]]), new Map([['s', 6]])])
  for (const name of [
    'os\nsystem',
    'nt\nsystem',
    'subprocess\nPopen',
    'builtins\nexec',
    '__builtin__\neval',
    'sys\nexit',
  ])
    assert.throws(() => ops(`c${name}\n.`), /runs commands or code/)
  assert.not(existsSync('was-run'))
})

/** A file of the older format: these pickles behind the magic number, then these bytes. */
function legacy(version: string, root: string, keys: string, storages: readonly number[] = []): string {
  const magic = '\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'
  const text = [magic, ...[version, '}', root, keys].map(pickle => `\x80\x02${pickle}.`)].join('')
  const path = join(folder, 'made')
  writeFileSync(path, Buffer.concat([Buffer.from(text, 'latin1'), Buffer.from(storages)]))
  return path
}

test('files of the older format that contradict themselves', async () => {
  const storage = (type: string) => `(U\x07storagectorch\n${type}\nU\x010U\x03cpuK\x01NtQ`
  const tensor = (type: string) =>
    `}U\x01wctorch._utils\n_rebuild_tensor_v2\n(${storage(type)}K\x00K\x01\x85K\x01\x85\x89NtRs`
  const one = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f]
  const read = async (...file: Parameters<typeof legacy>) => {
    using opened = await openWeights(legacy(...file))
    return opened.state.get('w')!.data
  }
  assert.equal(await read('M\xe9\x03', tensor('FloatStorage'), ']U\x010a', one), Float32Array.of(1))
  const refused: [Parameters<typeof legacy>, RegExp][] = [
    [['K\x01', 'N', ']'], /made: expected version 1001 of the older format of PyTorch, got another$/],
    [['M\xe9\x03', 'N', 'K\x01'], /made: expected the keys of its storages, got another value$/],
    [
      ['M\xe9\x03', 'N', ']U\x010a'],
      /made: storage '0': expected a type of elements that is known here, got one that no tensor/,
    ],
    [['M\xe9\x03', tensor('OddStorage'), ']U\x010a', one], /storage '0': expected a type .*, got 'torch\.OddStorage'$/],
    [['M\xe9\x03', tensor('FloatStorage'), ']'], /made: tensor 'w': expected storage '0', got none$/],
  ]
  for (const [file, wanted] of refused) {
    const error = await read(...file).then(
      () => assert.unreachable('accepted'),
      (error: Error) => error,
    )
    assert.instance(error, PickleError)
    assert.match((error as Error).message, wanted)
  }
  assert.throws(() => ops('cbuiltins\nset\n(K\x01tR.'), /^f: expected a set of a list, got another value$/)
  assert.throws(() => ops('ccollections\nOrderedDict\n(]K\x01atR.'), /^f: expected a dict of pairs, got another value$/)
  const held = { key: '0', dtype: 'BOOL', length: 1 }
  const view = { offset: 0, shape: [1], strides: [1], negative: true, conjugate: false }
  assert.throws(
    () => StoredTensor.checked('BOOL', held, view, 'f').ordered(Uint8Array.of(1), false, 'f'),
    /^f: expected numbers with the negative bit, got BOOL$/,
  )
  const integers = StoredTensor.checked('I16', { ...held, dtype: 'I16' }, view, 'f')
  assert.equal(integers.ordered(Uint8Array.of(0, 1), false, 'f'), Uint8Array.of(0, 255)) // −256
})

test.run()
