import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import * as io from '../../io/index-node.ts'
import { constructing, type RightCall, testCalls, workInOwnFolder } from '../core/wrong-calls.ts'

const before = workInOwnFolder(test, 'io')

const tensors = () => new Map([['w', { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }]] as const)
const metadata = () => new Map([['format', 'pt']])
const bytes = () => io.encodeSafetensors(tensors())
const header = () => bytes().subarray(8, 8 + io.safetensorsHeaderLength(bytes(), bytes().length, 'file'))

const [weights, arrays] = ['w.safetensors', 'a.npz']
await io.writeSafetensors(weights, tensors())
await io.writeNpz(arrays, tensors())
const pytorch = join(before, 'tests/fixtures/pytorch/dit.pt')

type Row = readonly [args: () => readonly unknown[], accepts?: readonly string[], paths?: readonly string[]]

const functions: Record<string, Row> = {
  decodeSafetensors: [() => [bytes(), 'file'], ['1 string']],
  encodeSafetensors: [() => [tensors(), metadata()], ['1 arguments']],
  encodeSafetensorsHeader: [() => [tensors(), metadata()]],
  errorLine: [() => [new Error('damaged')], ['0 null', '0 object', '0 string', '0 number', '0 arguments']],
  lockFolder: [() => ['locked'], ['0 string']],
  openWeights: [() => [weights, { part: undefined, weights: 'ema' }], ['1.weights'], ['0 string']],
  parseSafetensorsHeader: [() => [header(), bytes().length, 'file'], ['2 string']],
  readNpz: [() => [arrays, ['w']], ['1 arguments'], ['0 string']],
  readSafetensors: [() => [weights], [], ['0 string']],
  reason: [() => [new Error('damaged')], ['0 null', '0 object', '0 string', '0 number', '0 arguments']],
  replaceFile: [() => ['text', 'content'], ['0 string', '1 string']],
  safetensorsHeaderLength: [() => [bytes(), bytes().length, 'file'], ['2 string']],
  sha256Of: [() => [weights], [], ['0 string']],
  storable: [() => [tensors()]],
  writeAside: [() => ['aside', (path: string) => io.replaceFile(path, 'content')], ['0 string']],
  writeNpz: [() => ['other.npz', tensors()], ['0 string']],
  writeSafetensors: [() => ['other.safetensors', tensors(), metadata()], ['0 string', '2 arguments']],
}

const { NpzFile, PyTorchFile, SafetensorsFile, ZipFile } = io
const opening = (type: { open(path: string): Promise<{ close(): void }> }) => async (path: string) =>
  (await type.open(path)).close()

/** Constructors, and functions of classes that open a file. */
const classes: Record<string, RightCall> = {
  'NpzFile.open': { call: opening(NpzFile), args: () => [arrays], paths: ['0 string'] },
  'PyTorchFile.open': { call: opening(PyTorchFile), args: () => [pytorch], paths: ['0 string'] },
  SafetensorsFile: {
    call: constructing(SafetensorsFile as unknown as RightCall['call']),
    args: () => [weights],
    paths: ['0 string'],
  },
  'ZipFile.open': { call: opening(ZipFile), args: () => [arrays], paths: ['0 string'] },
}

const named = io as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(test, {
  ...Object.fromEntries(
    Object.entries(functions).map(([name, [args, accepts, paths]]) => [
      name,
      { call: named[name], args, accepts, paths },
    ]),
  ),
  ...classes,
})

test('every public function and class has a right call', () => {
  const isError = (value: unknown) => (value as { prototype?: unknown }).prototype instanceof Error
  const missing = Object.entries(io)
    .filter(([, value]) => typeof value === 'function' && !isError(value))
    .map(([name]) => name)
    .filter(name => !(name in functions || name in classes || `${name}.open` in classes))
  assert.equal(missing, [])
})

test('an ArrayBuffer, as fetch returns one, is refused', () => {
  const { buffer } = bytes()
  assert.throws(
    () => io.decodeSafetensors(buffer as unknown as Uint8Array),
    /^decodeSafetensors: expected bytes to be a Uint8Array, got an instance of ArrayBuffer$/,
  )
})

test.run()
