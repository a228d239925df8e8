/** PyTorch's checkpoints: what torch.save wrote is read, and nothing that a file says is run or believed. */

import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite, test } from 'uvu'
import * as assert from 'uvu/assert'
import { Inert, PickleError, unpickle } from '../../io/pytorch/pickle.ts'
import { rebuilder } from '../../io/pytorch/rebuild.ts'
import { chooseStateDict, stateDicts, unwrapped } from '../../io/pytorch/state-dicts.ts'
import { StoredTensor } from '../../io/pytorch/stored-tensor.ts'
import { PyTorchFile } from '../../io/pytorch-node.ts'
import { SafetensorsError } from '../../io/safetensors.ts'
import { readSafetensors } from '../../io/safetensors-node.ts'
import { ZipError } from '../../io/zip-node.ts'
import { root } from '../repo/markdown.ts'
import { zipOf } from './zip.ts'

const fixture = (name: string) => join(root, 'tests/fixtures/pytorch', name)
const folder = mkdtempSync(join(tmpdir(), 'demask-pytorch-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

async function message(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => assert.unreachable('accepted'),
    (error: Error) => error,
  )
  assert.ok(
    error instanceof PickleError || error instanceof ZipError || error instanceof SafetensorsError,
    String(error),
  )
  assert.not.match((error as Error).message, /\n/)
  return (error as Error).message
}

test('what a training program saved: weights, their average, the optimizer, its settings', async () => {
  using file = await PyTorchFile.open(fixture('training.pt'))
  const saved = file.root as Map<string, unknown>
  assert.is(saved.get('train_steps'), 400_000)
  assert.is(saved.get('best'), 2.25)
  assert.is(saved.get('seen'), 2 ** 40)
  assert.is(saved.get('big'), 2n ** 70n)
  assert.is(saved.get('less'), -(2 ** 33))
  assert.equal(saved.get('kinds'), new Set([1, 2]))
  assert.equal(saved.get('raw'), Uint8Array.of(0, 255))
  assert.equal(saved.get('size'), [2, 3])
  const args = saved.get('args')
  assert.instance(args, Inert)
  assert.is((args as Inert).type, 'argparse.Namespace')
  const settings = (args as Inert).state as Map<string, unknown>
  assert.equal(settings.get('betas'), [0.9, 0.999])
  assert.is(settings.get('ckpt'), null)
  const groups = (saved.get('opt') as Map<string, unknown>).get('param_groups') as Map<string, unknown>[]
  assert.is(groups[0].get('lr'), 1e-3)

  assert.equal(
    [...file.stateDicts.keys()],
    ['model', 'ema', 'opt.state.0', 'opt.state.1', 'opt.state.2', 'opt.state.3'],
  )
  assert.is(chooseStateDict(file.stateDicts, {}, 'f'), 'ema')
  assert.is(chooseStateDict(file.stateDicts, { part: 'opt.state.1' }, 'f'), 'opt.state.1')
  const ema = readSafetensors(fixture('training-ema.safetensors')).tensors
  const model = unwrapped(file.stateDicts.get('model')!) // module._orig_mod.0.weight, …
  assert.equal([...model.keys()], ['0.weight', '0.bias', '2.weight', '2.bias'])
  for (const [name, tensor] of file.stateDicts.get('ema')!) {
    assert.equal(file.read(tensor, name), ema.get(name))
    const { data, shape } = file.read(model.get(name)!, name)
    assert.equal({ shape, half: data.map(x => x / 2) }, { shape: ema.get(name)!.shape, half: ema.get(name)!.data })
  }
})

test('every type, and every way of being a view of a storage', async () => {
  using file = await PyTorchFile.open(fixture('views.pt'))
  const wanted = readSafetensors(fixture('views.safetensors')).tensors
  const views = file.stateDicts.get('')!
  assert.is(views.size, 22)
  for (const [name, tensor] of views) assert.equal(file.read(tensor, name), wanted.get(name), name)
  assert.is(views.get('rows')!.storage, views.get('transposed')!.storage)
})

test('protocols 2 to 5, and bytes of a machine that has them the other way round', async () => {
  for (const name of ['protocol-2.pt', 'protocol-3.pt', 'protocol-4.pt', 'protocol-5.pt', 'big-endian.pt']) {
    using file = await PyTorchFile.open(fixture(name))
    const state = file.stateDicts.get('state_dict')!
    assert.equal([...state.keys()], ['w', 'ü'.repeat(200)])
    const { shape, data } = file.read(state.get('w')!, 'w')
    assert.equal(shape, [2, 3])
    assert.equal(data, Float32Array.of(-3, -2.875, -2.75, -2.625, -2.5, -2.375), name)
    assert.is((file.root as Map<string, unknown>).get('long'), 2n ** 70n)
    assert.equal((file.root as Map<string, unknown>).get('note'), new Uint8Array(300).fill(120))
  }
})

test('what is not read is refused by name, and nothing is run', async () => {
  const said = (name: string) => message(PyTorchFile.open(fixture(name)))
  assert.match(
    await said('runs-code.pt'),
    /runs-code\.pt: it asks for 'posix\.system', which runs commands or code: expected tensors and data beside them$/,
  )
  assert.not(existsSync('was-run'))
  assert.match(await said('pickle.pt'), /expected a checkpoint of PyTorch, got a pickle of another program/)
  assert.match(await said('make.py'), /expected a checkpoint of PyTorch, got another file/)
  assert.match(await said('script.pt'), /got a TorchScript program/)
  using unusual = await PyTorchFile.open(fixture('unusual.pt'))
  assert.throws(
    () => chooseStateDict(unusual.stateDicts, {}, 'unusual.pt'),
    "unusual.pt: expected a state dict with a usual name, got 'state' (1), 'other' (1), 'opt' (1)",
  )
  assert.throws(
    () => chooseStateDict(unusual.stateDicts, { part: 'ema' }, 'unusual.pt'),
    /expected a state dict 'ema', got 'state'/,
  )
  assert.throws(() => chooseStateDict(new Map(), {}, 'f'), /got none/)
})

/** A checkpoint with this pickle and these storages. */
function checkpoint(pickle: Uint8Array, storages: Readonly<Record<string, Uint8Array>> = {}, at = 0): Buffer {
  const data = Object.entries(storages).map(([key, bytes]) => ({ name: `a/data/${key}`, data: bytes }))
  return zipOf([{ name: 'a/data.pkl', data: pickle }, ...data], { at })
}

const ops = (...parts: (string | readonly number[])[]) =>
  Buffer.concat([...parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part)))])
/** Opcodes that push text, numbers and tuples. */
const text = (value: string) => ops('X', uint32(value.length), value)
const uint32 = (n: number) => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24]
const int = (n: number) => ops('J', uint32(n))
const tuple = (...items: Buffer[]) => ops('(', ...items.map(item => item.toString('latin1')), 't')
/** A tensor of storage '0' with `length` elements of f32. */
const tensor = (length: number, offset: number, shape: number[], strides: number[]) => {
  const storage = ops(
    tuple(text('storage'), ops('ctorch\nFloatStorage\n'), text('0'), text('cpu'), int(length)).toString('latin1'),
    'Q',
  )
  const args = tuple(storage, int(offset), tuple(...shape.map(int)), tuple(...strides.map(int)), ops('\x89'), ops('N'))
  return ops('ctorch._utils\n_rebuild_tensor_v2\n', args.toString('latin1'), 'R')
}
const dict = (name: string, value: Buffer) =>
  ops('\x80\x02}', text(name).toString('latin1'), value.toString('latin1'), 's.')

async function opened(bytes: Uint8Array): Promise<PyTorchFile> {
  const path = join(folder, 'made.pt')
  writeFileSync(path, bytes)
  return await PyTorchFile.open(path)
}

test('a tensor past 4 GiB in a sparse file is read at its offset', async () => {
  const path = join(folder, 'large.pt')
  const at = 5 * 2 ** 30
  const floats = new Uint8Array(Float32Array.of(0.5, -8).buffer)
  const descriptor = openSync(path, 'w')
  try {
    writeSync(descriptor, 'PK\x03\x04')
    writeSync(descriptor, checkpoint(dict('w', tensor(2, 0, [2], [1])), { 0: floats }, at), 0, undefined, at)
  } catch (error) {
    console.log(`skipped: no sparse file of 5 GiB in ${folder} (${(error as Error).message})`)
    return
  } finally {
    closeSync(descriptor)
  }
  using file = await PyTorchFile.open(path)
  const w = file.stateDicts.get('')!.get('w')!
  assert.equal(file.read(w, 'w'), { dtype: 'F32', shape: [2], data: Float32Array.of(0.5, -8) })
  rmSync(path)
})

const hostile = suite('hostile files')

/** A container that says its directory's end is there. */
function endAt(bytes: Buffer, position: number): Buffer {
  bytes.writeBigUInt64LE(BigInt(position), bytes.lastIndexOf('PK\x06\x07') + 8)
  return bytes
}

hostile('containers that contradict themselves', async () => {
  const good = { name: 'a/data.pkl', data: dict('w', int(1)) }
  const refused: [string, Buffer, RegExp][] = [
    [
      'a checksum',
      zipOf([{ ...good, claims: { crc: 1 } }]),
      /a\/data\.pkl: expected checksum 00000001, got \w+: it is damaged/,
    ],
    ['overlap', zipOf([good, { name: 'a/b', data: new Uint8Array(9), claims: { offset: 0 } }]), /overlap/],
    ['one name twice', zipOf([good, good]), /a\/data\.pkl: two entries have it/],
    ['a way out', zipOf([{ ...good, name: '../../a/data.pkl' }]), /invalid relative path/],
    ['an absolute way', zipOf([{ ...good, name: '/etc/data.pkl' }]), /absolute path/],
    ['a name of two lines', zipOf([{ ...good, name: '/a\nb' }]), /absolute path: \/a\\nb/],
    ['a cipher', zipOf([{ ...good, claims: { flags: 1, size: good.data.length - 12 } }]), /it is encrypted/],
    ['another compression', zipOf([{ ...good, claims: { method: 12 } }]), /expected compression 0 or 8, got 12/],
    ['compression', zipOf([{ ...good, claims: { method: 8 } }]), /expected an entry without compression/],
    [
      'a huge size',
      zipOf([{ ...good, claims: { stored: 2 ** 50, size: 2 ** 50 } }]),
      /it claims 1125899906842624 bytes/,
    ],
    ['a bomb', zipOf([{ ...good, claims: { method: 8, size: 2 ** 40 } }]), /it claims 1099511627776 bytes of/],
    ['a place outside', zipOf([{ ...good, claims: { offset: 2 ** 40 } }]), /damaged/],
    [
      'an end that is nowhere',
      endAt(zipOf([good]), 2 ** 63),
      /it leads to 56 bytes at 9223372036854776000, outside of/,
    ],
    ['more entries', zipOf([good], { entries: 2 ** 40 }), /damaged/],
    ['no pickle', zipOf([{ ...good, name: 'a/b.pkl' }]), /got a ZIP with 0 data\.pkl/],
    ['two pickles', zipOf([good, { ...good, name: 'b/data.pkl' }]), /got a ZIP with 2 data\.pkl/],
    [
      'no order of bytes',
      zipOf([good, { name: 'a/byteorder', data: Buffer.from('upside') }]),
      /expected little or big, got 'upside'/,
    ],
  ]
  for (const [what, bytes, wanted] of refused) assert.match(`${what}: ${await message(opened(bytes))}`, wanted)
})

hostile('a file that is cut short anywhere', async () => {
  const bytes = readFileSync(fixture('training.pt'))
  for (let length = 0; length < bytes.length; length += 61)
    assert.match(await message(opened(bytes.subarray(0, length))), /made\.pt: expected a/)
})

hostile('storages that are missing, too short or too small for their tensors', async () => {
  const four = new Uint8Array(16)
  const read = async (bytes: Buffer) => {
    using file = await opened(bytes)
    const state = file.stateDicts.get('')!
    return file.read(state.get('w')!, 'w')
  }
  assert.equal((await read(checkpoint(dict('w', tensor(4, 1, [3], [1])), { 0: four }))).shape, [3])
  const refused: [Buffer, RegExp][] = [
    [checkpoint(dict('w', tensor(4, 0, [4], [1]))), /tensor 'w': expected storage '0', got none/],
    [checkpoint(dict('w', tensor(4, 0, [4], [1])), { 0: four.subarray(1) }), /expected a storage of 16 bytes, got 15/],
    [checkpoint(dict('w', tensor(2 ** 30, 0, [2 ** 30], [1])), { 0: four }), /of 4294967296 bytes, got 16/],
    [checkpoint(dict('w', tensor(4, 2, [3], [1]))), /expected elements below 4, got \[3\] from 2 with strides \[1\]/],
    [checkpoint(dict('w', tensor(4, 0, [2, 2], [3, 1]))), /expected elements below 4/],
    [checkpoint(dict('w', tensor(4, -1, [1], [1]))), /counts from 0/],
    [checkpoint(dict('w', tensor(4, 0, [2], [-1]))), /counts from 0/],
    [checkpoint(dict('w', tensor(4, 0, [2], [1, 1]))), /as many strides/],
    [checkpoint(dict('w', tensor(4, 0, [2 ** 30, 2 ** 30], [0, 0]))), /expected at most 1048576 elements/],
    [
      checkpoint(dict('w', tensor(4, 0, [...Array(63).fill(2 ** 30), 0], Array(64).fill(0)))),
      /expected at most 1048576/,
    ],
    [checkpoint(dict('w', tensor(4, 0, Array(65).fill(1), Array(65).fill(0)))), /at most 64 sizes/],
  ]
  for (const [bytes, wanted] of refused) assert.match(await message(read(bytes)), wanted)
})

const pickled = (...parts: (string | readonly number[])[]) => unpickle(ops('\x80\x02', ...parts), rebuilder('f'), 'f')

hostile('pickles that lead the machine astray', () => {
  const refused: [string, () => unknown, RegExp][] = [
    ['nothing', () => unpickle(new Uint8Array(0), rebuilder('f'), 'f'), /expected a pickle of protocol 2 to 5/],
    ['protocol 0', () => unpickle(ops('(dp0\n.'), rebuilder('f'), 'f'), /expected a pickle of protocol 2 to 5/],
    ['no end', () => pickled('N'), /byte 3: expected 1 bytes, got 0: it is cut short/],
    ['an empty stack', () => pickled('.'), /expected a value on the stack, got none/],
    ['a value below a mark', () => pickled('N(.'), /expected a value on the stack, got none/],
    ['no mark', () => pickled('t.'), /expected a mark on the stack/],
    ['an opcode of a registry', () => pickled('\x82\x01.'), /expected an opcode of protocols 2 to 5, got '\x82'/],
    ['an old opcode', () => pickled('I1\n.'), /got 'I'/],
    ['a memo that is empty', () => pickled('h\x07.'), /expected what was remembered as 7, got nothing/],
    ['text past the end', () => pickled('X', uint32(2 ** 32 - 1), '.'), /expected 4294967295 bytes, got 1/],
    ['bytes past the end', () => pickled('\x8e', uint32(0), uint32(2 ** 20), '.'), /expected 4503599627370496 bytes/],
    ['text that is none', () => pickled('X', uint32(1), '\xff.'), /expected text in UTF-8/],
    ['a name without an end', () => pickled(`c${'x'.repeat(2000)}`), /expected a name on a line/],
    ['an integer of 1 MB', () => pickled('\x8b', uint32(2 ** 20), '.'), /expected an integer of at most 255 bytes/],
    ['a key without a value', () => pickled('}(Nu.'), /got a key without/],
    ['a list that is none', () => pickled('NNa.'), /expected a list to append to/],
    ['a dict that is none', () => pickled('NNNs.'), /expected a dict to set an item of/],
    ['a call of a number', () => pickled('K\x01)R.'), /it calls what is not a name/],
    ['a call without a tuple', () => pickled('ctorch\nSize\nNR.'), /expected arguments as a tuple/],
    ['a state of a number', () => pickled('K\x01Nb.'), /it gives a state to what has none/],
    [
      'named arguments that are none',
      () => pickled('cargparse\nNamespace\n)N\x92.'),
      /expected named arguments as a dict/,
    ],
    ['an id that is none', () => pickled('NQ.'), /expected a storage of the file, got another id/],
    ['a name by two numbers', () => pickled('K\x01K\x02\x93.'), /expected a name as two strings/],
    ['eval', () => pickled('cbuiltins\neval\n.'), /it asks for 'builtins\.eval'/],
  ]
  for (const [what, read, wanted] of refused)
    assert.throws(read, (error: Error) => error instanceof PickleError && wanted.test(error.message), what)
})

hostile('pickles that would take all memory or all day', () => {
  const million = 2 ** 20
  // A list in a list in a list: no recursion, so it is read, or has too many objects.
  let value = pickled(']'.repeat(100_000), 'a'.repeat(99_999), '.')
  let depth = 0
  for (; Array.isArray(value); value = value[0]) depth++
  assert.is(depth, 100_000)
  assert.is(stateDicts(pickled('}K\x01'.repeat(50_000), '}', 's'.repeat(50_000), '.')).size, 0)
  assert.throws(() => pickled('}'.repeat(million + 1), '.'), /expected at most 1048576 lists, dicts and calls/)
  assert.throws(() => pickled('N', '\x94'.repeat(million + 1), '.'), /expected at most 1048576 values to remember/)
  const long = 2 ** 28 + 1
  assert.throws(
    () => unpickle(new Uint8Array(long), rebuilder('f'), 'f'),
    /expected a pickle of at most 268435456 bytes/,
  )
  assert.throws(() => pickled('N0'.repeat(2 ** 23), 'N.'), /expected at most 16777216 instructions, got more/)
  // Ten lists, each ten times the one before: it is the same lists, so it is small.
  const laughs = `]q\x00${Array.from({ length: 30 }, (_, i) => `](${`h${String.fromCharCode(i)}`.repeat(10)}eq${String.fromCharCode(i + 1)}`).join('')}.`
  assert.is((pickled(laughs) as unknown[]).length, 10)
  // A dict of a million pairs, made again and again.
  const many = ops('](', ...Array.from({ length: 100_000 }, () => 'N'), 'eq\x00')
  const again = 'cbuiltins\nset\nq\x010'.concat('h\x01h\x00\x85R0'.repeat(1000))
  assert.throws(() => pickled(many.toString('latin1'), again, 'N.'), /expected at most 16777216 steps of calls/)
  const cyclic = pickled('}q\x00', 'K\x01h\x00s.') as Map<unknown, unknown>
  assert.is(cyclic.get(1), cyclic)
  assert.is(stateDicts(cyclic).size, 0)
})

const damage = fc.array(
  fc.record({
    at: fc.nat(),
    byte: fc.nat(255),
    cut: fc.constantFrom(0, 0, 0, 1, 5),
    more: fc.constantFrom(0, 0, 0, 1, 4),
  }),
  { minLength: 1, maxLength: 4 },
)
type Damage = { at: number; byte: number; cut: number; more: number }[]
function damaged(original: Uint8Array, changes: Damage): Uint8Array {
  const bytes = Array.from(original)
  for (const { at, byte, cut, more } of changes) {
    const i = at % bytes.length
    if (cut + more === 0) bytes[i] = byte
    else bytes.splice(i, cut, ...Array<number>(more).fill(byte))
  }
  return Uint8Array.from(bytes)
}

hostile('whatever is done to a pickle, it is read or refused in one line', () => {
  const originals = ['protocol-2.pt', 'protocol-5.pt', 'training.pt'].map(name => {
    const bytes = readFileSync(fixture(name))
    const start = bytes.indexOf(Buffer.from([0x80, 0x02]))
    const at = start >= 0 && start < 100 ? start : bytes.indexOf(Buffer.from([0x80, 0x05]))
    return bytes.subarray(at, bytes.indexOf('PK', at))
  })
  let refused = 0
  fc.assert(
    fc.property(fc.nat(originals.length - 1), damage, (which, changes) => {
      try {
        const dicts = stateDicts(unpickle(damaged(originals[which], changes), rebuilder('f'), 'f'))
        for (const state of dicts.values()) for (const each of state.values()) assert.instance(each, StoredTensor)
      } catch (error) {
        refused++
        assert.ok(error instanceof PickleError, String((error as Error).stack))
        assert.not.match((error as Error).message, /\n/)
      }
    }),
    { numRuns: 2000 },
  )
  assert.ok(refused > 200, `${refused}`)
})

hostile('whatever is done to a file, it is read or refused in one line', async () => {
  const original = readFileSync(fixture('training.pt'))
  let refused = 0
  await fc.assert(
    fc.asyncProperty(damage, async changes => {
      const bytes = damaged(original, changes)
      try {
        using file = await opened(bytes)
        for (const state of file.stateDicts.values())
          for (const [name, each] of state) assert.ok(file.read(each, name).data.byteLength <= 4 * bytes.length)
      } catch (error) {
        refused++
        assert.ok(
          [PickleError, ZipError, SafetensorsError].some(kind => error instanceof kind),
          String(error),
        )
        assert.not.match((error as Error).message, /\n/)
      }
    }),
    { numRuns: 300 },
  )
  assert.ok(refused > 100, `${refused}`)
})

test.run()
hostile.run()
